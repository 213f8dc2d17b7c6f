package backendtest

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// startRDS starts a stand-in for a test of its own, before the shared
// PostgreSQL and with the test keys.
func startRDS(t *testing.T, o RDSOptions) *RDS {
	t.Helper()
	pg := shared.Postgres(t)
	o.Network, o.Address = "unix", pg.SocketPath()
	if o.Keys == nil {
		o.Keys = []AccessKey{longTermKey, temporaryKey}
	}
	r, err := StartRDS(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// createRole makes a role in the shared PostgreSQL and returns its name.
func createRole(t *testing.T, name string) string {
	t.Helper()
	if err := shared.Postgres(t).CreateLogin(testContext(t), name, Trust, ""); err != nil {
		t.Fatal(err)
	}
	return name
}

// connectRDS logs in through the stand-in with TLS verified in full.
func connectRDS(ctx context.Context, r *RDS, user, password string, settings ...string) (*pgx.Conn, error) {
	u := url.URL{Scheme: "postgres", Host: r.Addr(), Path: "/postgres", RawQuery: strings.Join(settings, "&")}
	config, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(r.Endpoint())
	if err != nil {
		return nil, err
	}
	config.User, config.Password, config.Fallbacks = user, password, nil
	config.TLSConfig = &tls.Config{RootCAs: r.CA().Pool(), ServerName: host}
	return pgx.ConnectConfig(ctx, config)
}

func tokenFor(t *testing.T, r *RDS, user string, key AccessKey) string {
	t.Helper()
	return sdkToken(t, r.Endpoint(), r.Region(), user, key)
}

// wantPAMFailure checks for the one answer to every bad token.
func wantPAMFailure(t *testing.T, err error, user string) {
	t.Helper()
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		t.Errorf("%v, want PostgreSQL's error", err)
		return
	}
	if pgErr.Code != "28000" || pgErr.Message != `PAM authentication failed for user "`+user+`"` ||
		pgErr.Severity != "FATAL" || pgErr.Routine != "auth_failed" {
		t.Errorf("%+v", *pgErr)
	}
}

func TestLoginThroughTheStandIn(t *testing.T) {
	ctx := testContext(t)
	for _, name := range []string{"through rds", "a b+c/é@x"} {
		user := createRole(t, name)
		r := startRDS(t, RDSOptions{IAMUsers: []string{user}})
		for _, key := range []AccessKey{longTermKey, temporaryKey} {
			conn, err := connectRDS(ctx, r, user, tokenFor(t, r, user, key), "application_name=carried%20over")
			if err != nil {
				t.Fatal(err)
			}
			var who, db, app string
			var addr *string
			var pid uint32
			if err := conn.QueryRow(ctx, "SELECT session_user::text, current_database()::text, current_setting('application_name'), inet_client_addr()::text, pg_backend_pid()").
				Scan(&who, &db, &app, &addr, &pid); err != nil {
				t.Fatal(err)
			}
			if who != user || db != "postgres" || app != "carried over" || addr != nil || pid != conn.PgConn().PID() {
				t.Errorf("user %q, database %q, application %q, address %v, pid %d and %d", who, db, app, addr, pid, conn.PgConn().PID())
			}
			if err := conn.Close(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := r.Wait(ctx, func(s Stats) bool { return s.Open == 0 }); err != nil {
			t.Error(err)
		}
		s := r.Stats()
		if s.Logins != 2 || s.Accepted != 2 || s.Handshakes != 2 || s.DistinctTokens != 2 || len(s.Refused) != 0 || s.PeakOpen < 1 {
			t.Errorf("%+v", s)
		}
	}
}

func TestManyRowsPassBothWays(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds bulk")
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}})
	conn, err := connectRDS(ctx, r, user, tokenFor(t, r, user, longTermKey))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	big := strings.Repeat("x", 3<<20)
	var back string
	if err := conn.QueryRow(ctx, "SELECT $1::text", big).Scan(&back); err != nil || back != big {
		t.Errorf("%d bytes came back: %v", len(back), err)
	}
}

func TestCancelThroughTheStandIn(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds cancel")
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}})
	for _, secure := range []bool{false, true} {
		conn, err := connectRDS(ctx, r, user, tokenFor(t, r, user, longTermKey))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		packet := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e}, conn.PgConn().PID())
		packet = append(packet, conn.PgConn().SecretKey()...)
		done := make(chan error, 1)
		go func() {
			_, err := conn.Exec(ctx, "SELECT pg_sleep(60)")
			done <- err
		}()
		// A cancel that comes before the query is in vain, so send more until
		// one is not. Each is over when the stand-in hangs up.
		var queryErr error
		for queryErr == nil {
			cancel := dialRDS(t, r.Addr(), secure)
			if _, err := cancel.Write(packet); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(cancel); len(rest) > 0 || err != nil {
				t.Fatalf("answer %q, %v to a cancel", rest, err)
			}
			select {
			case queryErr = <-done:
			default:
			}
		}
		if sqlState(queryErr) != "57014" {
			t.Errorf("query ended with %v", queryErr)
		}
		if r.Stats().Cancels == 0 {
			t.Error("no cancel counted")
		}
	}
}

// Each refusal of a token: the same words for the client, others for the log.
func TestRefusedTokens(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds refused")
	expired := AccessKey{ID: "ASIAPGVALETTEST00010", Secret: "s", SessionToken: "t", Expires: time.Now().Add(-time.Minute)}
	confined := AccessKey{ID: "AKIAPGVALETTEST00011", Secret: "s", Users: []string{"other"}, Principal: "arn:aws:sts::123456789012:assumed-role/R/S"}
	const invalid = "because the provided token is malformed or otherwise invalid. (Status Code: 400, Error Code: InvalidToken)"
	for _, tt := range []struct {
		want  Reason
		key   AccessKey
		token func(r *RDS) string // default: a good one
		knobs func(k *Knobs)
		log   string
	}{
		{want: Malformed, token: func(*RDS) string { return "hunter2" }, log: invalid},
		{want: BadSignature, key: AccessKey{ID: longTermKey.ID, Secret: "guessed"}, log: invalid},
		{want: UnknownKey, key: AccessKey{ID: "AKIAPGVALETTEST00012", Secret: "s"}, log: invalid},
		{want: WrongSessionToken, key: AccessKey{ID: temporaryKey.ID, Secret: temporaryKey.Secret}, log: invalid},
		{want: WrongHost, key: longTermKey, token: func(r *RDS) string { return sdkToken(t, r.Addr(), r.Region(), user, longTermKey) }, log: invalid},
		{want: WrongRegion, token: func(r *RDS) string { return sdkToken(t, r.Endpoint(), "eu-west-1", user, longTermKey) }, log: invalid},
		{want: WrongUser, token: func(r *RDS) string { return tokenFor(t, r, "other", longTermKey) }, log: invalid},
		{want: NotYetValid, key: longTermKey, knobs: func(k *Knobs) { k.ClockOffset = -time.Hour }, log: invalid},
		{want: Expired, key: longTermKey, knobs: func(k *Knobs) { k.ClockOffset = time.Hour }, log: "because the token age is longer than 15 minutes. (Status Code: 400, Error Code: ExpiredToken)"},
		{want: CredentialsExpired, key: expired, log: invalid},
		{want: NotAuthorized, key: confined, log: "because the IAM policy assumed by the caller 'arn:aws:sts::123456789012:assumed-role/R/S' is not authorized to perform rds-db:connect on the DB instance. (Status Code: 403, Error Code: NotAuthorized)"},
		{want: InternalError, key: longTermKey, knobs: func(k *Knobs) { k.RejectAll = true }, log: "due to an internal IAM DB authentication error. (Status Code: 500, Error Code: InternalError)"},
	} {
		t.Run(string(tt.want), func(t *testing.T) {
			core, logs := observer.New(zap.InfoLevel)
			r := startRDS(t, RDSOptions{
				IAMUsers: []string{user},
				Keys:     []AccessKey{longTermKey, temporaryKey, expired, confined},
				Log:      zap.New(core),
			})
			if tt.knobs != nil {
				r.Set(tt.knobs)
			}
			var token string
			if tt.token != nil {
				token = tt.token(r)
			} else {
				token = tokenFor(t, r, user, tt.key)
			}
			_, err := connectRDS(ctx, r, user, token)
			wantPAMFailure(t, err, user)
			if s := r.Stats(); s.Refused[tt.want] != 1 || len(s.Refused) != 1 || s.Logins != 0 {
				t.Errorf("%+v", s)
			}
			entries := logs.All()
			if len(entries) != 1 || !strings.HasSuffix(entries[0].Message, tt.log) || !strings.Contains(entries[0].Message, "request for user "+user+" ") ||
				entries[0].ContextMap()["reason"] != string(tt.want) {
				t.Errorf("log: %+v", entries)
			}
		})
	}
}

func TestRevokedKeyAndNewKey(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds keys")
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}})
	newKey := AccessKey{ID: "AKIAPGVALETTEST00020", Secret: "new"}
	r.RevokeKey(longTermKey.ID)
	r.AddKey(newKey)
	_, err := connectRDS(ctx, r, user, tokenFor(t, r, user, longTermKey))
	wantPAMFailure(t, err, user)
	conn, err := connectRDS(ctx, r, user, tokenFor(t, r, user, newKey))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if s := r.Stats(); s.Refused[RevokedKey] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestThrottle(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds throttle")
	now := time.Now() // and stays so: all logins are in one second
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}, Clock: func() time.Time { return now }})
	r.Set(func(k *Knobs) { k.PerSecond = 2 })
	token := tokenFor(t, r, user, longTermKey)
	for i := range 3 {
		conn, err := connectRDS(ctx, r, user, token)
		if i < 2 {
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(ctx)
		} else {
			wantPAMFailure(t, err, user)
		}
	}
	r.Set(func(k *Knobs) { k.ClockOffset = time.Second })
	conn, err := connectRDS(ctx, r, user, token)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if s := r.Stats(); s.Refused[Throttled] != 1 || s.Logins != 3 || s.DistinctTokens != 1 {
		t.Errorf("%+v", s)
	}
}

func TestRefuseAndDropConnections(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds drop")
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}})
	token := tokenFor(t, r, user, longTermKey)
	conn, err := connectRDS(ctx, r, user, token)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	r.Set(func(k *Knobs) { k.Refuse = true })
	if _, err := connectRDS(ctx, r, user, token); err == nil || sqlState(err) != "" {
		t.Errorf("error %v, want a closed connection", err)
	}
	if _, err := conn.Exec(ctx, "SELECT 1"); err != nil {
		t.Errorf("the open connection was refused too: %v", err)
	}
	if n := r.DropConnections(); n != 1 {
		t.Errorf("dropped %d connections", n)
	}
	if err := r.Wait(ctx, func(s Stats) bool { return s.Open == 0 }); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(ctx, "SELECT 1"); err == nil || sqlState(err) != "" {
		t.Errorf("error %v, want a closed connection", err)
	}
	r.Set(func(k *Knobs) { k.Refuse = false })
	if conn, err = connectRDS(ctx, r, user, token); err != nil {
		t.Fatal(err)
	}
	conn.Close(ctx)
}

func TestLatency(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds latency")
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}})
	const latency = 60 * time.Millisecond
	r.Set(func(k *Knobs) { k.AcceptLatency, k.AuthLatency = latency, latency })
	start := time.Now()
	_, err := connectRDS(ctx, r, user, "bad")
	wantPAMFailure(t, err, user)
	if took := time.Since(start); took < 2*latency {
		t.Errorf("took %v", took)
	}
}

func TestRenamedEndpoint(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds rename")
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}, Hosts: []string{"green.example.com", "blue.example.com"}})
	before := tokenFor(t, r, user, longTermKey)
	r.Set(func(k *Knobs) { k.Hosts = []string{"blue.example.com"} })
	_, err := connectRDS(ctx, r, user, before)
	wantPAMFailure(t, err, user)
	if !strings.HasPrefix(r.Endpoint(), "blue.example.com:") {
		t.Errorf("endpoint %s", r.Endpoint())
	}
	conn, err := connectRDS(ctx, r, user, tokenFor(t, r, user, longTermKey))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(ctx)
}

func TestRotateCA(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds rotate")
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}})
	old := r.CA()
	if err := r.RotateCA(); err != nil {
		t.Fatal(err)
	}
	conn, err := connectRDS(ctx, r, user, tokenFor(t, r, user, longTermKey))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(ctx)
	raw := dialRDS(t, r.Addr(), false)
	if _, err := raw.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(raw, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(raw, &tls.Config{RootCAs: old.Pool(), ServerName: DefaultRDSHost}).HandshakeContext(ctx); err == nil {
		t.Error("the old CA still holds")
	}
}

func TestMembersOfRDSIAMChange(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds member")
	r := startRDS(t, RDSOptions{})
	token := tokenFor(t, r, user, longTermKey)
	for _, challenge := range []AuthMethod{SCRAM, MD5} {
		r.Set(func(k *Knobs) { k.Challenge = challenge })
		if _, err := connectRDS(ctx, r, user, token); sqlState(err) != "28P01" {
			t.Errorf("%s: %v", challenge, err)
		}
	}
	if s := r.Stats(); s.Refused[NotIAM] != 2 {
		t.Errorf("%+v", s)
	}
	r.Set(func(k *Knobs) { k.IAMUsers = []string{user} })
	conn, err := connectRDS(ctx, r, user, token)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(ctx)
}

// A session token may make the password up to 65,530 bytes long; one byte
// more, and PostgreSQL hangs up without a word.
func TestLongTokens(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds long")
	key := AccessKey{ID: "ASIAPGVALETTEST00030", Secret: "s", SessionToken: "t"}
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}})
	key.SessionToken = strings.Repeat("t", 65530+1-len(tokenFor(t, r, user, key)))
	r.AddKey(key)
	conn, err := connectRDS(ctx, r, user, tokenFor(t, r, user, key))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(ctx)

	key.SessionToken += "t"
	r.AddKey(key)
	if _, err := connectRDS(ctx, r, user, tokenFor(t, r, user, key)); err == nil || sqlState(err) != "" {
		t.Errorf("error %v, want a closed connection", err)
	}
}

// What PostgreSQL says after authentication reaches the client unchanged.
func TestErrorsOfPostgresPass(t *testing.T) {
	ctx := testContext(t)
	r := startRDS(t, RDSOptions{IAMUsers: []string{"no such role"}})
	if _, err := connectRDS(ctx, r, "no such role", tokenFor(t, r, "no such role", longTermKey)); sqlState(err) != "28000" ||
		!strings.Contains(err.Error(), "does not exist") {
		t.Errorf("error %v", err)
	}
	r.Set(func(k *Knobs) { k.Address += ".gone" })
	if _, err := connectRDS(ctx, r, "no such role", tokenFor(t, r, "no such role", longTermKey)); err == nil || sqlState(err) != "" {
		t.Errorf("error %v, want a closed connection", err)
	}
}

func TestCloseEndsEveryKindOfConnection(t *testing.T) {
	ctx := testContext(t)
	user := createRole(t, "rds close")
	r := startRDS(t, RDSOptions{IAMUsers: []string{user}})
	silent := dialRDS(t, r.Addr(), false)
	inLogin := dialRDS(t, r.Addr(), true)
	open, err := connectRDS(ctx, r, user, tokenFor(t, r, user, longTermKey))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close(ctx)
	r.Set(func(k *Knobs) { k.AcceptLatency = time.Hour })
	slow := dialRDS(t, r.Addr(), false)
	if err := r.Wait(ctx, func(s Stats) bool { return s.Open == 4 }); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	for i, conn := range []net.Conn{silent, inLogin, slow} {
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("connection %d: %d bytes, %v", i, n, err)
		}
	}
	if s := r.Stats(); s.Open != 0 || s.PeakOpen != 4 {
		t.Errorf("%+v", s)
	}
}

func TestRDSListensWhereToldAndWritesItsCA(t *testing.T) {
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	r, err := StartRDS(RDSOptions{Port: port, CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if want := DefaultRDSHost + ":" + strconv.Itoa(port); r.Endpoint() != want {
		t.Errorf("endpoint %s, want %s", r.Endpoint(), want)
	}
	path, err := r.CA().WriteFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Clean(path))
	if err != nil || !slices.Equal(pem, ca.PEM()) {
		t.Errorf("%s: %v", path, err)
	}
}
