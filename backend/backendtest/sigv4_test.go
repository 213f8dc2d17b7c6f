package backendtest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	rdsauth "github.com/aws/aws-sdk-go-v2/feature/rds/auth"
)

const (
	testHost   = "db.cluster-c0abcdefghij.us-east-1.rds.amazonaws.com:5432"
	testRegion = "us-east-1"
)

var (
	longTermKey  = AccessKey{ID: "AKIAPGVALETTEST00001", Secret: "long/term+secret"}
	temporaryKey = AccessKey{ID: "ASIAPGVALETTEST00002", Secret: "temporary/secret", SessionToken: "session/token+with=signs&more"}
)

// sdkToken makes a token the way clients do, with the AWS SDK.
func sdkToken(t testing.TB, hostPort, region, user string, key AccessKey) string {
	t.Helper()
	var creds aws.CredentialsProvider = credentials.NewStaticCredentialsProvider(key.ID, key.Secret, key.SessionToken)
	token, err := rdsauth.BuildAuthToken(context.Background(), hostPort, region, user, creds)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// resign replaces the signature of an altered token by one that fits.
func resign(t testing.TB, token string, key AccessKey) string {
	t.Helper()
	parsed, err := parseToken(token, false)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(token, "&X-Amz-Signature=")
	return before + "&X-Amz-Signature=" + hex.EncodeToString(parsed.sign(key.Secret))
}

func testCheck(user string) TokenCheck {
	keys := map[string]AccessKey{longTermKey.ID: longTermKey, temporaryKey.ID: temporaryKey}
	return TokenCheck{
		Hosts:  []string{testHost},
		Region: testRegion,
		User:   user,
		Now:    time.Now(),
		Key:    func(id string) (AccessKey, bool) { k, ok := keys[id]; return k, ok },
	}
}

func reasonOf(err error) Reason {
	if refused, ok := errors.AsType[*TokenError](err); ok {
		return refused.Reason
	}
	return ""
}

func TestTokensOfTheSDKAreAccepted(t *testing.T) {
	for _, key := range []AccessKey{longTermKey, temporaryKey} {
		for _, user := range []string{"app", "App_User", "a b+c/é@x", "100%", "=&?#", "~-._", "'\"\\", " "} {
			t.Run(key.ID+"/"+user, func(t *testing.T) {
				token := sdkToken(t, testHost, testRegion, user, key)
				if err := testCheck(user).Verify(token); err != nil {
					t.Errorf("%v: %s", err, token)
				}
				// The other SDKs write the path, which is the same canonically.
				if err := testCheck(user).Verify(strings.Replace(token, "?", "/?", 1)); err != nil {
					t.Errorf("with a path: %v", err)
				}
			})
		}
	}
	upper := strings.ToUpper(testHost)
	if err := testCheck("app").Verify(sdkToken(t, upper, testRegion, "app", longTermKey)); err != nil {
		t.Errorf("host in upper case: %v", err)
	}
}

// Every change of a token that is not signed anew must be noticed.
func TestAlteredTokensAreRefused(t *testing.T) {
	good := sdkToken(t, testHost, testRegion, "app", temporaryKey)
	parsed, err := parseToken(good, false)
	if err != nil {
		t.Fatal(err)
	}
	nextSecond := parsed.date.Add(time.Second).Format(amzDateFormat)
	for _, tt := range []struct {
		name     string
		old, new string
		want     Reason
	}{
		{"host", "db.cluster", "eb.cluster", BadSignature},
		{"host's case", "db.cluster", "Db.cluster", BadSignature},
		{"port", ":5432", ":5433", BadSignature},
		{"no port", ":5432", "", Malformed},
		{"scheme", "db.cluster", "https://db.cluster", Malformed},
		{"userinfo", "db.cluster", "x@db.cluster", Malformed},
		{"path", "?Action", "/x?Action", Malformed},
		{"two slashes", "?Action", "//?Action", Malformed},
		{"no query", "?", "", Malformed},
		{"action", "Action=connect", "Action=describe", Malformed},
		{"user", "DBUser=app", "DBUser=apq", BadSignature},
		{"no user", "DBUser=app", "DBUser=", Malformed},
		{"algorithm", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512", Malformed},
		{"key", temporaryKey.ID, longTermKey.ID, BadSignature},
		{"unknown key", temporaryKey.ID, "ASIAPGVALETTEST00003", UnknownKey},
		{"scope's date", "%2F" + parsed.scopeDate + "%2F", "%2F20010101%2F", Malformed},
		{"region", "%2F" + testRegion + "%2F", "%2Feu-west-1%2F", BadSignature},
		{"service", "%2Frds-db%2F", "%2Fdsql%2F", Malformed},
		{"scope's end", "aws4_request", "aws5_request", Malformed},
		{"scope's parts", "%2Faws4_request", "", Malformed},
		{"date", parsed.amzDate, nextSecond, BadSignature},
		{"date's form", parsed.amzDate, parsed.amzDate[:15], Malformed},
		{"date with a fraction", parsed.amzDate, parsed.amzDate[:15] + ".5Z", Malformed},
		{"expires", "Expires=900", "Expires=899", BadSignature},
		{"expires too late", "Expires=900", "Expires=901", Malformed},
		{"expires at once", "Expires=900", "Expires=0", Malformed},
		{"expires before", "Expires=900", "Expires=-1", Malformed},
		{"expires in words", "Expires=900", "Expires=soon", Malformed},
		{"session token", "session%2Ftoken", "session%2Ftokem", BadSignature},
		{"no session token", "X-Amz-Security-Token=session%2Ftoken%2Bwith%3Dsigns%26more&", "", BadSignature},
		{"empty session token", "session%2Ftoken%2Bwith%3Dsigns%26more", "", Malformed},
		{"signed headers", "SignedHeaders=host", "SignedHeaders=host%3Bx", Malformed},
		{"one more parameter", "Action=connect", "Action=connect&X=1", BadSignature},
		{"parameter twice", "Action=connect", "Action=connect&Action=connect", Malformed},
		{"parameter twice, encoded", "Action=connect", "Action=connect&%41ction=connect", Malformed},
		{"parameter without value", "Action=connect", "Action=connect&X", Malformed},
		{"bad escape in a value", "DBUser=app", "DBUser=%zz", Malformed},
		{"bad escape in a name", "DBUser=app", "DBUser=app&%z=1", Malformed},
		{"signature too short", "Signature=" + hex.EncodeToString(parsed.signature), "Signature=abcd", Malformed},
		{"signature not hex", "X-Amz-Signature=", "X-Amz-Signature=xy", Malformed},
		{"another signature", hex.EncodeToString(parsed.signature), strings.Repeat("00", 32), BadSignature},
		{"no signature", "&X-Amz-Signature=" + hex.EncodeToString(parsed.signature), "", Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			token := strings.Replace(good, tt.old, tt.new, 1)
			if token == good {
				t.Fatalf("no %q in %s", tt.old, good)
			}
			if err := testCheck("app").Verify(token); reasonOf(err) != tt.want {
				t.Errorf("%v, want %q: %s", err, tt.want, token)
			}
		})
	}
}

// What is signed properly can be wrong all the same.
func TestClaimsAreChecked(t *testing.T) {
	good := func(t *testing.T) string { return sdkToken(t, testHost, testRegion, "app", temporaryKey) }
	for _, tt := range []struct {
		name  string
		token func(t *testing.T) string
		check func(c *TokenCheck, k *AccessKey)
		want  Reason
	}{
		{"all right", good, nil, ""},
		{"another host", func(t *testing.T) string {
			return sdkToken(t, "alias.example.com:5432", testRegion, "app", temporaryKey)
		}, nil, WrongHost},
		{"another port", func(t *testing.T) string {
			return sdkToken(t, strings.Replace(testHost, "5432", "6432", 1), testRegion, "app", temporaryKey)
		}, nil, WrongHost},
		{"a renamed endpoint", good, func(c *TokenCheck, _ *AccessKey) { c.Hosts = []string{"green." + testHost} }, WrongHost},
		{"one of two names", good, func(c *TokenCheck, _ *AccessKey) { c.Hosts = []string{"green." + testHost, testHost} }, ""},
		{"another region", func(t *testing.T) string { return sdkToken(t, testHost, "eu-west-1", "app", temporaryKey) }, nil, WrongRegion},
		{"no region", func(t *testing.T) string { return sdkToken(t, testHost, "", "app", temporaryKey) }, nil, WrongRegion},
		{"another user", good, func(c *TokenCheck, _ *AccessKey) { c.User = "master" }, WrongUser},
		{"user in another case", good, func(c *TokenCheck, _ *AccessKey) { c.User = "App" }, WrongUser},
		{"without the session token", func(t *testing.T) string {
			return sdkToken(t, testHost, testRegion, "app", AccessKey{ID: temporaryKey.ID, Secret: temporaryKey.Secret})
		}, nil, WrongSessionToken},
		{"with a session token too many", func(t *testing.T) string {
			return sdkToken(t, testHost, testRegion, "app", AccessKey{ID: longTermKey.ID, Secret: longTermKey.Secret, SessionToken: "x"})
		}, nil, WrongSessionToken},
		{"another secret", func(t *testing.T) string {
			return sdkToken(t, testHost, testRegion, "app", AccessKey{ID: longTermKey.ID, Secret: "guessed"})
		}, nil, BadSignature},
		{"revoked key", good, func(_ *TokenCheck, k *AccessKey) { k.Revoked = true }, RevokedKey},
		{"14 minutes later", good, func(c *TokenCheck, _ *AccessKey) { c.Now = c.Now.Add(14 * time.Minute) }, ""},
		{"16 minutes later", good, func(c *TokenCheck, _ *AccessKey) { c.Now = c.Now.Add(16 * time.Minute) }, Expired},
		{"4 minutes early", good, func(c *TokenCheck, _ *AccessKey) { c.Now = c.Now.Add(-4 * time.Minute) }, ""},
		{"6 minutes early", good, func(c *TokenCheck, _ *AccessKey) { c.Now = c.Now.Add(-6 * time.Minute) }, NotYetValid},
		{"shorter life of its own", func(t *testing.T) string {
			return resign(t, strings.Replace(good(t), "Expires=900", "Expires=60", 1), temporaryKey)
		}, func(c *TokenCheck, _ *AccessKey) { c.Now = c.Now.Add(2 * time.Minute) }, Expired},
		{"credentials that still hold", good, func(c *TokenCheck, k *AccessKey) { k.Expires = c.Now.Add(time.Second) }, ""},
		{"credentials that hold no more", good, func(c *TokenCheck, k *AccessKey) { k.Expires = c.Now }, CredentialsExpired},
		{"policy for the user", good, func(_ *TokenCheck, k *AccessKey) { k.Users = []string{"other", "app"} }, ""},
		{"policy for others", good, func(_ *TokenCheck, k *AccessKey) { k.Users = []string{"other"} }, NotAuthorized},
		{"policy for nobody", good, func(_ *TokenCheck, k *AccessKey) { k.Users = []string{} }, NotAuthorized},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check := testCheck("app")
			if tt.check != nil {
				key := temporaryKey
				tt.check(&check, &key)
				check.Key = func(string) (AccessKey, bool) { return key, true }
			}
			if err := check.Verify(tt.token(t)); reasonOf(err) != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestAccessKeyPrintsNoSecret(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		out := fmt.Sprintf(format, temporaryKey)
		if strings.Contains(out, temporaryKey.Secret) || strings.Contains(out, temporaryKey.SessionToken) || !strings.Contains(out, temporaryKey.ID) {
			t.Errorf("%s: %s", format, out)
		}
	}
}

func FuzzVerify(f *testing.F) {
	for _, key := range []AccessKey{longTermKey, temporaryKey} {
		f.Add(sdkToken(f, testHost, testRegion, "a b+c/é@x", key))
	}
	f.Add("db:5432?Action=connect&DBUser=%")
	f.Add("[::1]:5432/?a=b&=&==")
	check := testCheck("app")
	check.Key = func(id string) (AccessKey, bool) { return AccessKey{ID: id, Secret: "known to nobody"}, true }
	f.Fuzz(func(t *testing.T, token string) {
		err := check.Verify(token)
		parsed, parseErr := parseToken(token, false)
		if want := BadSignature; parseErr == nil && reasonOf(err) != want {
			t.Errorf("%v, want %q", err, want)
		}
		if parseErr != nil {
			if reasonOf(err) != Malformed {
				t.Errorf("%v of a token that does not parse: %v", err, parseErr)
			}
			return
		}
		// Written in canonical form, a token says and signs the same.
		var pairs []string
		for _, name := range slices.Sorted(maps.Keys(parsed.params)) {
			pairs = append(pairs, uriEncode(name)+"="+uriEncode(parsed.params[name]))
		}
		again, err := parseToken(parsed.hostPort+"/?"+strings.Join(pairs, "&"), false)
		if err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(again.params, parsed.params) || hex.EncodeToString(again.sign("s")) != hex.EncodeToString(parsed.sign("s")) {
			t.Errorf("%+v became %+v", parsed, again)
		}
	})
}
