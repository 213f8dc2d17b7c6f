package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

// target returns a Target for user, over TCP without TLS.
func target(pg *backendtest.Postgres, user string) *Target {
	return &Target{Host: pg.Host, Port: pg.Port, DBName: "postgres", User: user, ConnectTimeout: 30 * time.Second}
}

// mustConnect logs in, and leaves at the end of the test.
func mustConnect(t *testing.T, target *Target) *Login {
	t.Helper()
	l, err := Connect(testContext(t), target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// ask runs a query on an open connection and returns the first column of its
// rows.
func ask(t *testing.T, l *Login, sql string) []string {
	t.Helper()
	f := pgproto3.NewFrontend(l.stream(), l.stream())
	f.Send(&pgproto3.Query{String: sql})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	var rows []string
	for {
		msg, err := f.Receive()
		if err != nil {
			t.Fatal(err)
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			rows = append(rows, string(m.Values[0]))
		case *pgproto3.ErrorResponse:
			t.Fatalf("%s: %s", sql, m.Message)
		case *pgproto3.ReadyForQuery:
			return rows
		}
	}
}

func (l *Login) param(name string) string {
	i := slices.IndexFunc(l.Params, func(p Parameter) bool { return p.Name == name })
	if i < 0 {
		return ""
	}
	return l.Params[i].Value
}

func TestPasswords(t *testing.T) {
	plainPG := plainServer.Postgres(t)
	tlsPG, _ := tlsServer.postgres(t)
	// SASLprep changes none of these, but quoting and encoding must.
	const password = `pa'ss "wörd" \ 😀`
	for _, method := range []backendtest.AuthMethod{backendtest.Trust, backendtest.Password, backendtest.MD5, backendtest.SCRAM} {
		user := "login_" + strings.ReplaceAll(string(method), "-", "_")
		for _, pg := range []*backendtest.Postgres{plainPG, tlsPG} {
			if err := pg.CreateLogin(testContext(t), user, method, password); err != nil {
				t.Fatal(err)
			}
			overTLS := pg == tlsPG
			t.Run(fmt.Sprintf("%s/tls=%v", method, overTLS), func(t *testing.T) {
				target := target(pg, user)
				target.Password = auth.ParseSecret(password)
				if overTLS {
					target.SSLMode = config.SSLRequire
				}
				l := mustConnect(t, target)
				got := ask(t, l, "SELECT usename || ' ' || ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE pid = pg_backend_pid()")
				if want := fmt.Sprintf("%s %v", user, overTLS); len(got) != 1 || got[0] != want {
					t.Errorf("the server sees %q, want %q", got, want)
				}
				if got := ask(t, l, "SELECT pg_backend_pid()"); got[0] != fmt.Sprint(l.PID) || len(l.Key) != 4 {
					t.Errorf("PID %d and a key of %d bytes, the server has PID %s", l.PID, len(l.Key), got)
				}
				if got := l.param("server_version"); !strings.HasPrefix(got, pg.Version) {
					t.Errorf("server_version %q, want %q", got, pg.Version)
				}
				if got := l.Addr.String(); got != pg.Addr() {
					t.Errorf("address %s, want %s", got, pg.Addr())
				}
				if (l.TLS != nil) != overTLS {
					t.Errorf("TLS %v, want %v", l.TLS != nil, overTLS)
				}

				if method == backendtest.Trust {
					return
				}
				target.Password = auth.ParseSecret("wrong")
				_, err := Connect(testContext(t), target)
				wantLoginError(t, err, "28P01", "password authentication failed")
				target.Password = auth.Secret{}
				_, err = Connect(testContext(t), target)
				wantConnectError(t, err, AuthImpossible, "server login failed: wrong password type", "there is no password")
			})
		}
	}
	t.Run("stored as md5", func(t *testing.T) {
		target := target(plainPG, "login_md5")
		// md5(password || user), as userlist.txt has it.
		rows := ask(t, mustConnect(t, targetOverSocket(plainPG)), "SELECT rolpassword FROM pg_authid WHERE rolname = 'login_md5'")
		target.Password = auth.ParseSecret(rows[0])
		mustConnect(t, target)
		target.User = "login_password"
		_, err := Connect(testContext(t), target)
		wantConnectError(t, err, AuthImpossible, "server login failed: wrong password type", "does not serve")
	})
	t.Run("stored as scram", func(t *testing.T) {
		target := target(plainPG, "login_scram_sha_256")
		rows := ask(t, mustConnect(t, targetOverSocket(plainPG)), "SELECT rolpassword FROM pg_authid WHERE rolname = 'login_scram_sha_256'")
		target.Password = auth.ParseSecret(rows[0])
		_, err := Connect(testContext(t), target)
		wantConnectError(t, err, AuthImpossible, "server login failed: wrong password type", "opens it only after a client has logged in")
	})
}

// targetOverSocket is the superuser's.
func targetOverSocket(pg *backendtest.Postgres) *Target {
	target := target(pg, pg.Superuser)
	target.Host = pg.SocketDir
	return target
}

func wantLoginError(t *testing.T, err error, code, message string) {
	t.Helper()
	e, ok := errors.AsType[*LoginError](err)
	if !ok || e.Code != code || e.SQLSTATE() != code || !strings.Contains(e.ClientMessage(), message) {
		t.Errorf("%v, want SQLSTATE %s and %q", err, code, message)
	}
}

func wantConnectError(t *testing.T, err error, kind Kind, client, reason string) {
	t.Helper()
	e, ok := errors.AsType[*ConnectError](err)
	if !ok || e.Kind != kind || e.ClientMessage() != client || !strings.Contains(err.Error(), reason) {
		t.Errorf("%v, want kind %d, %q, %q", err, kind, client, reason)
	}
}

func TestUnixSocket(t *testing.T) {
	for _, mode := range []config.SSLMode{config.SSLDisable, config.SSLPrefer, config.SSLVerifyFull} {
		pg, _ := tlsServer.postgres(t)
		target := targetOverSocket(pg)
		target.SSLMode = mode
		l := mustConnect(t, target)
		if l.TLS != nil || l.Addr.String() != pg.SocketPath() {
			t.Errorf("%s: TLS %v, address %s", mode, l.TLS != nil, l.Addr)
		}
	}
}

func TestStartupParameters(t *testing.T) {
	pg := plainServer.Postgres(t)
	target := targetOverSocket(pg)
	target.Params = []Parameter{{"application_name", "first"}, {"DateStyle", "German"}, {"application_name", "second"}, {"options", `-c search_path=a,\ b`}}
	l := mustConnect(t, target)
	if got := ask(t, l, "SELECT current_setting('application_name') || ', ' || current_setting('search_path')"); got[0] != "second, a, b" {
		t.Errorf("%q", got)
	}
	if got := l.param("DateStyle"); got != "German, DMY" {
		t.Errorf("DateStyle %q", got)
	}

	target.Params = []Parameter{{"application_name", "x\x00user\x00postgres"}}
	_, err := Connect(testContext(t), target)
	wantConnectError(t, err, BadTarget, "server login failed: bad configuration", "application_name")

	target.Params, target.DBName = nil, "nowhere"
	_, err = Connect(testContext(t), target)
	wantLoginError(t, err, "3D000", `database "nowhere" does not exist`)
}

func TestConnectQuery(t *testing.T) {
	pg := plainServer.Postgres(t)
	for _, test := range []struct{ query, setting, warning string }{
		{"SET DateStyle = 'SQL, YMD'", "SQL, YMD", ""},
		{"SET DateStyle = 'Postgres'; SELECT repeat('x', 200000) FROM generate_series(1, 20)", "Postgres, MDY", ""},
		{"COPY (SELECT generate_series(1, 10000)) TO STDOUT", "ISO, MDY", ""},
		{"", "ISO, MDY", ""},
		{"SELECT 1/0", "ISO, MDY", "connect_query: ERROR: division by zero (SQLSTATE 22012)"},
		{"CREATE TEMP TABLE t (x int); COPY t FROM STDIN", "ISO, MDY", "connect_query has no data to copy"},
		{"DO $$ BEGIN RAISE WARNING 'look out'; END $$", "ISO, MDY", "notice during login: WARNING: look out"},
	} {
		t.Run(test.query, func(t *testing.T) {
			target := targetOverSocket(pg)
			target.ConnectQuery = test.query
			var warnings []string
			target.Warn = func(msg string, err error) { warnings = append(warnings, msg+": "+err.Error()) }
			l := mustConnect(t, target)
			if got := l.param("DateStyle"); got != test.setting {
				t.Errorf("DateStyle %q, want %q", got, test.setting)
			}
			if got := strings.Join(warnings, "\n"); (got == "") != (test.warning == "") || !strings.Contains(got, test.warning) {
				t.Errorf("warnings %q, want %q", got, test.warning)
			}
			if got := ask(t, l, "SELECT 42"); got[0] != "42" {
				t.Errorf("the connection is out of step: %q", got)
			}
		})
	}
	target := targetOverSocket(pg)
	target.ConnectQuery = "BEGIN"
	_, err := Connect(testContext(t), target)
	wantConnectError(t, err, BrokenProtocol, "server login failed: protocol violation", "not idle after the connect_query")
}

func TestNobodyThere(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	for _, test := range []struct {
		host, client, reason string
		kind                 Kind
	}{
		{"127.0.0.1", "connect failed", fmt.Sprintf("127.0.0.1:%d: connect failed: connect: connection refused", port), ConnectFailed},
		{t.TempDir(), "connect failed", "no such file", ConnectFailed},
		{"no-such-host.invalid", "server DNS lookup failed", "no-such-host.invalid", DNSFailed},
	} {
		_, err := Connect(testContext(t), &Target{Host: test.host, Port: port, User: "x", DBName: "x"})
		wantConnectError(t, err, test.kind, test.client, test.reason)
		if e, ok := errors.AsType[*ConnectError](err); ok && e.SQLSTATE() != "08001" {
			t.Errorf("SQLSTATE %s", e.SQLSTATE())
		}
	}
}

// An address that refuses, or takes connections and then says nothing, does
// not keep us from the next.
func TestAddressesInTurn(t *testing.T) {
	pg := plainServer.Postgres(t)
	silent := backendtest.StartScript(t, backendtest.Script{backendtest.Hang()})
	starting := backendtest.StartScript(t, backendtest.Script{
		backendtest.ExpectStartup(nil),
		backendtest.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"}),
	})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	var addrs []net.Addr
	for _, a := range []string{closed.Addr().String(), starting.Addr(), silent.Addr(), pg.Addr()} {
		addr, err := net.ResolveTCPAddr("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, addr)
	}
	ctx, cancel := context.WithTimeout(testContext(t), 3*time.Second)
	defer cancel()
	target := target(pg, pg.Superuser)
	l, err := target.connectAddrs(ctx, addrs, auth.Token{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Addr.String() != pg.Addr() {
		t.Errorf("logged in at %s", l.Addr)
	}
}

// Other answers hold for all addresses.
func TestRefusedAtFirstAddress(t *testing.T) {
	refusing := backendtest.StartScript(t, backendtest.Script{
		backendtest.ExpectStartup(nil),
		backendtest.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "3D000", Message: "no such database"}),
	})
	other := backendtest.StartScript(t)
	var addrs []net.Addr
	for _, a := range []string{refusing.Addr(), other.Addr()} {
		addr, err := net.ResolveTCPAddr("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, addr)
	}
	_, err := (&Target{Host: "127.0.0.1", User: "u", DBName: "d"}).connectAddrs(testContext(t), addrs, auth.Token{})
	wantLoginError(t, err, "3D000", "no such database")
}

func TestClientCertificate(t *testing.T) {
	pg, ca := tlsServer.postgres(t)
	cert, err := ca.Issue("certified")
	if err != nil {
		t.Fatal(err)
	}
	target := target(pg, "certified")
	target.SSLMode = config.SSLVerifyFull
	target.TLSConfig = &tls.Config{RootCAs: ca.Pool(), Certificates: []tls.Certificate{cert.TLS}}
	mustConnect(t, target)
	target.TLSConfig.Certificates = nil
	_, err = Connect(testContext(t), target)
	wantLoginError(t, err, "28000", "requires a valid client certificate")
}

func TestConnectToAbstractSocket(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has an abstract namespace")
	}
	dir := fmt.Sprintf("@pgvalet-test-%d", os.Getpid())
	ln, err := net.Listen("unix", dir+"/.s.PGSQL.5432")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	failed := make(chan error, 1)
	go func() {
		_, err := Connect(testContext(t), &Target{Host: dir, Port: 5432, DBName: "d", User: "u", SSLMode: config.SSLVerifyFull})
		ln.Close() // if it has gone elsewhere, nobody comes
		failed <- err
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(<-failed)
	}
	if _, err := pgproto3.NewBackend(conn, conn).ReceiveStartupMessage(); err != nil {
		t.Error(err)
	}
	conn.Close()
	if err := <-failed; !isKind(err, ConnectionLost) {
		t.Errorf("got %v", err)
	}
}

// A connection request that nobody answers is a timeout, whoever ends the wait.
func TestConnectUnanswered(t *testing.T) {
	target := targetAt(t, backendtest.StartPartition(t).Addr())
	target.ConnectTimeout = 200 * time.Millisecond
	for range 5 {
		_, err := Connect(testContext(t), target)
		wantConnectError(t, err, ConnectTimeout, "connect timeout", "no answer to the connection request")
	}
}
