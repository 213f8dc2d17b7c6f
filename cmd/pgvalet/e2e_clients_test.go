package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// dsn returns how clients connect: as app to shop, over verified TLS, with
// SCRAM-SHA-256-PLUS. options are more parameters, or others.
func (p *pooler) dsn(options ...string) string {
	q := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {p.path("ca.crt")}, "channel_binding": {"require"}}
	user, database, host := "app", "shop", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port))
	for i := 0; i+1 < len(options); i += 2 {
		switch options[i] {
		case "user":
			user = options[i+1]
		case "database":
			database = options[i+1]
		case "host": // the directory of a unix socket
			host = ""
			q.Set("host", options[i+1])
			q.Set("port", strconv.Itoa(p.port))
		default:
			q.Set(options[i], options[i+1])
		}
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(user, p.users[user]), Path: "/" + database,
		Host: host, RawQuery: q.Encode(),
	}
	return u.String()
}

// dial opens a connection of pgx's.
func (p *pooler) dial(ctx context.Context, options ...string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(p.dsn(options...))
	if err != nil {
		return nil, err
	}
	notices := map[string]chan struct{}{queuedNotice: make(chan struct{}, 1), runningNotice: make(chan struct{}, 1)}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		select {
		case notices[n.Message] <- struct{}{}:
		default:
		}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		conn.PgConn().CustomData()["notices"] = notices
	}
	return conn, err
}

const (
	// queuedNotice is what clients are told after query_wait_notify.
	queuedNotice = "No server connection available in postgres backend, client being queued"
	// runningNotice is what a test's own function says when it has begun.
	runningNotice = "running"
)

// noticed returns what gets a value when the client is given a notice, one of
// those above.
func noticed(conn *pgx.Conn, notice string) <-chan struct{} {
	return conn.PgConn().CustomData()["notices"].(map[string]chan struct{})[notice]
}

// connect is dial for a client that must get in, and leaves with the test.
func (p *pooler) connect(t testing.TB, options ...string) *pgx.Conn {
	t.Helper()
	conn := must(p.dial(testContext(t), options...))(t)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// one runs a query and returns its only value, as text.
func one(t testing.TB, conn *pgx.Conn, sql string) string {
	t.Helper()
	results, err := conn.PgConn().Exec(testContext(t), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	rows := results[len(results)-1].Rows
	if len(rows) != 1 || len(rows[0]) != 1 {
		t.Fatalf("%s: got %d rows, want one value", sql, len(rows))
	}
	return string(rows[0][0])
}

// wantError checks what a client was told.
func wantError(t testing.TB, err error, code, message string) {
	t.Helper()
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		t.Fatalf("got %v, want %s %s", err, code, message)
	}
	if pgErr.Code != code || pgErr.Message != message {
		t.Errorf("got %s %q, want %s %q", pgErr.Code, pgErr.Message, code, message)
	}
}

// libpq returns a command of PostgreSQL's that connects to the pooler as dsn
// does. It ends with the test at the latest.
func (p *pooler) libpq(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), program(t, name), args...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "LC_ALL=C", "PSQL_HISTORY=/dev/null",
		"PGHOST=127.0.0.1", "PGPORT=" + strconv.Itoa(p.port), "PGUSER=app", "PGPASSWORD=" + p.users["app"], "PGDATABASE=shop",
		"PGSSLMODE=verify-full", "PGSSLROOTCERT=" + p.path("ca.crt"), "PGCHANNELBINDING=require", "PGCONNECT_TIMEOUT=30",
	}
	return cmd
}

// psql runs a script and returns what psql has printed.
func (p *pooler) psql(t testing.TB, script string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := p.libpq(t, "psql", append([]string{"-X", "-q", "-A", "-t"}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewBufferString(script), &out, &errOut
	err = cmd.Run()
	return out.String(), errOut.String(), err
}

// pgbench runs pgbench and returns what it has printed; it must succeed.
func (p *pooler) pgbench(t testing.TB, args ...string) string {
	t.Helper()
	out, err := p.libpq(t, "pgbench", append([]string{"-n"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("pgbench %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// initPgbench makes pgbench's tables in d.
func initPgbench(t testing.TB, d *database) {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), program(t, "pgbench"), "-i", "-q", d.name)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "PGHOST=" + d.pg.SocketDir, fmt.Sprintf("PGPORT=%d", d.pg.Port), "PGUSER=" + d.name}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pgbench -i: %v\n%s", err, out)
	}
}
