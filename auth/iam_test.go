package auth

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

var testKey = TokenKey{Host: "mydb.c0abcdefghij.us-east-1.rds.amazonaws.com", Port: 5432, Region: "us-east-1", User: "app"}

// credentialSource is a provider whose answers a test decides.
type credentialSource struct {
	mu          sync.Mutex // guards the following
	asked       int
	invalidated int
	life        time.Duration // of what it gives; 0: forever
	err         error
	gate        chan struct{} // if not nil, Retrieve waits for it
}

func (c *credentialSource) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if gate := c.gate; gate != nil {
		c.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
		}
		c.mu.Lock()
		if ctx.Err() != nil {
			return aws.Credentials{}, ctx.Err()
		}
	}
	creds := aws.Credentials{AccessKeyID: fmt.Sprintf("AKIA%04d", c.asked), SecretAccessKey: "topsecret", Source: "test"}
	if c.life > 0 {
		creds.CanExpire, creds.Expires = true, time.Now().Add(c.life)
	}
	return creds, c.err
}

func (c *credentialSource) Invalidate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.invalidated++
}

func (c *credentialSource) set(life time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life, c.err = life, err
}

func (c *credentialSource) retrievals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// inBubble runs a test with a source on a fake clock.
func inBubble(t *testing.T, test func(t *testing.T, s *TokenSource, c *credentialSource)) {
	synctest.Test(t, func(t *testing.T) {
		c := new(credentialSource)
		s := NewTokenSource(TokenSourceConfig{Credentials: c})
		defer s.Close()
		test(t, s, c)
	})
}

// pass lets d go by on the clock of the bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (s *TokenSource) mustToken(t *testing.T, k TokenKey) Token {
	t.Helper()
	got, err := s.Token(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (s *TokenSource) wantStats(t *testing.T, want TokenStats) {
	t.Helper()
	synctest.Wait()
	if got := s.Stats(); got != want {
		t.Errorf("stats %+v, want %+v", got, want)
	}
}

func TestTokenContent(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		k := testKey
		k.Host, k.User = strings.ToUpper(k.Host), "Ärger b+c/d@x"
		now := time.Now()
		got := s.mustToken(t, k)
		u, err := url.Parse("https://" + got.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if u.Host != testKey.Host+":5432" || q.Get("Action") != "connect" || q.Get("DBUser") != k.User ||
			q.Get("X-Amz-Expires") != "900" || len(q.Get("X-Amz-Signature")) != 64 ||
			q.Get("X-Amz-Credential") != "AKIA0001/"+now.UTC().Format("20060102")+"/us-east-1/rds-db/aws4_request" ||
			q.Get("X-Amz-Date") != now.UTC().Format("20060102T150405Z") {
			t.Errorf("token %s", got.Reveal())
		}
		if want := now.Add(15 * time.Minute); !got.Expires().Equal(want) {
			t.Errorf("expires %v, want %v", got.Expires(), want)
		}
		k.Host = strings.ToLower(k.Host)
		if again := s.mustToken(t, k); again != got {
			t.Error("another spelling of the host got another token")
		}
	})
	if (Token{}).Reveal() != "" || !(Token{}).Expires().IsZero() {
		t.Error("the zero Token holds something")
	}
}

func TestTokenExpiresWithCredentials(t *testing.T) {
	for _, test := range []struct{ credentials, want time.Duration }{
		{0, 15 * time.Minute},
		{time.Hour, 15 * time.Minute},
		{15*time.Minute + time.Second, 15 * time.Minute},
		{7 * time.Minute, 7 * time.Minute},
		{19 * time.Second, 19 * time.Second},
	} {
		inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
			c.set(test.credentials, nil)
			if got := time.Until(s.mustToken(t, testKey).Expires()); got != test.want {
				t.Errorf("credentials for %v: the token lives %v, want %v", test.credentials, got, test.want)
			}
		})
	}
}

func TestTokenKeyCheck(t *testing.T) {
	s := NewTokenSource(TokenSourceConfig{Credentials: new(credentialSource)})
	defer s.Close()
	for want, change := range map[string]func(*TokenKey){
		"iam host \"\"":              func(k *TokenKey) { k.Host = "" },
		"iam host \"db:5432\"":       func(k *TokenKey) { k.Host = "db:5432" },
		"iam host \"me@db\"":         func(k *TokenKey) { k.Host = "me@db" },
		"iam host \"https://db\"":    func(k *TokenKey) { k.Host = "https://db" },
		"iam host \"db?x\"":          func(k *TokenKey) { k.Host = "db?x" },
		"iam host \"db/\"":           func(k *TokenKey) { k.Host = "db/" },
		"iam host \"/var/run/db\"":   func(k *TokenKey) { k.Host = "/var/run/db" },
		"iam host \"::1\"":           func(k *TokenKey) { k.Host = "::1" },
		"iam host \"a b\"":           func(k *TokenKey) { k.Host = "a b" },
		"iam port 0":                 func(k *TokenKey) { k.Port = 0 },
		"iam port -1":                func(k *TokenKey) { k.Port = -1 },
		"iam port 65536":             func(k *TokenKey) { k.Port = 65536 },
		"iam port 443":               func(k *TokenKey) { k.Port = 443 },
		"iam region \"\"":            func(k *TokenKey) { k.Region = "" },
		"iam region \"us-east-1/x\"": func(k *TokenKey) { k.Region = "us-east-1/x" },
		"iam user is empty":          func(k *TokenKey) { k.User = "" },
	} {
		k := testKey
		change(&k)
		if got, err := s.Token(t.Context(), k); err == nil || !strings.HasPrefix(err.Error(), want) || got != (Token{}) {
			t.Errorf("%+v: error %v, want %s", k, err, want)
		}
	}
	if got := s.Stats(); got != (TokenStats{}) {
		t.Errorf("stats %+v", got)
	}
}

func TestTokenRefusesCredentials(t *testing.T) {
	for _, test := range []struct {
		creds aws.Credentials
		want  string
	}{
		{aws.Credentials{}, "are empty"},
		{aws.Credentials{AccessKeyID: "AKIA"}, "there is no secret access key"},
		{aws.Credentials{SecretAccessKey: "s"}, "there is no access key ID"},
		{aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "s", CanExpire: true, Expires: time.Now().Add(-time.Second)}, "expired at"},
	} {
		s := NewTokenSource(TokenSourceConfig{Credentials: aws.CredentialsProviderFunc(
			func(context.Context) (aws.Credentials, error) { return test.creds, nil })})
		_, err := s.Token(t.Context(), testKey)
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "app@"+testKey.Host+":5432") {
			t.Errorf("error %v, want %s", err, test.want)
		}
		s.Close()
	}
}

// A token for DSQL names neither port nor user, and has its own action for admin.
func TestTokenDSQL(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		c.set(10*time.Minute+500*time.Millisecond, nil)
		k := TokenKey{Service: DSQL, Host: "ABCDEF.dsql.eu-west-1.on.aws", Port: 5432, Region: "eu-west-1", User: "app"}
		got := s.mustToken(t, k)
		u, err := url.Parse("https://" + got.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if u.Host != "abcdef.dsql.eu-west-1.on.aws" || q.Get("Action") != "DbConnect" || q.Has("DBUser") || q.Get("X-Amz-Expires") != "600" ||
			!strings.HasSuffix(q.Get("X-Amz-Credential"), "/eu-west-1/dsql/aws4_request") {
			t.Errorf("token %s", got.Reveal())
		}
		k.User = "admin"
		if admin := s.mustToken(t, k); !strings.Contains(admin.Reveal(), "Action=DbConnectAdmin&") {
			t.Errorf("token %s", admin.Reveal())
		}
		k.Port = 0
		if again := s.mustToken(t, k); s.Stats().Signed != 2 || again.Reveal() == "" {
			t.Errorf("%+v: the port made another token", s.Stats())
		}
	})
}
