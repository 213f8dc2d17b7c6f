package backendtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// tokenMaxAge is how long RDS takes a token for after its X-Amz-Date, and
	// the largest X-Amz-Expires it takes at all.
	tokenMaxAge = 15 * time.Minute
	// tokenMaxSkew is how far in the future X-Amz-Date may lie.
	tokenMaxSkew = 5 * time.Minute

	amzDateFormat = "20060102T150405Z"
	sigAlgorithm  = "AWS4-HMAC-SHA256"
	sigService    = "rds-db"
	dsqlService   = "dsql"
)

// AccessKey is an AWS access key that TokenCheck knows. Its string forms
// leave the secrets out.
type AccessKey struct {
	ID           string
	Secret       string
	SessionToken string    // of temporary credentials; empty for a long-term key
	Expires      time.Time // of temporary credentials; zero means never
	Revoked      bool
	Principal    string   // ARN, for log lines; may be empty
	Users        []string // whom it may connect as (the rds-db:connect policy); nil means anybody
}

func (k AccessKey) String() string { return "access key " + k.ID }

// GoString keeps %#v from printing the secrets.
func (k AccessKey) GoString() string { return k.String() }

// TokenCheck is what one login holds an RDS IAM token against. The signature
// is recomputed from the specification of AWS Signature Version 4 (query
// string authentication), independently of the AWS SDK.
type TokenCheck struct {
	DSQL   bool     // the token is for Aurora DSQL: no port and no user in it, an action of its own for admin
	Hosts  []string // the endpoint's names, host:port each, for DSQL without the port; in any case
	Region string
	User   string // of the startup message, byte for byte
	Now    time.Time
	Key    func(id string) (AccessKey, bool)
}

// iamToken is the parsed form of
// host:port[/]?Action=connect&DBUser=…&X-Amz-…=…, or for DSQL of
// host[/]?Action=DbConnect&X-Amz-…=….
type iamToken struct {
	service      string
	action       string
	hostPort     string
	params       map[string]string // decoded, all of the query
	user         string
	keyID        string
	scopeDate    string // YYYYMMDD
	region       string
	amzDate      string
	date         time.Time
	expires      time.Duration
	sessionToken string
	signature    []byte
}

// parseToken takes a token apart and checks its form, which is all that can
// be said without the key.
func parseToken(token string, dsql bool) (*iamToken, error) {
	target, query, ok := strings.Cut(token, "?")
	if !ok {
		return nil, refuse(Malformed, "no query")
	}
	t := &iamToken{hostPort: strings.TrimSuffix(target, "/"), service: sigService}
	_, port, err := net.SplitHostPort(t.hostPort)
	if dsql {
		t.service = dsqlService
		if strings.ContainsAny(t.hostPort, "/@:\n") {
			return nil, refuse(Malformed, "not a host: %q", t.hostPort)
		}
	} else if err != nil || port == "" || strings.ContainsAny(t.hostPort, "/@\n") {
		return nil, refuse(Malformed, "not host:port: %q", t.hostPort)
	}
	if t.params, err = parseQuery(query); err != nil {
		return nil, err
	}
	t.action, t.user = t.params["Action"], t.params["DBUser"]
	_, named := t.params["DBUser"]
	switch {
	case dsql && (named || t.action != "DbConnect" && t.action != "DbConnectAdmin"):
		return nil, refuse(Malformed, "Action is %q, DBUser %q", t.action, t.user)
	case !dsql && t.action != "connect":
		return nil, refuse(Malformed, "Action is %q, not \"connect\"", t.action)
	case !dsql && t.user == "":
		return nil, refuse(Malformed, "no DBUser")
	}
	for name, want := range map[string]string{
		"X-Amz-Algorithm":     sigAlgorithm,
		"X-Amz-SignedHeaders": "host",
	} {
		if t.params[name] != want {
			return nil, refuse(Malformed, "%s is %q, not %q", name, t.params[name], want)
		}
	}
	if t.sessionToken, ok = t.params["X-Amz-Security-Token"]; ok && t.sessionToken == "" {
		return nil, refuse(Malformed, "empty X-Amz-Security-Token")
	}
	t.amzDate = t.params["X-Amz-Date"]
	if t.date, err = time.Parse(amzDateFormat, t.amzDate); err != nil || len(t.amzDate) != len(amzDateFormat) {
		return nil, refuse(Malformed, "X-Amz-Date is %q", t.amzDate)
	}
	seconds, err := strconv.ParseUint(t.params["X-Amz-Expires"], 10, 31)
	t.expires = time.Duration(seconds) * time.Second
	if err != nil || t.expires < time.Second || t.expires > tokenMaxAge {
		return nil, refuse(Malformed, "X-Amz-Expires is %q, not 1 to 900", t.params["X-Amz-Expires"])
	}
	scope := strings.Split(t.params["X-Amz-Credential"], "/")
	if len(scope) != 5 || scope[0] == "" || scope[3] != t.service || scope[4] != "aws4_request" {
		return nil, refuse(Malformed, "X-Amz-Credential is not key/date/region/%s/aws4_request", t.service)
	}
	t.keyID, t.scopeDate, t.region = scope[0], scope[1], scope[2]
	if t.scopeDate != t.amzDate[:8] {
		return nil, refuse(Malformed, "credential scope of %s in a token of %s", t.scopeDate, t.amzDate)
	}
	if t.signature, err = hex.DecodeString(t.params["X-Amz-Signature"]); err != nil || len(t.signature) != sha256.Size {
		return nil, refuse(Malformed, "X-Amz-Signature is not 64 hex digits")
	}
	return t, nil
}

func parseQuery(query string) (map[string]string, error) {
	params := make(map[string]string)
	for pair := range strings.SplitSeq(query, "&") {
		rawName, rawValue, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, refuse(Malformed, "parameter without a value")
		}
		// Not QueryUnescape: a plus sign stands for itself in RFC 3986.
		name, err := url.PathUnescape(rawName)
		if err != nil {
			return nil, refuse(Malformed, "parameter name: %v", err)
		}
		value, err := url.PathUnescape(rawValue)
		if err != nil {
			return nil, refuse(Malformed, "value of %s: %v", name, err)
		}
		if _, dup := params[name]; dup {
			return nil, refuse(Malformed, "%s twice", name)
		}
		params[name] = value
	}
	return params, nil
}

// sign computes the signature that the token must carry if it was made with
// secret.
func (t *iamToken) sign(secret string) []byte {
	var pairs []string
	for name, value := range t.params {
		if name != "X-Amz-Signature" {
			pairs = append(pairs, uriEncode(name)+"="+uriEncode(value))
		}
	}
	// By encoded name, not by pair: '=' sorts before letters but after digits.
	slices.SortFunc(pairs, func(a, b string) int {
		nameA, _, _ := strings.Cut(a, "=")
		nameB, _, _ := strings.Cut(b, "=")
		return strings.Compare(nameA, nameB)
	})
	emptyBody := sha256.Sum256(nil)
	canonical := "GET\n/\n" + strings.Join(pairs, "&") + "\nhost:" + t.hostPort + "\n\nhost\n" + hex.EncodeToString(emptyBody[:])
	canonicalHash := sha256.Sum256([]byte(canonical))
	scope := t.scopeDate + "/" + t.region + "/" + t.service + "/aws4_request"
	stringToSign := sigAlgorithm + "\n" + t.amzDate + "\n" + scope + "\n" + hex.EncodeToString(canonicalHash[:])
	key := []byte("AWS4" + secret)
	for _, part := range []string{t.scopeDate, t.region, t.service, "aws4_request"} {
		key = hmacSHA256(key, part)
	}
	return hmacSHA256(key, stringToSign)
}

func hmacSHA256(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}

// uriEncode is the UriEncode of Signature Version 4: all bytes but RFC 3986's
// unreserved ones as % and two upper-case hex digits.
func uriEncode(s string) string {
	const upperHex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-_.~", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&15])
		}
	}
	return b.String()
}

// Verify returns nil if RDS would let c.User in with token, else a
// *TokenError. The signature is checked before the claims, so a reason other
// than Malformed and BadSignature is about a token that was really signed.
func (c TokenCheck) Verify(token string) error {
	_, err := c.verify(token)
	return err
}

// verify also returns the key that the token names, if it is known.
func (c TokenCheck) verify(token string) (AccessKey, error) {
	t, err := parseToken(token, c.DSQL)
	if err != nil {
		return AccessKey{}, err
	}
	key, ok := c.Key(t.keyID)
	if !ok {
		return AccessKey{}, refuse(UnknownKey, "%s", t.keyID)
	}
	return key, c.verifyClaims(t, key)
}

func (c TokenCheck) verifyClaims(t *iamToken, key AccessKey) error {
	if subtle.ConstantTimeCompare(t.sign(key.Secret), t.signature) != 1 {
		return refuse(BadSignature, "signed with another secret, or altered")
	}
	if key.Revoked {
		return refuse(RevokedKey, "%s", key.ID)
	}
	if subtle.ConstantTimeCompare([]byte(t.sessionToken), []byte(key.SessionToken)) != 1 {
		return refuse(WrongSessionToken, "not the one issued with %s", key.ID)
	}
	if !slices.ContainsFunc(c.Hosts, func(h string) bool { return strings.EqualFold(h, t.hostPort) }) {
		return refuse(WrongHost, "signed for %s, this is %s", t.hostPort, strings.Join(c.Hosts, ", "))
	}
	if t.region != c.Region {
		return refuse(WrongRegion, "signed for %s, this is %s", t.region, c.Region)
	}
	if c.DSQL && (t.action == "DbConnectAdmin") != (c.User == "admin") {
		return refuse(WrongUser, "%s as %q", t.action, c.User)
	}
	if !c.DSQL && t.user != c.User {
		return refuse(WrongUser, "signed for %q", t.user)
	}
	if ahead := t.date.Sub(c.Now); ahead > tokenMaxSkew {
		return refuse(NotYetValid, "made %v in the future", ahead)
	}
	if age := c.Now.Sub(t.date); age > t.expires {
		return refuse(Expired, "made %v ago", age)
	}
	if !key.Expires.IsZero() && !c.Now.Before(key.Expires) {
		return refuse(CredentialsExpired, "%s expired at %v", key.ID, key.Expires)
	}
	if key.Users != nil && !slices.Contains(key.Users, c.User) {
		return refuse(NotAuthorized, "%s may not connect as %q", key.ID, c.User)
	}
	return nil
}

func refuse(r Reason, format string, args ...any) *TokenError {
	return &TokenError{Reason: r, Detail: fmt.Sprintf(format, args...)}
}
