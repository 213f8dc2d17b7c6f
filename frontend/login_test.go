package frontend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
)

// connect logs in with pgconn and runs a query.
func (f *fixture) connect(t testing.TB, settings string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	host, port, _ := net.SplitHostPort(f.tcp)
	if !strings.Contains(settings, "sslmode") {
		settings += " sslmode=disable"
	}
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s %s", host, port, settings))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "select 1").ReadAll()
	return err
}

// outcome is "ok", or SQLSTATE and message.
func outcome(err error) string {
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &pg):
		return pg.Code + " " + pg.Message
	}
	return err.Error()
}

func TestAuthentication(t *testing.T) {
	const (
		badPassword = "28P01 password authentication failed"
		badSASL     = "28P01 SASL authentication failed"
		badTrust    = `28000 "trust" authentication failed`
		noDatabase  = "3D000 no such database: nowhere"
	)
	for _, tt := range []struct {
		auth config.AuthType
		user string
		pass string
		db   string
		want string
	}{
		{config.AuthTrust, "plain", "", "shop", "ok"},
		{config.AuthTrust, "nosecret", "", "shop", "ok"},
		{config.AuthTrust, "nobody", password, "shop", badTrust},
		{config.AuthTrust, "nobody", password, "nowhere", badTrust},
		{config.AuthTrust, "plain", "", "nowhere", noDatabase},

		{config.AuthPlain, "plain", password, "shop", "ok"},
		{config.AuthPlain, "md5", password, "shop", "ok"},
		{config.AuthPlain, "scram", password, "shop", "ok"},
		{config.AuthPlain, "plain", "wrong", "shop", badPassword},
		{config.AuthPlain, "scram", "wrong", "shop", badPassword},
		{config.AuthPlain, "nosecret", "wrong", "shop", badPassword},
		{config.AuthPlain, "nobody", password, "shop", badPassword},
		{config.AuthPlain, "nobody", password, "nowhere", badPassword},
		{config.AuthPlain, "plain", "wrong", "nowhere", badPassword},
		{config.AuthPlain, "plain", password, "nowhere", noDatabase},

		{config.AuthMD5, "plain", password, "shop", "ok"},
		{config.AuthMD5, "md5", password, "shop", "ok"},
		{config.AuthMD5, "scram", password, "shop", "ok"},
		{config.AuthMD5, "md5", "wrong", "shop", badPassword},
		{config.AuthMD5, "scram", "wrong", "shop", badSASL},
		{config.AuthMD5, "nosecret", "wrong", "shop", badPassword},
		{config.AuthMD5, "nobody", password, "nowhere", badPassword},
		{config.AuthMD5, "md5", password, "nowhere", noDatabase},

		{config.AuthScram, "plain", password, "shop", "ok"},
		{config.AuthScram, "scram", password, "shop", "ok"},
		{config.AuthScram, "md5", password, "shop", badSASL},
		{config.AuthScram, "scram", "wrong", "shop", badSASL},
		{config.AuthScram, "nosecret", "wrong", "shop", badSASL},
		{config.AuthScram, "nobody", password, "nowhere", badSASL},
		{config.AuthScram, "scram", password, "nowhere", noDatabase},

		{config.AuthPlain, "root", password, "pgbouncer", "ok"},
		{config.AuthScram, "watcher", password, "pgvalet", "ok"},
		{config.AuthPlain, "root", "wrong", "pgbouncer", badPassword},
		{config.AuthPlain, "plain", password, "pgbouncer", "42501 not allowed"},
		{config.AuthTrust, "plain", "", "pgvalet", "42501 not allowed"},
	} {
		t.Run(fmt.Sprintf("%s %s %s %s", tt.auth, tt.user, tt.pass, tt.db), func(t *testing.T) {
			cfg := testConfig()
			cfg.AuthType = tt.auth
			f := start(t, cfg)
			err := f.connect(t, fmt.Sprintf("user=%s password='%s' dbname=%s", tt.user, tt.pass, tt.db))
			if got := outcome(err); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSASLMechanismThatWasNotOffered(t *testing.T) {
	cfg := testConfig()
	cfg.AuthType = config.AuthScram
	f := start(t, cfg)
	conn := f.dial(t, "tcp")
	front := pgproto3.NewFrontend(conn, conn)
	front.Send(&pgproto3.StartupMessage{ProtocolVersion: protocol30, Parameters: map[string]string{"user": "scram", "database": "shop"}})
	front.Send(&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256-PLUS", Data: []byte("p=tls-server-end-point,,n=,r=abc")})
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	want := []string{"AuthenticationSASL", "FATAL 08P01 client selected an invalid SASL authentication mechanism", "EOF"}
	if got := transcript(t, conn, 0); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLoginIsComplete(t *testing.T) {
	f := start(t, testConfig())
	host, _, _ := net.SplitHostPort(f.tcp)
	before := time.Now()
	err := f.connect(t, "user=plain dbname=shop application_name=app options='-c TimeZone=UTC' min_protocol_version=3.2 max_protocol_version=3.2 password='"+password+"'")
	if err != nil {
		t.Fatal(err)
	}
	l := <-f.admitted
	slices.SortFunc(l.Params, func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) })
	if want := []Parameter{{"TimeZone", "UTC"}, {"application_name", "app"}}; !slices.Equal(l.Params, want) {
		t.Errorf("parameters %v, want %v", l.Params, want)
	}
	if l.User != "plain" || l.Database != f.cfg.Databases["shop"] || l.Console || l.TLS != nil || l.Protocol != protocol32 || l.ID != 1 {
		t.Errorf("login %+v", l)
	}
	if l.LocalAddr.String() != f.tcp || !strings.HasPrefix(l.Addr.String(), host) || l.Since.Before(before) || l.Since.After(time.Now()) {
		t.Errorf("from %v to %v since %v", l.Addr, l.LocalAddr, l.Since)
	}
	label := "C-1: shop/plain@" + l.Addr.String()
	if l.Label() != label {
		t.Errorf("label %q, want %q", l.Label(), label)
	}
	f.logged(t, label+" login attempt: db=shop user=plain tls=no replication=no")
}

func TestConsoleTakesAnyParameter(t *testing.T) {
	f := start(t, testConfig())
	if err := f.connect(t, "user=root dbname=pgbouncer geqo=on password='"+password+"'"); err != nil {
		t.Fatal(err)
	}
	if l := <-f.admitted; !l.Console || l.Database != nil || !slices.Contains(l.Params, Parameter{"geqo", "on"}) {
		t.Errorf("login %+v", l)
	}
}

func TestConsoleRights(t *testing.T) {
	cfg := testConfig()
	cfg.StatsUsers = append(cfg.StatsUsers, "both")
	cfg.AdminUsers = append(cfg.AdminUsers, "both")
	for user, want := range map[string][2]bool{"root": {true, false}, "watcher": {false, true}, "both": {true, true}, "plain": {}, "": {}} {
		if admin, stats := consoleRights(cfg, &Login{User: user}); admin != want[0] || stats != want[1] {
			t.Errorf("%q: admin %v, stats %v", user, admin, stats)
		}
	}
	if admin, _ := consoleRights(cfg, &Login{User: "pgbouncer", ownUser: true}); !admin {
		t.Error("the operator is no admin")
	}
	cfg.AuthType = config.AuthAny
	for user, want := range map[string]bool{"root": true, "plain": false} {
		if admin, stats := consoleRights(cfg, &Login{User: user}); admin != want || !stats {
			t.Errorf("auth_type any, %q: admin %v, stats %v", user, admin, stats)
		}
	}
}

func TestCancelRequest(t *testing.T) {
	for _, key := range []string{"abcd", strings.Repeat("k", 256)} {
		f := start(t, testConfig())
		conn := f.dial(t, "tcp")
		if _, err := conn.Write(packet(codeCancel, "\x00\x00\x01\x00"+key)); err != nil {
			t.Fatal(err)
		}
		if got, want := transcript(t, conn, 0), []string{"EOF"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if c := <-f.cancels; c.pid != 256 || c.key != key {
			t.Errorf("cancel %+v", c)
		}
	}
}

// TestClientLimits: how many clients a database and a user may have, who is not
// held up, and that a place is taken by those only who have proved who they are.
func TestClientLimits(t *testing.T) {
	const (
		ofDatabase = "53300 client connections exceeded (max_db_client_connections)"
		ofUser     = "53300 client connections exceeded (max_user_client_connections)"
	)
	login := func(user, database string) string {
		return fmt.Sprintf("user=%s dbname=%s sslmode=disable password='%s'", user, database, password)
	}
	for _, tt := range []struct {
		name        string
		limit       func(*config.Config)
		first, next string
		want        string
	}{
		{"database", func(c *config.Config) { c.Databases["shop"].MaxDBClientConnections = 1 }, login("plain", "shop"), login("scram", "shop"), ofDatabase},
		{"another database", func(c *config.Config) { c.Databases["shop"].MaxDBClientConnections = 1 }, login("plain", "shop"), login("plain", "pgbouncer"), "42501 not allowed"},
		{"user", func(c *config.Config) { c.MaxUserClientConnections = 1 }, login("plain", "shop"), login("plain", "shop"), ofUser},
		{"user of his own", func(c *config.Config) {
			c.Users = map[string]*config.User{"plain": {MaxUserClientConnections: 1}}
		}, login("plain", "shop"), login("plain", "shop"), ofUser},
		{"another user", func(c *config.Config) { c.MaxUserClientConnections = 1 }, login("plain", "shop"), login("scram", "shop"), "ok"},
		{"watcher on the console", func(c *config.Config) { c.MaxUserClientConnections = 1 }, login("watcher", "pgbouncer"), login("watcher", "pgbouncer"), ofUser},
		{"administrator", func(c *config.Config) { c.MaxDBClientConnections, c.MaxUserClientConnections = 1, 1 }, login("root", "pgbouncer"), login("root", "pgbouncer"), "ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := testConfig()
			tt.limit(cfg)
			f := start(t, cfg)
			if got := outcome(f.connect(t, strings.ReplaceAll(tt.first, "correct", "wrong"))); !strings.HasPrefix(got, "28P01") {
				t.Errorf("wrong password: %s", got)
			}
			ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
			defer cancel()
			host, port, _ := net.SplitHostPort(f.tcp)
			first, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s %s", host, port, tt.first))
			if err != nil {
				t.Fatal(err)
			}
			defer first.Close(ctx)
			if got := outcome(f.connect(t, tt.next)); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			first.Close(ctx)
			if !eventually(func() bool { databases, users := f.Connected(); return len(databases)+len(users) == 0 }) {
				t.Error("a place was not given back")
			}
			if got := outcome(f.connect(t, tt.first)); got != "ok" {
				t.Errorf("when there was room again: %s", got)
			}
		})
	}
}

func TestMaxClientConn(t *testing.T) {
	cfg := testConfig()
	cfg.MaxClientConn = 1
	f := start(t, cfg)
	const user = "user=plain dbname=shop sslmode=disable password='" + password + "'"
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	host, port, _ := net.SplitHostPort(f.tcp)
	first, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s %s", host, port, user))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close(ctx)
	if got, want := outcome(f.connect(t, user)), "53300 no more connections allowed (max_client_conn)"; got != want {
		t.Errorf("second client: %q, want %q", got, want)
	}
	if err := f.connect(t, "user=root dbname=pgbouncer password='"+password+"'"); err != nil {
		t.Errorf("console: %v", err)
	}
	first.Close(ctx)
	f.sessions.Wait()
	if n := f.Clients(); n != 0 {
		t.Fatalf("%d clients after release", n)
	}
	// A login that fails gives its place back.
	if got, want := outcome(f.connect(t, strings.Replace(user, password, "wrong", 1))), errPassword.Message; !strings.Contains(got, want) {
		t.Errorf("wrong password: %q", got)
	}
	if err := f.connect(t, user); err != nil {
		t.Errorf("after release: %v", err)
	}
}

func TestShutdownLeavesTheConsole(t *testing.T) {
	f := testOptions(t, testConfig())
	f.ShuttingDown = func() bool { return true }
	f.start(t)
	if got, want := outcome(f.connect(t, "user=plain dbname=shop password='"+password+"'")), "57P03 pooler is shutting down"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := f.connect(t, "user=root dbname=pgvalet password='"+password+"'"); err != nil {
		t.Errorf("console: %v", err)
	}
}

// chunks keeps what each read has brought.
type chunks struct {
	net.Conn
	read [][]byte
}

func (c *chunks) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read = append(c.read, bytes.Clone(p[:n]))
	return n, err
}

// The last word of the authentication, AuthenticationOk and all up to
// ReadyForQuery are one write: the client is woken once.
func TestLoginEndsWithOneWrite(t *testing.T) {
	cfg := testConfig()
	cfg.AuthType = config.AuthScram
	f := start(t, cfg)
	conn := &chunks{Conn: f.dial(t, "tcp")}
	c, err := pgconn.ParseConfig("host=127.0.0.1 user=plain dbname=shop sslmode=disable password='" + password + "'")
	if err != nil {
		t.Fatal(err)
	}
	c.DialFunc = func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	pg, err := pgconn.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer pg.Close(t.Context())
	last := conn.read[len(conn.read)-1]
	if !bytes.Contains(last, []byte("\x00\x00\x00\x0cv=")) || !bytes.HasSuffix(last, []byte("Z\x00\x00\x00\x05I")) {
		t.Errorf("the last of %d reads brought %q", len(conn.read), last)
	}
}

func TestErrorOfAdmitReachesTheClient(t *testing.T) {
	for _, tt := range []struct {
		err          error
		want, logged string
	}{
		{fatal("53300", "too many for you"), "53300 too many for you", "too many for you"},
		{fmt.Errorf("pool: %w", fatal("57P03", "not now")), "57P03 not now", "pool: not now"},
		{errors.New("secret detail"), "XX000 bouncer config error", "secret detail"},
		{context.DeadlineExceeded, "57014 client_login_timeout", "client_login_timeout (age"},
		{fmt.Errorf("host: %w", &backend.LoginError{Severity: "FATAL", Code: "3D000", Message: "no db"}), "3D000 no db", "no db (age"},
	} {
		f := testOptions(t, testConfig())
		f.Admit = func(context.Context, *Login) error { return tt.err }
		f.start(t)
		if got := outcome(f.connect(t, "user=plain dbname=shop password='"+password+"'")); got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.err, got, tt.want)
		}
		f.logged(t, "closing because: "+tt.logged)
	}
}

func TestAdmitEndsWithTheLoginTimeout(t *testing.T) {
	cfg := testConfig()
	cfg.ClientLoginTimeout = 200 * time.Millisecond
	f := testOptions(t, cfg)
	f.Admit = func(ctx context.Context, _ *Login) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	f.start(t)
	if got, want := outcome(f.connect(t, "user=plain dbname=shop password='"+password+"'")), "57014 client_login_timeout"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCloseBreaksLogins(t *testing.T) {
	f := testOptions(t, testConfig())
	admitting := make(chan struct{})
	f.Admit = func(ctx context.Context, _ *Login) error {
		close(admitting)
		<-ctx.Done()
		return ctx.Err()
	}
	f.start(t)
	silent := f.dial(t, "tcp")
	waiting := f.dial(t, "unix")
	if _, err := waiting.Write(join(startupPacket(protocol30, "user", "plain", "database", "shop"), []byte("p\x00\x00\x00\x12"+password+"\x00"))); err != nil {
		t.Fatal(err)
	}
	<-admitting
	f.Close()
	if n := f.Logins(); n != 0 {
		t.Errorf("%d logins after Close", n)
	}
	for _, conn := range []net.Conn{silent, waiting} {
		if b, err := io.ReadAll(conn); bytes.Contains(b, []byte("FATAL")) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %q, %v", b, err)
		}
	}
	if _, err := net.Dial("tcp", f.tcp); err == nil {
		t.Error("the listener is still open")
	}
}

func TestLogSwitches(t *testing.T) {
	cfg := testConfig()
	cfg.LogConnections, cfg.LogDisconnections, cfg.LogPoolerErrors = false, false, false
	f := start(t, cfg)
	if err := f.connect(t, "user=plain dbname=nowhere password='"+password+"'"); err == nil {
		t.Fatal("no error")
	}
	f.Close()
	for _, e := range f.logs.All() {
		if e.Level >= 0 {
			t.Errorf("logged %v %q", e.Level, e.Message)
		}
	}
}

func TestNamesCannotForgeLogLines(t *testing.T) {
	f := start(t, testConfig())
	conn := f.dial(t, "tcp")
	if _, err := conn.Write(startupPacket(protocol30, "user", "a\nb\x1b[31m", "geqo\r\n", "1")); err != nil {
		t.Fatal(err)
	}
	transcript(t, conn, 0)
	f.Close()
	for _, e := range f.logs.All() {
		if strings.ContainsAny(e.Message, "\r\n\x1b") {
			t.Errorf("line %q", e.Message)
		}
	}
	f.logged(t, `a\nb\x1b[31m`)
}

// psql runs the real client, and returns what it printed.
func (f *fixture) psql(t *testing.T, conninfo string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("psql")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "-X", "-w", "-c", "select 1", conninfo)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "PGPASSWORD="+password)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestPsql(t *testing.T) {
	f := start(t, testConfig())
	host, port, _ := net.SplitHostPort(f.tcp)
	tcp := fmt.Sprintf("host=%s port=%s ", host, port)
	for _, tt := range []struct{ conninfo, want string }{
		{tcp + "user=plain dbname=shop", "SELECT 0"},
		{fmt.Sprintf("host=%s port=%d user=plain dbname=shop", f.unixDir, f.unixPort), "SELECT 0"},
		{tcp + "user=plain dbname=nowhere", "FATAL:  no such database: nowhere"},
		{tcp + "user=nobody dbname=shop", "FATAL:  password authentication failed"},
		{tcp + "user=plain dbname=shop options='-c geqo=off'", "FATAL:  unsupported startup parameter in options: geqo"},
		{tcp + "user=plain dbname=shop sslmode=require", "server does not support SSL"},
	} {
		out, err := f.psql(t, tt.conninfo)
		if ok := strings.HasPrefix(tt.want, "SELECT"); !strings.Contains(out, tt.want) || (err == nil) != ok {
			t.Errorf("%s: %v, %q, want %q", tt.conninfo, err, out, tt.want)
		}
	}
}

// TestUnixLabel: in the log a client on a unix socket is known by its process.
func TestUnixLabel(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no telling who is at the other end")
	}
	r := newRig(t, "listen_port = 6433")
	dir, err := os.MkdirTemp("", "pgvalet") // short enough for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.6433"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.acceptor.Serve(ln) }()
	conn, err := pgx.Connect(timeout(t), "host="+dir+" port=6433 user=postgres dbname=app sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	must(t, conn, "SELECT 1")
	conn.Close(timeout(t))
	label := fmt.Sprintf(": app/postgres@unix(%d):6433", os.Getpid())
	for _, want := range []string{"login attempt: ", "closing because: client close request"} {
		r.await(want, func() bool {
			return r.logs.Filter(func(e observer.LoggedEntry) bool {
				return strings.HasSuffix(e.LoggerName, label) && strings.HasPrefix(e.Message, want)
			}).Len() == 1
		})
	}
	r.acceptor.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
