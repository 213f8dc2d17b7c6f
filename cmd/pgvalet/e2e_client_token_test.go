package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	rdsauth "github.com/aws/aws-sdk-go-v2/feature/rds/auth"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// clientToken is what a client of the stand-in signs with the SDK.
func clientToken(t testing.TB, endpoint, user string, key backendtest.AccessKey) string {
	t.Helper()
	provider := credentials.NewStaticCredentialsProvider(key.ID, key.Secret, key.SessionToken)
	return must(rdsauth.BuildAuthToken(context.Background(), endpoint, "us-east-1", user, provider))(t)
}

// withClientTokens returns a pgvalet, not started, whose clients log in with
// their own tokens, and which has no AWS credentials itself.
func withClientTokens(t testing.TB) (*pooler, *database, *backendtest.RDS) {
	t.Helper()
	p, d, rds := overIAM(t)
	p.env = append(p.env, "AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_SESSION_TOKEN=", "AWS_EC2_METADATA_DISABLED=true")
	p.conf.set("auth_type", "iam")
	delete(p.conf.pgvalet, "auth_file")
	shop := p.conf.databases["shop"]
	shop["server_auth"] = "client_token"
	delete(shop, "user")
	_, port, err := net.SplitHostPort(rds.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	shop["iam_port"] = must(strconv.Atoi(port))(t)
	return p, d, rds
}

// TestClientToken: a client's token is proved by RDS once, admits whoever has
// it, and opens the pool's servers.
func TestClientToken(t *testing.T) {
	p, d, rds := withClientTokens(t)
	p.start()
	token := clientToken(t, rds.Endpoint(), d.name, accessKey)
	p.users[d.name] = token
	options := []string{"user", d.name, "channel_binding", "prefer"}
	for range 5 {
		if got := one(t, p.connect(t, options...), "SELECT current_user"); got != d.name {
			t.Errorf("the user is %s, want %s", got, d.name)
		}
	}
	if s := rds.Stats(); s.Logins != 2 || s.DistinctTokens != 1 {
		t.Errorf("5 clients with one token: %d logins with %d tokens, want one to prove it and one server", s.Logins, s.DistinctTokens)
	}
	// A new token is proved anew; it is the newest now.
	next := accessKey
	next.ID, next.Secret = "ASIAEXAMPLE000000002", "another/secret/of/an/access/key/0000000"
	rds.AddKey(next)
	p.users[d.name] = clientToken(t, rds.Endpoint(), d.name, next)
	one(t, p.connect(t, options...), "SELECT 1")
	if s := rds.Stats(); s.Logins != 3 || s.DistinctTokens != 2 {
		t.Errorf("with a second token: %d logins with %d tokens", s.Logins, s.DistinctTokens)
	}
	p.stop()
	for _, secret := range []string{token, token[strings.Index(token, "X-Amz-Signature="):], accessKey.SessionToken} {
		if strings.Contains(p.log.String(), secret) {
			t.Error("a token is in the log")
		}
	}
}

// TestClientTokenLog: a server that cannot be opened with a client's token is
// logged with what that client has signed, by its key and not by our own.
func TestClientTokenLog(t *testing.T) {
	p, d, rds := withClientTokens(t)
	p.start()
	p.users[d.name] = clientToken(t, rds.Endpoint(), d.name, accessKey)
	options := []string{"user", d.name, "channel_binding", "prefer"}
	one(t, p.connect(t, options...), "BEGIN; SELECT 1")
	second := p.connect(t, options...)
	rds.Set(func(k *backendtest.Knobs) { k.Refusal = &backendtest.TooManyClients })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = second.Exec(testContext(t), "SELECT 1")
	}()
	line := p.logged(`"reason": "server_full"`)
	host, port, err := net.SplitHostPort(rds.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"iam_host": "` + host + `"`, `"iam_port": ` + port, `"iam_region": "us-east-1"`, `"iam_user": "` + d.name + `"`,
		`"credentials": "a client's"`, `"access_key": "…` + accessKey.ID[len(accessKey.ID)-4:] + `"`,
	} {
		if !strings.Contains(line, want) {
			t.Errorf("the log does not say %s: %s", want, line)
		}
	}
	rds.Set(func(k *backendtest.Knobs) { k.Refusal = nil })
	<-ended
}

// TestClientTokenWrong: what a token says of itself is checked before RDS is
// bothered, and RDS not more than a few times for one who has no right one.
func TestClientTokenWrong(t *testing.T) {
	p, d, rds := withClientTokens(t)
	p.conf.set("client_tls_sslmode", "prefer")
	p.start()
	host, port, err := net.SplitHostPort(rds.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	options := []string{"user", d.name, "channel_binding", "prefer"}
	refused := func(password, want string, more ...string) {
		t.Helper()
		p.users[d.name] = password
		_, err := p.dial(testContext(t), append(options, more...)...)
		var said *pgconn.PgError
		if want = "IAM authentication failed: " + want; !errors.As(err, &said) || said.Code != "28000" || !strings.HasPrefix(said.Message, want) {
			t.Errorf("got %v, want 28000 %s", err, want)
		}
	}
	right := clientToken(t, rds.Endpoint(), d.name, accessKey)
	refused("correct horse", "it is not an IAM token but something else, a password maybe")
	alias := clientToken(t, "alias.example:"+port, d.name, accessKey)
	refused(alias, "it is for alias.example:"+port+", which is not the database's endpoint")
	p.logged("wanted is one for " + d.name + "@" + host)
	refused(alias, "it is for alias.example:"+port+", which is not the database's endpoint", "database", "nowhere")
	refused(clientToken(t, rds.Endpoint(), "postgres", accessKey), fmt.Sprintf(`it is for the user "postgres", not for %q; upper and lower case differ`, d.name))
	refused(right, "a token is taken over TLS only", "sslmode", "disable")
	if s := rds.Stats(); s.Accepted != 0 {
		t.Errorf("%d connections to RDS for tokens that cannot be right", s.Accepted)
	}

	forged := accessKey
	began, made := time.Now(), 0
	for tooMany := false; !tooMany; made++ {
		forged.Secret = fmt.Sprintf("guess number %d", made)
		p.users[d.name] = clientToken(t, rds.Endpoint(), d.name, forged)
		_, err := p.dial(testContext(t), options...)
		var said *pgconn.PgError
		if !errors.As(err, &said) || said.Code != "28000" || !strings.HasPrefix(said.Message, "IAM authentication failed: the server has refused ") {
			t.Fatalf("got %v", err)
		}
		tooMany = strings.Contains(said.Message, "the server has refused too many tokens for this user from this address")
	}
	// One more may be tried every five seconds.
	if n := rds.Stats().Accepted; n < 5 || n > 5+int(time.Since(began)/(5*time.Second)) || n != made-1 {
		t.Errorf("%d forged tokens made %d connections to RDS, want 5", made, n)
	}
}

// TestClientTokenOfLockedRole: the right token of a role that may not log in is
// refused, and not put off.
func TestClientTokenOfLockedRole(t *testing.T) {
	p, d, rds := withClientTokens(t)
	p.start()
	if err := d.pg.Exec(testContext(t), "ALTER ROLE "+d.name+" NOLOGIN"); err != nil {
		t.Fatal(err)
	}
	p.users[d.name] = clientToken(t, rds.Endpoint(), d.name, accessKey)
	_, err := p.dial(testContext(t), "user", d.name, "channel_binding", "prefer")
	var said *pgconn.PgError
	if !errors.As(err, &said) || said.Code != "28000" || !strings.HasPrefix(said.Message, "IAM authentication failed: the server has refused the token") {
		t.Errorf("got %v", err)
	}
	if line := p.logged("refused: "); !strings.Contains(line, "is not permitted to log in") || !strings.Contains(line, "ALTER ROLE … LOGIN") {
		t.Errorf("the log says %s", line)
	}
}

// TestClientTokenNotProved: why the server cannot be asked is for the log, and
// not for one who has not proved anything.
func TestClientTokenNotProved(t *testing.T) {
	p, d, rds := withClientTokens(t)
	p.start()
	p.users[d.name] = clientToken(t, rds.Endpoint(), d.name, accessKey)
	options := []string{"user", d.name, "channel_binding", "prefer"}
	for _, tt := range []struct {
		harm   func()
		logged []string
	}{
		{func() { rds.Set(func(k *backendtest.Knobs) { k.Refusal = &backendtest.TooManyClients }) }, []string{"not proved: ", "sorry, too many clients already", "max_connections"}},
		{func() { rds.Set(func(k *backendtest.Knobs) { k.Refusal = &backendtest.StartingUp }) }, []string{"not proved: ", "the database system is starting up"}},
		{func() { rds.Set(func(k *backendtest.Knobs) { k.Refuse = true }) }, []string{"not proved: ", "server conn crashed?"}},
		{func() {
			if err := rds.RotateCA(); err != nil {
				t.Fatal(err)
			}
		}, []string{"not proved: ", "server certificate verify failed"}},
	} {
		p.log.mark()
		tt.harm()
		_, err := p.dial(testContext(t), options...)
		var said *pgconn.PgError
		const want = "IAM authentication failed: the server cannot be asked about the token now; try again later"
		if !errors.As(err, &said) || said.Code != "57P03" || said.Message != want || said.Detail != "" || said.Hint != "" {
			t.Errorf("got %v, want 57P03 %s", err, want)
		}
		line := p.logged(tt.logged[0])
		for _, part := range tt.logged {
			if !strings.Contains(line, part) {
				t.Errorf("no %q in %s", part, line)
			}
		}
		rds.Set(func(k *backendtest.Knobs) { k.Refusal, k.Refuse = nil, false })
	}
}
