package backend

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

var testKey = backendtest.AccessKey{ID: "AKIAPGVALETTEST00042", Secret: "a/secret+key"}

// rdsTest is a stand-in for RDS and a Target that logs in to it.
type rdsTest struct {
	*backendtest.RDS
	target      *Target
	asked       int      // for tokens
	invalidated int      // tokens
	warnings    []string // of Target.Warn
	tokens      []string // all that were made
}

func startRDS(t *testing.T) *rdsTest {
	t.Helper()
	pg := plainServer.Postgres(t)
	rds, err := backendtest.StartRDS(backendtest.RDSOptions{
		Network: "unix", Address: pg.SocketPath(),
		Keys:     []backendtest.AccessKey{testKey},
		IAMUsers: []string{pg.Superuser},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rds.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("AWS_ACCESS_KEY_ID", testKey.ID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", testKey.Secret)
	t.Setenv("AWS_SESSION_TOKEN", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	source := auth.NewTokenSource(auth.TokenSourceConfig{})
	t.Cleanup(source.Close)

	r := &rdsTest{RDS: rds}
	r.target = targetAt(t, rds.Addr())
	r.target.User, r.target.DBName = pg.Superuser, "postgres"
	r.target.SSLMode = config.SSLVerifyFull
	r.target.TLSConfig = &tls.Config{RootCAs: rds.CA().Pool()}
	r.target.ServerName = backendtest.DefaultRDSHost
	r.target.Warn = func(msg string, err error) { r.warnings = append(r.warnings, msg+": "+err.Error()) }
	key := auth.TokenKey{Host: backendtest.DefaultRDSHost, Port: r.target.Port, Region: rds.Region(), User: pg.Superuser}
	r.target.IAM = &IAM{
		Token: func(ctx context.Context) (auth.Token, error) {
			r.asked++
			token, err := source.Token(ctx, key)
			r.tokens = append(r.tokens, token.Reveal())
			return token, err
		},
		Invalidate: func(token auth.Token) {
			r.invalidated++
			source.Invalidate(key, token)
		},
	}
	return r
}

// noTokenIn fails if an error or a warning contains a token or its signature.
func (r *rdsTest) noTokenIn(t *testing.T, err error) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v %q", err, err, err, r.warnings)
	for _, token := range r.tokens {
		_, signature, _ := strings.Cut(token, "X-Amz-Signature=")
		if signature == "" || strings.Contains(text, signature) {
			t.Errorf("token %q in %s", token, text)
		}
	}
}

func TestIAMLogin(t *testing.T) {
	for _, mode := range []config.SSLMode{config.SSLVerifyFull, config.SSLVerifyCA} {
		r := startRDS(t)
		r.target.SSLMode = mode
		l := mustConnect(t, r.target)
		if got := ask(t, l, "SELECT current_user"); got[0] != r.target.User {
			t.Errorf("logged in as %q", got)
		}
		if s := r.Stats(); s.Logins != 1 || r.asked != 1 || r.invalidated != 0 || len(r.warnings) != 0 {
			t.Errorf("%+v, %d asked, %d invalidated, %q", s, r.asked, r.invalidated, r.warnings)
		}
	}
}

// A refusal may pass: the login is tried once more, with a new token.
func TestIAMRefusedOnce(t *testing.T) {
	r := startRDS(t)
	r.Set(func(k *backendtest.Knobs) { k.RejectAll = true })
	invalidate := r.target.IAM.Invalidate
	r.target.IAM.Invalidate = func(token auth.Token) {
		r.Set(func(k *backendtest.Knobs) { k.RejectAll = false })
		invalidate(token)
	}
	mustConnect(t, r.target)
	if s := r.Stats(); s.Logins != 1 || s.Accepted != 2 || r.asked != 2 || r.invalidated != 1 {
		t.Errorf("%+v, %d asked, %d invalidated", s, r.asked, r.invalidated)
	}
	if len(r.warnings) != 1 || !strings.Contains(r.warnings[0], "PAM authentication failed") {
		t.Errorf("warnings %q", r.warnings)
	}
	r.noTokenIn(t, nil)
}

func TestIAMRefused(t *testing.T) {
	r := startRDS(t)
	r.RevokeKey(testKey.ID)
	_, err := Connect(testContext(t), r.target)
	wantLoginError(t, err, "28000", `PAM authentication failed for user "postgres"`)
	if s := r.Stats(); s.Accepted != 2 || r.asked != 2 || r.invalidated != 1 {
		t.Errorf("%+v, %d asked, %d invalidated", s, r.asked, r.invalidated)
	}
	for _, want := range []string{
		"host and port " + r.Endpoint(), "region us-east-1", `user "postgres"`, "access key …0042",
		"rds-db:connect on arn:aws:rds-db:us-east-1:ACCOUNT:dbuser:RESOURCE-ID/postgres", "clock", "iam_host",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	r.noTokenIn(t, err)
}

func TestIAMNotAsked(t *testing.T) {
	for _, method := range []backendtest.AuthMethod{backendtest.SCRAM, backendtest.MD5} {
		r := startRDS(t)
		r.Set(func(k *backendtest.Knobs) { k.IAMUsers, k.Challenge = nil, method })
		r.target.Password = auth.ParseSecret("never sent")
		_, err := Connect(testContext(t), r.target)
		wantConnectError(t, err, AuthImpossible, "server login failed: server did not ask for a cleartext password: its role is not a member of rds_iam, or IAM database authentication is disabled",
			`role "postgres" is not a member of rds_iam, or IAM database authentication is disabled`)
		if s := r.Stats(); s.DistinctTokens != 0 || s.Accepted != 1 || len(s.Refused) != 0 {
			t.Errorf("%s: %+v", method, s)
		}
		r.noTokenIn(t, err)
	}
}

// A server that believes everybody proves nothing of a token.
func TestIAMNotWanted(t *testing.T) {
	pg, ca := tlsServer.postgres(t)
	target := *startRDS(t).target
	at := targetAt(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(pg.Port)))
	target.Host, target.Port, target.User = at.Host, at.Port, "needs_tls"
	target.TLSConfig, target.ServerName = &tls.Config{RootCAs: ca.Pool()}, "pg.test"
	_, err := ConnectWith(testContext(t), &target, auth.Token{})
	wantConnectError(t, err, AuthImpossible, "server login failed: server did not ask for the IAM token", "needs_tls")
	_, err = Connect(testContext(t), &target)
	wantConnectError(t, err, AuthImpossible, "server login failed: server did not ask for the IAM token", "needs_tls")
}

// Without TLS that proves who the server is, no token is even made.
func TestIAMNeedsVerifiedTLS(t *testing.T) {
	for _, test := range []struct {
		change func(*Target)
		reason string
	}{
		{func(t *Target) { t.SSLMode = config.SSLDisable }, "sslmode is disable"},
		{func(t *Target) { t.SSLMode = config.SSLPrefer }, "sslmode is prefer"},
		{func(t *Target) { t.SSLMode = config.SSLRequire }, "sslmode is require"},
		{func(t *Target) { t.SSLMode, t.TLSConfig = config.SSLVerifyCA, nil }, "the system's authorities"},
		{func(t *Target) { t.SSLMode, t.TLSConfig = config.SSLVerifyCA, &tls.Config{} }, "the system's authorities"},
		{func(t *Target) { t.Host = "/tmp" }, "unix socket"},
	} {
		r := startRDS(t)
		test.change(r.target)
		_, err := Connect(testContext(t), r.target)
		wantConnectError(t, err, BadTarget, "server login failed: bad configuration", test.reason)
		if s := r.Stats(); s.Accepted != 0 || r.asked != 0 {
			t.Errorf("%+v, %d asked", s, r.asked)
		}
	}
}

func TestIAMWrongCertificate(t *testing.T) {
	r := startRDS(t)
	r.target.ServerName = "other.cluster-c0abcdefghij.us-east-1.rds.amazonaws.com"
	_, err := Connect(testContext(t), r.target)
	wantConnectError(t, err, BadCertificate, "server certificate verify failed", "server_tls_name")

	r.target.ServerName = backendtest.DefaultRDSHost
	if err := r.RotateCA(); err != nil {
		t.Fatal(err)
	}
	_, err = Connect(testContext(t), r.target)
	wantConnectError(t, err, BadCertificate, "server certificate verify failed",
		"curl -O https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem")
	if s := r.Stats(); s.DistinctTokens != 0 {
		t.Errorf("the token went out: %+v", s)
	}
}

func TestIAMNoToken(t *testing.T) {
	r := startRDS(t)
	why := errors.New("no credentials")
	r.target.IAM.Token = func(context.Context) (auth.Token, error) { return auth.Token{}, why }
	_, err := Connect(testContext(t), r.target)
	wantConnectError(t, err, NoToken, "server login failed: no IAM token", "no credentials")
	if !errors.Is(err, why) || r.Stats().Accepted != 0 {
		t.Errorf("%v, %+v", err, r.Stats())
	}

	r.target.IAM.Token = func(context.Context) (auth.Token, error) { return auth.Token{}, ErrNoClientToken }
	_, err = Connect(testContext(t), r.target)
	wantConnectError(t, err, NoToken, "server login failed: no IAM token: no client of this database and user has presented one that is still valid", "no client")
	if e := Explain(err); e.Reason != NoCredentials || !strings.Contains(e.Hint, "client_token") {
		t.Errorf("explained as %+v", e)
	}

	// Credentials that never come do not hold a login for ever.
	r.target.ConnectTimeout = 100 * time.Millisecond
	r.target.IAM.Token = func(ctx context.Context) (auth.Token, error) { <-ctx.Done(); return auth.Token{}, ctx.Err() }
	_, err = Connect(testContext(t), r.target)
	wantConnectError(t, err, NoToken, "server login failed: no IAM token: the source of the aws credentials does not answer", "deadline exceeded")
}

func TestIAMCancelledInPause(t *testing.T) {
	r := startRDS(t)
	r.Set(func(k *backendtest.Knobs) { k.RejectAll = true })
	ctx, cancel := context.WithCancel(testContext(t))
	r.target.IAM.Invalidate = func(auth.Token) { cancel() }
	if _, err := Connect(ctx, r.target); !errors.Is(err, context.Canceled) || r.asked != 1 {
		t.Errorf("%v after %d tokens", err, r.asked)
	}
}

// A server that lets the role in without asking has seen no token, and one that
// refuses it for another reason than the token is not asked twice.
func TestIAMOtherRefusals(t *testing.T) {
	r := startRDS(t)
	cert, err := r.CA().Issue(backendtest.DefaultRDSHost)
	if err != nil {
		t.Fatal(err)
	}
	server := backendtest.StartScript(t, backendtest.Script{
		backendtest.AcceptTLS(&tls.Config{Certificates: []tls.Certificate{cert.TLS}}),
		backendtest.ExpectStartup(nil),
		backendtest.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28000", Message: "no pg_hba.conf entry"}),
	})
	r.target.Port = scriptTarget(t, server).Port
	_, err = Connect(testContext(t), r.target)
	wantLoginError(t, err, "28000", "no pg_hba.conf entry")
	if r.asked != 1 || r.invalidated != 0 {
		t.Errorf("%d asked, %d invalidated", r.asked, r.invalidated)
	}
}

// RDS Proxy has texts of its own, and not all of those with 28000 are about the
// token.
func TestIAMRefusedByProxy(t *testing.T) {
	for _, tt := range []struct {
		refusal      backendtest.Refusal
		asked        int
		tokenRefused bool
		reason       Reason
		hint         string
	}{
		{backendtest.ProxyTokenRefused, 2, true, TokenRefused, "(prx-…)"},
		{backendtest.ProxyRoleRefused, 2, true, TokenRefused, "(prx-…)"},
		{backendtest.ProxyTooManyRequests, 2, false, LoginThrottled, "iam_login_rate"},
		{backendtest.ProxyTooFast, 2, false, LoginThrottled, "iam_login_rate"},
		{backendtest.ProxyTooManyClients, 1, false, ServerFull, "no more clients"},
		{backendtest.ProxyWrongPassword, 1, false, PasswordRefused, "IAMAuth"},
		{backendtest.ProxyNoSecret, 1, false, NoSuchDatabase, "Secrets Manager"},
		{backendtest.ProxyNoConnection, 1, false, ServerFull, "MaxConnectionsPercent"},
	} {
		r := startRDS(t)
		r.Set(func(k *backendtest.Knobs) { k.Refusal = &tt.refusal })
		_, err := Connect(testContext(t), r.target)
		wantLoginError(t, err, tt.refusal.Code, tt.refusal.Message)
		if IsTokenRefused(err) != tt.tokenRefused || r.asked != tt.asked || (r.invalidated > 0) != tt.tokenRefused {
			t.Errorf("%s: token refused: %v, %d asked, %d invalidated", tt.refusal.Message, IsTokenRefused(err), r.asked, r.invalidated)
		}
		if e := Explain(err); e.Reason != tt.reason || !strings.Contains(e.Hint, tt.hint) {
			t.Errorf("%s: explained as %+v", tt.refusal.Message, e)
		}
	}
}

// Who asks for another proof than a token, and for which, decides what to look at.
func TestNotAskedForToken(t *testing.T) {
	const proxy = "orders.proxy-c0abcdefghij.us-east-1.rds.amazonaws.com"
	for _, tt := range []struct {
		host        string
		method      uint32
		replication Replication
		want        string
	}{
		{backendtest.DefaultRDSHost, pgproto3.AuthTypeSASL, NoReplication, "GRANT rds_iam TO"},
		{backendtest.DefaultRDSHost, pgproto3.AuthTypeSASL, LogicalReplication, "rds.iam_auth_for_replication"},
		{backendtest.DefaultRDSHost, pgproto3.AuthTypeGSS, NoReplication, "REVOKE rds_ad FROM"},
		{proxy, pgproto3.AuthTypeSASL, NoReplication, "IAMAuth"},
	} {
		target := Target{Host: "10.0.0.1", Replication: tt.replication, IAM: &IAM{Key: auth.TokenKey{Host: tt.host}}}
		s := session{attempt: &attempt{t: &target}}
		err := s.answer(binary.BigEndian.AppendUint32(nil, tt.method))
		if e := Explain(err); e.Reason != NotInRDSIAM || !strings.Contains(e.Hint, tt.want) {
			t.Errorf("%s, %d: explained as %+v", tt.host, tt.method, e)
		}
	}
}

// What PAM says comes from the database, also when it comes from a proxy.
func TestSuspicionOfProxy(t *testing.T) {
	const pam = `PAM authentication failed for user "app"`
	proxy := signature{endpoint: "orders.proxy-c0abcdefghij.us-east-1.rds.amazonaws.com:5432", region: "us-east-1"}
	cluster := signature{endpoint: "orders.cluster-c0abcdefghij.us-east-1.rds.amazonaws.com:5432", region: "us-east-1"}
	for _, tt := range []struct {
		s    signature
		said string
		want string
	}{
		{proxy, pam, "the proxy's own role"},
		{proxy, backendtest.ProxyRoleRefused.Message, ""},
		{cluster, pam, ""},
	} {
		if got := tt.s.suspicion(tt.said); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%s, %s: %q", tt.s.endpoint, tt.said, got)
		}
	}
}

// Which limit is reached decides what to look at.
func TestExplainRefusals(t *testing.T) {
	for _, tt := range []struct {
		refusal backendtest.Refusal
		reason  Reason
		hint    string
	}{
		{backendtest.TooManyClients, ServerFull, "max_connections"},
		{backendtest.TooManyOfRole, ServerFull, "ALTER ROLE … CONNECTION LIMIT"},
		{backendtest.TooManyOfDatabase, ServerFull, "ALTER DATABASE … CONNECTION LIMIT"},
		{backendtest.OutOfMemory, ServerFull, "FreeableMemory"},
		{backendtest.DiskFull, ServerFull, "FreeStorageSpace"},
		{backendtest.NoConnections, NoSuchDatabase, "ALLOW_CONNECTIONS"},
		{backendtest.NotPermitted, NoSuchDatabase, "CONNECT"},
	} {
		r := startRDS(t)
		r.Set(func(k *backendtest.Knobs) { k.Refusal = &tt.refusal })
		_, err := Connect(testContext(t), r.target)
		if e := Explain(err); e.Reason != tt.reason || !strings.Contains(e.Hint, tt.hint) {
			t.Errorf("%s: explained as %+v", tt.refusal.Message, e)
		}
	}
	r := startRDS(t)
	r.Set(func(k *backendtest.Knobs) { k.NoProcess = true })
	_, err := Connect(testContext(t), r.target)
	wantConnectError(t, err, ConnectionLost, "server conn crashed?", "no process for the connection")
	if e := Explain(err); e.Reason != ServerFull || !strings.Contains(e.Hint, "FreeableMemory") {
		t.Errorf("explained as %+v", e)
	}
}

// Aurora DSQL refuses a token with 28000 or with 08006, and says of whom: that is
// for the log and not for clients.
func TestIAMRefusedByDSQL(t *testing.T) {
	for _, tt := range []struct {
		refusal backendtest.Refusal
		action  string
		hint    string
	}{
		{backendtest.DSQLDenied, "dsql:DbConnect", "allows dsql:DbConnect on the cluster"},
		{backendtest.DSQLDenied, "rds-db:connect", "set server_auth to dsql"},
		{backendtest.DSQLTooOld, "dsql:DbConnectAdmin", "clock is slow"},
	} {
		r := startRDS(t)
		r.Set(func(k *backendtest.Knobs) { k.Refusal = &tt.refusal })
		if tt.action != "rds-db:connect" {
			r.target.IAM.Key.Service = auth.DSQL
		}
		_, err := Connect(testContext(t), r.target)
		wantLoginError(t, err, tt.refusal.Code, tt.refusal.Message)
		e := Explain(err)
		if !IsTokenRefused(err) || e.Reason != TokenRefused || r.asked != 2 || r.invalidated == 0 {
			t.Errorf("%s: token refused: %v, %v, %d asked, %d invalidated", tt.action, IsTokenRefused(err), e.Reason, r.asked, r.invalidated)
		}
		if !strings.Contains(e.Hint, tt.hint) || strings.Contains(e.Detail+e.Hint, "123456789012") {
			t.Errorf("%s: explained as %+v", tt.action, e)
		}
		if !strings.Contains(err.Error(), tt.refusal.Hint) {
			t.Errorf("the log does not have the server's hint: %v", err)
		}
	}
	for refusal, want := range map[*backendtest.Refusal]Explanation{
		&backendtest.DSQLWakesUp:     {NotReady, "", "wakes up"},
		&backendtest.DSQLTooManyOpen: {ServerFull, "", "quota"},
		&backendtest.DSQLTooFast:     {LoginThrottled, "", "iam_login_rate"},
	} {
		r := startRDS(t)
		r.Set(func(k *backendtest.Knobs) { k.Refusal = refusal })
		_, err := Connect(testContext(t), r.target)
		if e := Explain(err); e.Reason != want.Reason || !strings.Contains(e.Hint, want.Hint) {
			t.Errorf("%s: explained as %+v", refusal.Message, e)
		}
	}
}

// Aurora DSQL takes tokens of another kind, and has other words.
func TestDSQLLogin(t *testing.T) {
	const host = "abcdefghijklmnopqrst012345.dsql.eu-west-1.on.aws"
	pg := plainServer.Postgres(t)
	rds, err := backendtest.StartRDS(backendtest.RDSOptions{
		DSQL: true, Network: "unix", Address: pg.SocketPath(), Hosts: []string{host}, Region: "eu-west-1",
		Keys: []backendtest.AccessKey{testKey}, IAMUsers: []string{pg.Superuser, "admin"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer rds.Close()
	if err := pg.Exec(testContext(t), "CREATE ROLE admin LOGIN"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pg.Exec(context.Background(), "DROP ROLE admin"); err != nil {
			t.Error(err)
		}
	}()
	t.Setenv("AWS_ACCESS_KEY_ID", testKey.ID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", testKey.Secret)
	source := auth.NewTokenSource(auth.TokenSourceConfig{})
	defer source.Close()
	for _, user := range []string{pg.Superuser, "admin"} {
		key := auth.TokenKey{Service: auth.DSQL, Host: host, Region: "eu-west-1", User: user}
		target := targetAt(t, rds.Addr())
		target.User, target.DBName = user, "postgres"
		target.SSLMode, target.TLSConfig, target.ServerName = config.SSLVerifyFull, &tls.Config{RootCAs: rds.CA().Pool()}, host
		target.IAM = &IAM{
			Key:        key,
			Token:      func(ctx context.Context) (auth.Token, error) { return source.Token(ctx, key) },
			Invalidate: func(token auth.Token) { source.Invalidate(key, token) },
		}
		l := mustConnect(t, target)
		if got := ask(t, l, "SELECT current_user"); got[0] != user {
			t.Errorf("logged in as %q", got)
		}
		if user == "admin" { // the other's token does not do
			key.User = "app"
			target.IAM.Key = key
			_, err := Connect(testContext(t), target)
			wantLoginError(t, err, "28000", "unable to accept connection, access denied")
			if e := Explain(err); !strings.Contains(e.Hint, "allows dsql:DbConnect on the cluster") || strings.Contains(e.Hint, "RDS") {
				t.Errorf("explained as %+v", e)
			}
			if want := "allows dsql:DbConnect on arn:aws:dsql:eu-west-1:ACCOUNT:cluster/"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("no %q in %v", want, err)
			}
			key.User = user
			rds.Set(func(k *backendtest.Knobs) { k.RejectAll = true })
			target.IAM.Key = key
			_, err = Connect(testContext(t), target)
			if e := Explain(err); !strings.Contains(e.Hint, "allows dsql:DbConnectAdmin on the cluster") {
				t.Errorf("explained as %+v", e)
			}
		}
	}
}
