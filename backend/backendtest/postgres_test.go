package backendtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connectAs logs in over TCP with a password and returns how that went.
func connectAs(ctx context.Context, pg *Postgres, user, password string) error {
	config, err := pgx.ParseConfig(pg.DSN("postgres", user))
	if err != nil {
		return err
	}
	config.Password = password
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

func sqlState(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}

func TestPostgresTakesConnectionsOverTCPAndSocket(t *testing.T) {
	ctx := testContext(t)
	pg := shared.Postgres(t)
	if err := connectAs(ctx, pg, pg.Superuser, ""); err != nil {
		t.Error(err)
	}
	conn, err := pg.Connect(ctx, "postgres", pg.Superuser)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var listen, version, addr string
	if err := conn.QueryRow(ctx, "SELECT current_setting('listen_addresses'), current_setting('server_version'), coalesce(inet_server_addr()::text, 'unix')").
		Scan(&listen, &version, &addr); err != nil {
		t.Fatal(err)
	}
	if listen != "127.0.0.1" || addr != "unix" || pg.Version == "" || !strings.HasPrefix(version, pg.Version) {
		t.Errorf("listen_addresses %q, connected over %q, version %q said to be %q", listen, addr, version, pg.Version)
	}
	if len(pg.SocketPath()) > 107 {
		t.Errorf("socket path of %d bytes: %s", len(pg.SocketPath()), pg.SocketPath())
	}
}

func TestCreateLoginAsksForItsMethodOnly(t *testing.T) {
	ctx := testContext(t)
	pg := shared.Postgres(t)
	const password = `it's a "secret"`
	for _, tt := range []struct {
		method   AuthMethod
		authCode byte // of the server's first message, an Authentication request
	}{
		{Trust, 0},
		{Password, 3},
		{MD5, 5},
		{SCRAM, 10},
	} {
		t.Run(string(tt.method), func(t *testing.T) {
			user := "login " + string(tt.method)
			if err := pg.CreateLogin(ctx, user, tt.method, password); err != nil {
				t.Fatal(err)
			}
			if err := connectAs(ctx, pg, user, password); err != nil {
				t.Errorf("right password: %v", err)
			}
			if tt.method != Trust {
				if err := connectAs(ctx, pg, user, "wrong"); sqlState(err) != "28P01" {
					t.Errorf("wrong password: %v", err)
				}
			}
			if got := firstAuthCode(t, pg.Addr(), user); got != tt.authCode {
				t.Errorf("server asks with code %d, want %d", got, tt.authCode)
			}
		})
	}
	if err := pg.CreateLogin(ctx, "login x", "gss", ""); err == nil {
		t.Error("no error for an unknown method")
	}
}

// firstAuthCode sends a startup message and returns the code of the
// Authentication request that answers it.
func firstAuthCode(t *testing.T, addr, user string) byte {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := append([]byte{0, 3, 0, 0}, "user\x00"+user+"\x00database\x00postgres\x00\x00"...)
	if _, err := conn.Write(append([]byte{0, 0, 0, byte(4 + len(body))}, body...)); err != nil {
		t.Fatal(err)
	}
	var reply [9]byte
	if _, err := io.ReadFull(conn, reply[:]); err != nil || reply[0] != 'R' {
		t.Fatalf("reply %q, %v", reply, err)
	}
	return reply[8]
}

func TestPostgresWithTLSAndSettings(t *testing.T) {
	shared.Postgres(t) // skips without PostgreSQL
	ctx := testContext(t)
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Issue("db.example.com", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Issue("certified")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	pg, err := StartPostgres(ctx, PostgresOptions{
		TLS:      server,
		ClientCA: ca,
		Settings: map[string]string{"work_mem": "5MB", "max_connections": "20"},
		HBA:      []string{"local all all trust", "hostssl all certified all cert"},
		Log:      &log,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "database system is shut down") {
			t.Errorf("log without its end: %s", log.String())
		}
	}()
	if err := pg.Exec(ctx, "CREATE ROLE certified LOGIN"); err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(pg.DSN("postgres", "certified"))
	if err != nil {
		t.Fatal(err)
	}
	config.TLSConfig = &tls.Config{RootCAs: ca.Pool(), ServerName: "db.example.com", Certificates: []tls.Certificate{client.TLS}}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var workMem, maxConnections string
	if err := conn.QueryRow(ctx, "SELECT current_setting('work_mem'), current_setting('max_connections')").
		Scan(&workMem, &maxConnections); err != nil {
		t.Fatal(err)
	}
	if workMem != "5MB" || maxConnections != "20" {
		t.Errorf("work_mem %s, max_connections %s", workMem, maxConnections)
	}
}

func TestRestartKeepsDataPortAndSocket(t *testing.T) {
	shared.Postgres(t)
	ctx := testContext(t)
	pg, err := StartPostgres(ctx, PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	dir := pg.SocketDir
	if err := pg.Exec(ctx, "CREATE TABLE kept()"); err != nil {
		t.Error(err)
	}
	if err := pg.Restart(ctx); err != nil {
		t.Error(err)
	}
	if err := pg.Exec(ctx, "SELECT FROM kept"); err != nil {
		t.Error(err)
	}
	if err := connectAs(ctx, pg, pg.Superuser, ""); err != nil {
		t.Error(err)
	}
	for range 2 { // the second does nothing
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
	if err := pg.Restart(ctx); err == nil {
		t.Error("restarted after Stop")
	}
}

func TestDirIsKeptAndUsedAgain(t *testing.T) {
	shared.Postgres(t)
	ctx := testContext(t)
	parent, err := os.MkdirTemp("/tmp", "pgvalet-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(parent)
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"CREATE TABLE kept()", "SELECT FROM kept"} {
		pg, err := StartPostgres(ctx, PostgresOptions{Dir: filepath.Join(parent, "data")})
		if err != nil {
			t.Fatal(err)
		}
		if err := pg.Exec(ctx, sql); err != nil {
			t.Error(err)
		}
		if err := pg.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStartErrorCarriesTheLog(t *testing.T) {
	shared.Postgres(t)
	_, err := StartPostgres(testContext(t), PostgresOptions{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("error %v", err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	shared.Postgres(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := StartPostgres(ctx, PostgresOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestStartPostgresWithoutRoot repeats a test of this package as another
// user, since elsewhere it runs as whoever runs the tests.
func TestStartPostgresWithoutRoot(t *testing.T) {
	credential, err := Unprivileged()
	if err != nil {
		t.Fatal(err)
	}
	if credential == nil {
		t.Skip("not root: the other tests are this one")
	}
	shared.Postgres(t)
	// The test binary is in a directory that only root may enter.
	dir, err := os.MkdirTemp("/tmp", "pgvalet-test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "backendtest.test")
	if err := os.WriteFile(path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(testContext(t), path, "-test.v", "-test.run=^TestPostgresTakesConnectionsOverTCPAndSocket$")
	cmd.Dir = dir
	cmd.SysProcAttr = ChildAttr(credential, syscall.SIGQUIT)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestPostgresTakesConnectionsOverTCPAndSocket")) {
		t.Errorf("%v: %s", err, out)
	}
}
