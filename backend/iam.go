package backend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/config"
)

// IAM is where the tokens of a Target come from. Both functions are needed, and
// are called by the goroutine of Connect.
type IAM struct {
	Key        auth.TokenKey                                 // what is signed, for the log
	Token      func(ctx context.Context) (auth.Token, error) // a valid token; called for each attempt to log in
	Invalidate func(auth.Token)                              // the server refused this one: give out another if there is one
}

// iamPause is how long to wait, give or take a quarter, before a refused login
// is tried again: RDS refuses for a moment while it restarts or is throttled.
const iamPause = 200 * time.Millisecond

// connectIAM logs in with a token. RDS answers 28000 to everything it dislikes
// about one, whether that passes or not; so a refused token is given up, and
// the login tried once more, with a new one if there is any. It is tried once
// more too when the server says that there were too many logins.
func (t *Target) connectIAM(ctx context.Context) (*Login, error) {
	if err := t.mayCarryToken(); err != nil {
		return nil, err
	}
	token, l, err := t.connectToken(ctx)
	switch {
	case tokenRefused(err):
		t.warn("server refused an IAM token, trying once more", err)
		t.IAM.Invalidate(token)
	case Explain(err).Reason == LoginThrottled:
		t.warn("server throttles logins, trying once more", err)
	default:
		return l, err
	}
	pause := time.NewTimer(iamPause*3/4 + rand.N(iamPause/2))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	token, l, err = t.connectToken(ctx)
	if e, ok := errors.AsType[*LoginError](err); ok && e.tokenRefused() {
		s := signedFor(token)
		e.suspicion = s.suspicion()
		err = fmt.Errorf("%w; %s", err, t.whyRefused(s, e.suspicion))
	}
	return l, err
}

// ConnectWith logs in to t once, with a token that was made elsewhere and is
// handed on as it is. Errors are those of Connect.
func ConnectWith(ctx context.Context, t *Target, token auth.Token) (*Login, error) {
	if err := t.mayCarryToken(); err != nil {
		return nil, err
	}
	with := *t
	with.IAM = &IAM{} // never asked: whoever must have a token for this login is given it
	l, err := with.connect(ctx, token)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.Place(), context.Cause(ctx))
	}
	return l, err
}

// IsTokenRefused reports whether err is the server's refusal of an IAM token.
func IsTokenRefused(err error) bool { return tokenRefused(err) }

// connectToken is one attempt to log in. The token is there before the
// connection is opened: slow credentials must not hold a place at the server.
func (t *Target) connectToken(ctx context.Context) (auth.Token, *Login, error) {
	token, err := t.newToken(ctx)
	if err != nil {
		return token, nil, &ConnectError{Kind: NoToken, Err: err, reason: whyNoToken(err)}
	}
	l, err := t.connect(ctx, token)
	return token, l, err
}

func (t *Target) newToken(ctx context.Context) (auth.Token, error) {
	if t.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.ConnectTimeout)
		defer cancel()
	}
	began := time.Now()
	token, err := t.IAM.Token(ctx)
	t.trace(StepToken, began, err, func() string {
		return fmt.Sprintf("for %v, expires in %v", signedFor(token), time.Until(token.Expires()).Round(time.Second))
	})
	return token, err
}

// mayCarryToken makes sure that nobody but the right server can read a token.
// verify-ca is good enough with authorities of one's own (RDS has them), but
// anybody can have a certificate from those of the operating system.
func (t *Target) mayCarryToken() error {
	switch {
	case t.onUnixSocket():
		return connectError(BadTarget, "an IAM token is sent over verified TLS only, and a unix socket has none")
	case t.SSLMode < config.SSLVerifyCA:
		return connectError(BadTarget, "an IAM token is sent over verified TLS only: sslmode is %s, not verify-full", t.SSLMode)
	case t.SSLMode == config.SSLVerifyCA && (t.TLSConfig == nil || t.TLSConfig.RootCAs == nil):
		return connectError(BadTarget, "an IAM token is sent over verified TLS only: sslmode verify-ca proves nothing with the system's authorities, use verify-full")
	default:
		return nil
	}
}

func tokenRefused(err error) bool {
	e, ok := errors.AsType[*LoginError](err)
	return ok && e.tokenRefused()
}

// tokenRefused reports whether the server did not take the IAM token. RDS Proxy
// has a text of its own for it, and other texts for what is not the token's fault.
func (e *LoginError) tokenRefused() bool {
	if !e.at.tokenSent || e.at.authenticated {
		return false
	}
	if x, ok := e.byProxy(); ok {
		return x.Reason == TokenRefused
	}
	return e.Code == "28000"
}

// whyRefused lists what an operator can check. The server does not say which
// it is.
func (t *Target) whyRefused(s signature, suspicion string) string {
	if suspicion != "" {
		suspicion += " "
	}
	return fmt.Sprintf("IAM token refused, signed for %s. %sCheck that "+
		"(1) an IAM policy of that access key allows rds-db:connect on arn:%s:rds-db:%s:ACCOUNT:dbuser:RESOURCE-ID/%s, with the instance's or cluster's resource ID; "+
		"(2) host and port are the endpoint's own, not an alias or a tunnel (iam_host, iam_port); "+
		"(3) the region is the database's; "+
		"(4) the user is the role's name, in the same case; "+
		"(5) this machine's clock is right; "+
		"(6) the credentials had not expired; "+
		"(7) RDS was not restarting or throttling (200 IAM logins a second). "+
		"RDS's log export iam-db-auth-error and the metrics IamDbAuthConnectionFailure* say which",
		s, suspicion, config.Partition(s.region), s.region, t.User)
}

// suspicion is what the names alone say is wrong with what was signed. It names
// no address.
func (s signature) suspicion() string {
	host, _, err := net.SplitHostPort(s.endpoint)
	if err != nil {
		return ""
	}
	region, known := config.RegionFromHost(host)
	switch {
	case !known && !isRDS(host):
		return "The name that tokens are signed for is not that of an RDS endpoint: if it is an alias, or that of a tunnel, iam_host must say the endpoint's own name."
	case known && region != s.region:
		return fmt.Sprintf("Tokens are signed for region %s, but the endpoint's name says %s (iam_region).", s.region, region)
	}
	return ""
}

// signature is what a token says about itself. It holds nothing secret.
type signature struct{ endpoint, region, user, key, date string }

func (s signature) String() string {
	return fmt.Sprintf("host and port %s, region %s, user %q, by access key …%s at %s", s.endpoint, s.region, s.user, s.key, s.date)
}

// signedFor reads what the token's signature covers; what it cannot find is
// shown as a question mark. The format: SigV4 query parameters, see the AWS IAM
// User Guide, "Create a signed AWS API request".
func signedFor(token auth.Token) signature {
	s := signature{"?", "?", "?", "?", "?"}
	u, err := url.Parse("https://" + token.Reveal())
	if err != nil {
		return s
	}
	q := u.Query()
	set := func(field *string, v string) {
		if v != "" {
			*field = v
		}
	}
	set(&s.endpoint, u.Host)
	set(&s.user, q.Get("DBUser"))
	set(&s.date, q.Get("X-Amz-Date"))
	// access key ID/date/region/service/aws4_request
	if scope := strings.Split(q.Get("X-Amz-Credential"), "/"); len(scope) == 5 {
		set(&s.region, scope[2])
		set(&s.key, scope[0][max(0, len(scope[0])-4):])
	}
	return s
}
