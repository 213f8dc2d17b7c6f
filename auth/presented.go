package auth

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Claims are what an RDS IAM token says about itself. Only RDS can tell whether
// the signature over them is right: it needs the secret key.
//
// The format is that of a presigned URL without its scheme: SigV4 query
// parameters, see the AWS IAM User Guide, "Create a signed AWS API request".
type Claims struct {
	Host      string // in lower case
	Port      int
	Region    string
	User      string // the database role
	AccessKey string // the ID's last four characters
	Signed    time.Time
	Expires   time.Time // of the signature; the credentials behind it may end earlier
}

const (
	// maxToken is the longest token that can be sent: PostgreSQL takes no longer
	// PasswordMessage (PG_MAX_AUTH_TOKEN_LENGTH in src/include/libpq/auth.h).
	maxToken = 65530
	// clockSkew is how far a client's clock may be ahead of ours.
	clockSkew = 5 * time.Minute
	amzDate   = "20060102T150405Z"
)

// ParseToken reads the claims of a token that somebody presents. An error says
// what is wrong with it, and repeats nothing secret.
func ParseToken(text string) (Claims, error) {
	if len(text) > maxToken {
		return Claims{}, fmt.Errorf("it is longer than %d bytes", maxToken)
	}
	at, query, ok := strings.Cut(text, "?")
	if !ok {
		return Claims{}, errors.New("it is not an IAM token but something else, a password maybe")
	}
	host, port, err := net.SplitHostPort(strings.TrimSuffix(at, "/"))
	if err != nil || host == "" {
		return Claims{}, errors.New("it does not begin with a host and a port")
	}
	c := Claims{Host: strings.ToLower(host)}
	if c.Port, err = strconv.Atoi(port); err != nil || c.Port < 1 || c.Port > 65535 {
		return Claims{}, errors.New("its port is not between 1 and 65535")
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Claims{}, errors.New("its query parameters cannot be read")
	}
	for name, v := range values {
		if len(v) > 1 {
			return Claims{}, fmt.Errorf("it has the parameter %.40q more than once", name)
		}
	}
	switch {
	case values.Get("Action") != "connect":
		return Claims{}, errors.New("its action is not connect")
	case values.Get("X-Amz-Algorithm") != "AWS4-HMAC-SHA256":
		return Claims{}, errors.New("its algorithm is not AWS4-HMAC-SHA256")
	case values.Get("X-Amz-SignedHeaders") != "host":
		return Claims{}, errors.New("its signed headers are not the host alone")
	case len(values.Get("X-Amz-Signature")) != 64:
		return Claims{}, errors.New("its signature is missing or was cut off")
	}
	if c.User = values.Get("DBUser"); c.User == "" {
		return Claims{}, errors.New("it names no database user")
	}
	if c.Signed, err = time.Parse(amzDate, values.Get("X-Amz-Date")); err != nil {
		return Claims{}, errors.New("its date cannot be read")
	}
	life, err := strconv.Atoi(values.Get("X-Amz-Expires"))
	if err != nil || life < 1 || time.Duration(life)*time.Second > tokenLifetime {
		return Claims{}, errors.New("it is not valid for between 1 and 900 seconds")
	}
	c.Expires = c.Signed.Add(time.Duration(life) * time.Second)
	// access key ID/date/region/service/aws4_request
	scope := strings.Split(values.Get("X-Amz-Credential"), "/")
	switch {
	case len(scope) != 5 || scope[4] != "aws4_request" || scope[0] == "" || scope[2] == "":
		return Claims{}, errors.New("its credential scope cannot be read")
	case scope[3] != "rds-db":
		return Claims{}, fmt.Errorf("it is for the service %.40q, not for rds-db", scope[3])
	case scope[1] != c.Signed.Format("20060102"):
		return Claims{}, errors.New("its credential scope is of another day than its date")
	}
	c.AccessKey, c.Region = scope[0][max(0, len(scope[0])-4):], scope[2]
	return c, nil
}

// Check compares the claims with what they have to be: want has the endpoint and
// the region that the server knows itself by, and the role. The error is for the
// client, who has not logged in yet: it tells nothing of want but the role.
func (c Claims) Check(want TokenKey, now time.Time) error {
	switch {
	case c.Host != strings.ToLower(want.Host) || c.Port != want.Port:
		return fmt.Errorf("it is for %s, which is not the database's endpoint", net.JoinHostPort(c.Host, strconv.Itoa(c.Port)))
	case c.Region != want.Region:
		return fmt.Errorf("it is for the region %.40q, which is not the database's", c.Region)
	case c.User != want.User:
		return fmt.Errorf("it is for the user %.128q, not for %q; upper and lower case differ", c.User, want.User)
	case !now.Before(c.Expires):
		return fmt.Errorf("it has expired %v ago; sign a new one, and check the clock of who signs", now.Sub(c.Expires).Round(time.Second))
	case c.Signed.After(now.Add(clockSkew)):
		return fmt.Errorf("it was signed %v in the future; check the clock of who signs", c.Signed.Sub(now).Round(time.Second))
	}
	return nil
}

// Presented makes a Token of what a client has presented, whose claims are c. It
// is handed on as it is, up to its last moment: until then it admits clients, who
// need servers.
func Presented(text string, c Claims) Token {
	return Token{v: &token{text: &text, signed: c.Signed, expires: c.Expires, serveUntil: c.Expires, key: keyEnd(c.AccessKey)}}
}

// Usable reports whether the token can be shown to the server.
func (t Token) Usable(now time.Time) bool { return t.usable(now) }
