package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	dsqlauth "github.com/aws/aws-sdk-go-v2/feature/dsql/auth"
	rdsauth "github.com/aws/aws-sdk-go-v2/feature/rds/auth"
)

// Service is the database service that a token is for.
type Service uint8

// The services.
const (
	RDS  Service = iota // RDS, Aurora and RDS Proxy
	DSQL                // Aurora DSQL
)

// String returns the service as SHOW TOKENS writes it.
func (s Service) String() string { return [...]string{"rds", "dsql"}[s] }

// dsqlAdmin is the one role of DSQL with an action of its own, DbConnectAdmin.
const dsqlAdmin = "admin"

// Token is an IAM token: what to send as the password. It prints redacted.
type Token struct {
	redacted
	v *token
}

type token struct {
	text       *string
	signed     time.Time
	expires    time.Time
	serveUntil time.Time
	generation uint64 // of the credentials that signed it
	key        string // the end of their access key ID
}

// Reveal returns the token itself, for PasswordMessage.
func (t Token) Reveal() string {
	if t.v == nil {
		return ""
	}
	return *t.v.text
}

// AccessKey returns the end of the ID of the access key that signed the token.
func (t Token) AccessKey() string {
	if t.v == nil {
		return ""
	}
	return t.v.key
}

// Signed returns when the token was made.
func (t Token) Signed() time.Time {
	if t.v == nil {
		return time.Time{}
	}
	return t.v.signed
}

// Expires returns when the server stops to accept the token for new logins: 15
// minutes after it was signed, or when the credentials that signed it expire,
// if that is earlier. Sessions go on.
func (t Token) Expires() time.Time {
	if t.v == nil {
		return time.Time{}
	}
	return t.v.expires
}

func (t Token) usable(now time.Time) bool { return t.v != nil && now.Before(t.v.serveUntil) }

// TokenKey is what is signed, and by whom. RDS compares it with its own
// endpoint name and with the user of the startup packet; the address dialled
// does not matter.
type TokenKey struct {
	Service     Service
	Host        string // the endpoint's own name, not an alias; its case does not matter
	Port        int    // RDS only: a token for DSQL has none
	Region      string
	User        string // the case matters
	Credentials CredentialKey
}

func (k TokenKey) String() string {
	if k.Service == DSQL {
		return fmt.Sprintf("%s@%s (%s)", k.User, k.Host, k.Region)
	}
	return fmt.Sprintf("%s@%s:%d (%s)", k.User, k.Host, k.Port, k.Region)
}

// Action is what an IAM policy has to allow for a token to be accepted.
func (k TokenKey) Action() string {
	switch {
	case k.Service == RDS:
		return "rds-db:connect"
	case k.User == dsqlAdmin:
		return "dsql:DbConnectAdmin"
	}
	return "dsql:DbConnect"
}

// normal is the one way to write k among those that mean the same token.
func (k TokenKey) normal() TokenKey {
	k.Host = strings.ToLower(k.Host)
	if k.Service == DSQL {
		k.Port = 0
	}
	return k
}

// check refuses what the SDK would sign although the server cannot accept it.
func (k TokenKey) check() error {
	const lower, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
	switch {
	case k.Host == "" || strings.Trim(k.Host, lower+digits+".-_") != "":
		return fmt.Errorf("iam host %q is not a host name alone", k.Host)
	case k.Service == RDS && (k.Port < 1 || k.Port > 65535):
		return fmt.Errorf("iam port %d is not between 1 and 65535", k.Port)
	case k.Port == 443:
		return errors.New("iam port 443 cannot be signed for: as the default port of https it is left out of the signature")
	case k.Region == "" || strings.Trim(k.Region, lower+digits+"-") != "":
		return fmt.Errorf("iam region %q is not the name of a region", k.Region)
	case k.User == "":
		return errors.New("iam user is empty")
	}
	return nil
}

// sign makes a token at now with c, which has been checked.
func (k TokenKey) sign(ctx context.Context, c generationCredentials, now time.Time) (Token, error) {
	fixed := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c.Credentials, nil })
	var text string
	var err error
	switch {
	case k.Service == RDS:
		text, err = rdsauth.BuildAuthToken(ctx, net.JoinHostPort(k.Host, strconv.Itoa(k.Port)), k.Region, k.User, fixed)
	case k.User == dsqlAdmin:
		text, err = dsqlauth.GenerateDBConnectAdminAuthToken(ctx, k.Host, k.Region, fixed)
	default:
		text, err = dsqlauth.GenerateDbConnectAuthToken(ctx, k.Host, k.Region, fixed)
	}
	if err != nil {
		return Token{}, err
	}
	expires := now.Add(tokenLifetime)
	if c.CanExpire && c.Expires.Before(expires) {
		expires = c.Expires
	}
	return Token{v: &token{
		text:       &text,
		signed:     now,
		expires:    expires,
		serveUntil: expires.Add(-min(servingMargin, expires.Sub(now)/10)),
		generation: c.generation,
		key:        keyEnd(c.AccessKeyID),
	}}, nil
}

// keyEnd is as much of an access key's ID as may be shown.
func keyEnd(id string) string {
	if id == "" {
		return ""
	}
	return "…" + id[max(0, len(id)-4):]
}
