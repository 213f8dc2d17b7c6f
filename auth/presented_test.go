package auth

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	rdsauth "github.com/aws/aws-sdk-go-v2/feature/rds/auth"
)

var presentedKey = TokenKey{Host: "db.c0abcdefghij.us-east-1.rds.amazonaws.com", Port: 5432, Region: "us-east-1", User: "app user/é"}

// sdkToken is a token as a client makes it.
func sdkToken(t testing.TB, k TokenKey) string {
	provider := credentials.NewStaticCredentialsProvider("AKIAEXAMPLEEXAMPLE12", "secret", "session+token/with=signs")
	text, err := rdsauth.BuildAuthToken(context.Background(), k.Host+":5432", k.Region, k.User, provider)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestParseToken(t *testing.T) {
	text := sdkToken(t, presentedKey)
	for _, form := range []string{text, strings.Replace(text, "?", "/?", 1)} { // Go's and Python's
		c, err := ParseToken(form)
		if err != nil {
			t.Fatal(err)
		}
		if c.AccessKey != "LE12" || c.Expires.Sub(c.Signed) != 15*time.Minute {
			t.Errorf("claims %+v", c)
		}
		if err := c.Check(presentedKey, time.Now()); err != nil {
			t.Error(err)
		}
		if token := Presented(form, c); token.Reveal() != form || !token.Usable(c.Expires.Add(-1)) || token.Usable(c.Expires) {
			t.Errorf("token %v is not what was presented", token)
		}
	}
}

func TestParseTokenRefuses(t *testing.T) {
	good := sdkToken(t, presentedKey)
	for name, tt := range map[string]struct{ text, want string }{
		"password":     {"correct horse", "not an IAM token"},
		"empty":        {"", "not an IAM token"},
		"no port":      {strings.Replace(good, ":5432", "", 1), "host and a port"},
		"bad port":     {strings.Replace(good, ":5432", ":70000", 1), "port"},
		"path":         {strings.Replace(good, "?", "/x?", 1), "port"},
		"action":       {strings.Replace(good, "Action=connect", "Action=DbConnect", 1), "action"},
		"twice":        {good + "&DBUser=other", "more than once"},
		"user":         {strings.Replace(good, "DBUser=", "DbUser=", 1), "no database user"},
		"expires":      {strings.Replace(good, "X-Amz-Expires=900", "X-Amz-Expires=901", 1), "900 seconds"},
		"date":         {strings.Replace(good, "X-Amz-Date=2", "X-Amz-Date=x", 1), "date"},
		"scope":        {strings.Replace(good, "%2Faws4_request", "", 1), "scope"},
		"service":      {strings.Replace(good, "rds-db", "dsql", 1), "rds-db"},
		"other day":    {strings.Replace(good, "X-Amz-Date=20", "X-Amz-Date=19", 1), "another day"},
		"headers":      {strings.Replace(good, "X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=host%3Bx", 1), "signed headers"},
		"cut off":      {good[:len(good)-1], "cut off"},
		"too long":     {good + strings.Repeat("x", maxToken), "longer"},
		"query":        {good + "&%zz", "query"},
		"no algorithm": {strings.Replace(good, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", 1), "algorithm"},
	} {
		_, err := ParseToken(tt.text)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, tt.want)
		}
	}
}

func TestClaimsCheck(t *testing.T) {
	now := time.Date(2026, 11, 23, 16, 42, 44, 0, time.UTC)
	c := Claims{Host: "db.example", Port: 5432, Region: "us-east-1", User: "app", Signed: now, Expires: now.Add(15 * time.Minute)}
	right := TokenKey{Host: "DB.example", Port: 5432, Region: "us-east-1", User: "app"}
	for name, tt := range map[string]struct {
		change func(*TokenKey)
		at     time.Time
		want   string
	}{
		"right":       {func(*TokenKey) {}, now, ""},
		"last moment": {func(*TokenKey) {}, now.Add(15*time.Minute - 1), ""},
		"skew":        {func(*TokenKey) {}, now.Add(-clockSkew), ""},
		"host":        {func(k *TokenKey) { k.Host = "alias.example" }, now, "not the database's endpoint"},
		"port":        {func(k *TokenKey) { k.Port = 5433 }, now, "endpoint"},
		"region":      {func(k *TokenKey) { k.Region = "eu-west-1" }, now, "region"},
		"user":        {func(k *TokenKey) { k.User = "App" }, now, "upper and lower case"},
		"expired":     {func(*TokenKey) {}, now.Add(15 * time.Minute), "expired"},
		"future":      {func(*TokenKey) {}, now.Add(-clockSkew - 1), "future"},
	} {
		k := right
		tt.change(&k)
		err := c.Check(k, tt.at)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// FuzzParseToken: whatever comes, nothing panics, what is accepted has every
// claim, and no error repeats the signature or the session token.
func FuzzParseToken(f *testing.F) {
	f.Add(sdkToken(f, presentedKey))
	f.Add("host:1?Action=connect&DBUser=a")
	f.Add("[::1]:5432/?")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseToken(text)
		if err != nil {
			if len(err.Error()) > 200 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		if c.Host == "" || c.Port == 0 || c.Region == "" || c.User == "" || c.AccessKey == "" || !c.Expires.After(c.Signed) {
			t.Errorf("accepted with claims %+v", c)
		}
	})
}
