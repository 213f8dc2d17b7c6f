package frontend

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

var update = flag.Bool("update", false, "write docs/console.md and testdata/console_columns.txt")

// consoleFixture is an Acceptor with sessions and a console behind it.
type consoleFixture struct {
	*fixture
	config    atomic.Pointer[config.Config]
	console   *Console
	pools     *pool.Pools
	reloads   chan error // what the next RELOAD returns
	shutdowns chan ShutdownMode
}

// consoleConfig has the databases shop, on the server at addr, and stock.
func consoleConfig(t testing.TB, addr string) *config.Config {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("pgvalet.toml", fmt.Appendf(nil, `
[pgvalet]
auth_type = "trust"
auth_file = "users.txt"
admin_users = ["root"]
stats_users = ["watcher"]
server_tls_sslmode = "disable"
[databases.shop]
host = %q
port = %s
user = "owner"
[databases.stock]
host = "127.0.0.1"
pool_mode = "session"
[users.plain]
pool_size = 7
`, host, port))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// noServer is an address where nothing listens.
const noServer = "127.0.0.1:1"

// startConsole starts a console with cfg; prepare changes what it runs on.
func startConsole(t testing.TB, cfg *config.Config, prepare ...func(*fixture)) *consoleFixture {
	t.Helper()
	f := &consoleFixture{fixture: testOptions(t, cfg), reloads: make(chan error, 1), shutdowns: make(chan ShutdownMode, 1)}
	for _, p := range prepare {
		p(f.fixture)
	}
	f.config.Store(cfg)
	f.fixture.AcceptorOptions.Config = f.config.Load
	sweeps, bind := NewSweeps(2)
	var loops []*evloop.Loop
	var running sync.WaitGroup
	for i, sweep := range sweeps {
		l, err := evloop.New(i, sweep)
		if err != nil {
			t.Fatal(err)
		}
		loops = append(loops, l)
		running.Go(func() {
			if err := l.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	f.pools = pool.New(pool.Options{Settings: pool.Settings{Config: cfg, Userlist: testUsers()}, Tokens: f.tokens, Loops: loops, Log: f.Log})
	sessions := NewSessions(SessionsOptions{Config: f.config.Load, Pools: f.pools, Loops: loops, Log: f.Log})
	bind(sessions)
	t.Cleanup(func() {
		f.pools.Close()
		for _, l := range loops {
			l.Stop()
		}
		running.Wait()
	})
	f.NextID, f.Cancel = f.pools.NextID, sessions.Cancel
	f.Admit = func(ctx context.Context, l *Login) error {
		if l.Console {
			return f.console.Admit(ctx, l)
		}
		return sessions.Admit(ctx, l)
	}
	f.console = NewConsole(ConsoleOptions{
		Config:   f.config.Load,
		Pools:    f.pools,
		Sessions: sessions,
		Reload:   func() error { return <-f.reloads },
		Set: func(a config.Assignment) (bool, error) {
			c, err := f.config.Load().With(a)
			if err == nil {
				f.config.Store(c)
			}
			return true, err
		},
		Shutdown:     func(m ShutdownMode) { f.shutdowns <- m },
		ShuttingDown: func() bool { return false },
		Version:      "0.0.1",
		LoggingIn:    func() []ClientInfo { return f.Acceptor.LoggingIn() },
		Listeners:    func() []net.Listener { return f.Acceptor.Listeners() },
		Users:        testUsers().Names,
		Log:          f.Log,
	})
	f.start(t)
	t.Cleanup(func() {
		f.console.Close()
		sessions.Close()
	})
	return f
}

// open connects with pgx.
func (f *consoleFixture) open(t testing.TB, user, database string, mode pgx.QueryExecMode) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig("postgres://" + user + "@" + f.tcp + "/" + database + "?sslmode=disable&application_name=tester&geqo=on")
	if err != nil {
		t.Fatal(err)
	}
	if database == "shop" {
		delete(cfg.RuntimeParams, "geqo")
	}
	cfg.DefaultQueryExecMode = mode
	if f.ca != nil {
		cfg.TLSConfig = &tls.Config{RootCAs: f.ca.Pool(), ServerName: "localhost"}
	}
	conn, err := pgx.ConnectConfig(timeout(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// timeout returns a context for what must not hang.
func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// simple sends a simple query. It returns each result as a table of text, NULL
// as "-", headed by the tag.
func simple(t testing.TB, conn *pgx.Conn, sql string) ([]string, error) {
	t.Helper()
	results, err := conn.PgConn().Exec(timeout(t), sql).ReadAll()
	var list []string
	for _, r := range results {
		var b strings.Builder
		b.WriteString(r.CommandTag.String())
		for _, row := range r.Rows {
			for i, v := range row {
				b.WriteString(map[bool]string{true: "\n", false: "|"}[i == 0])
				if v == nil {
					b.WriteByte('-')
				}
				b.Write(v)
			}
		}
		list = append(list, b.String())
	}
	return list, err
}

// must is simple for a query that must work.
func must(t testing.TB, conn *pgx.Conn, sql string) string {
	t.Helper()
	list, err := simple(t, conn, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(list, "\n")
}

func TestConsoleColumns(t *testing.T) {
	f := startConsole(t, consoleConfig(t, noServer))
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	var b strings.Builder
	b.WriteString("# The tables of PgBouncer 1.25.2, with the OIDs of their types.\n")
	var names []string
	for _, c := range f.console.commands {
		if c.columns != nil && !c.fake {
			names = append(names, c.name)
		}
	}
	slices.Sort(names)
	for i, name := range names {
		if i > 0 {
			b.WriteByte('\n')
		}
		// ReadAll would not tell the columns of an empty table.
		results := conn.PgConn().Exec(timeout(t), name)
		results.NextResult()
		fmt.Fprintln(&b, name)
		for _, fd := range results.ResultReader().FieldDescriptions() {
			fmt.Fprintf(&b, "\t%s %d\n", fd.Name, fd.DataTypeOID)
		}
		if err := results.Close(); err != nil {
			t.Fatal(err)
		}
	}
	const path = "testdata/console_columns.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestConsoleTables(t *testing.T) {
	cfg := consoleConfig(t, noServer)
	f := startConsole(t, cfg)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	client, server := conn.PgConn().Conn().LocalAddr().(*net.TCPAddr), conn.PgConn().Conn().RemoteAddr().(*net.TCPAddr)
	since := f.console.clients()[0].ConnectedAt.UTC().Format("2006-01-02 15:04:05 UTC")
	clients := must(t, conn, "SHOW CLIENTS")
	requested := f.console.clients()[0].RequestAt.UTC().Format("2006-01-02 15:04:05 UTC")
	for _, tt := range []struct{ show, got, want string }{
		{show: "VERSION", want: "SHOW\nPgBouncer 1.25.2 (pgvalet 0.0.1)"},
		{show: "STATE", want: "SHOW\nactive|yes\npaused|no\nsuspended|no"},
		{show: "POOLS", want: "SHOW\npgbouncer|pgbouncer|1|0|0|0|0|0|0|0|0|0|0|0|0|statement|-"},
		{show: "SERVERS", want: "SHOW"},
		{
			show: "CLIENTS", got: clients,
			want: fmt.Sprintf("SHOW\nC|root|pgbouncer|none|idle|127.0.0.1|%d|127.0.0.1|%d|%s|%s|0|0|0|0x1||0||tester|0|1", client.Port, server.Port, since, requested),
		},
		{
			show: "DATABASES",
			want: "SHOW\npgbouncer|-|6432|pgbouncer|pgbouncer|2|0|0|3600|statement|-|0|0|0|1|0|0\n" +
				"shop|127.0.0.1|1|shop|owner|20|0|0|3600|-|-|0|0|0|0|0|0\n" +
				"stock|127.0.0.1|5432|stock|-|20|0|0|3600|session|-|0|0|0|0|0|0",
		},
		{show: "USERS", want: "SHOW\nmd5|||-|0|0|0|0\nnosecret|||-|0|0|0|0\npgbouncer|||-|0|0|0|0\nplain|        7||-|0|0|0|0\nroot|||-|0|0|0|1\nscram|||-|0|0|0|0\nwatcher|||-|0|0|0|0"},
		{
			show: "LISTS",
			want: "SHOW\ndatabases|3\nusers|7\npeers|0\npools|1\npeer_pools|0\nfree_clients|0\nused_clients|1\nlogin_clients|0\n" +
				"free_servers|0\nused_servers|0\ndns_names|0\ndns_zones|0\ndns_queries|0\ndns_pending|0",
		},
		{show: "timezone", want: "SHOW\nGMT"},
		{show: "HELP", want: "SHOW"},
	} {
		got := tt.got
		if got == "" {
			got = must(t, conn, "SHOW "+tt.show)
		}
		if got != tt.want {
			t.Errorf("SHOW %s:\n%s\nwant:\n%s", tt.show, got, tt.want)
		}
	}
	rows := strings.Split(must(t, conn, "SHOW CONFIG"), "\n")[1:]
	if len(rows) != len(cfg.Rows()) || !slices.Contains(rows, "admin_users|root||yes") || !slices.Contains(rows, "listen_port|6432|6432|no") {
		t.Errorf("SHOW CONFIG:\n%s", strings.Join(rows, "\n"))
	}
}

var queryModes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

// A driver can use the console as any database, in each of its ways.
func TestConsoleWithDriver(t *testing.T) {
	f := startConsole(t, consoleConfig(t, noServer))
	for _, mode := range queryModes {
		t.Run(mode.String(), func(t *testing.T) {
			ctx := timeout(t)
			conn := f.open(t, "root", "pgvalet", mode)
			if err := conn.Ping(ctx); err != nil {
				t.Error(err)
			}
			for range 2 {
				var key, value, def, changeable string
				if err := conn.QueryRow(ctx, "show config").Scan(&key, &value, &def, &changeable); err != nil || key != "admin_users" {
					t.Errorf("key %q: %v", key, err)
				}
			}
			rows, err := conn.Query(ctx, "SHOW LISTS;")
			if err != nil {
				t.Fatal(err)
			}
			lists := map[string]int{}
			var name string
			var items int
			if _, err := pgx.ForEachRow(rows, []any{&name, &items}, func() error { lists[name] = items; return nil }); err != nil {
				t.Error(err)
			}
			if len(lists) != 14 || lists["databases"] != 3 {
				t.Errorf("lists %v", lists)
			}
			rows, err = conn.Query(ctx, "SHOW TOTALS")
			if err != nil {
				t.Fatal(err)
			}
			totals := map[string]int64{}
			var n int64
			if _, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error { totals[name] = n; return nil }); err != nil {
				t.Error(err)
			}
			if len(totals) != 24 || totals["total_query_count"] < 3 || totals["total_client_login_count"] < 1 {
				t.Errorf("totals %v", totals)
			}
			for sql, tag := range map[string]string{"RECONNECT": "RECONNECT", "": "", "SHOW HELP": "SHOW", " -- nothing": ""} {
				if got, err := conn.Exec(ctx, sql); err != nil || got.String() != tag {
					t.Errorf("%q: tag %q, error %v", sql, got, err)
				}
			}
			for range 2 {
				if _, err := conn.Exec(ctx, "SHOW NOTHING"); sqlState(err) != "08P01" {
					t.Errorf("unknown command: %v", err)
				}
			}
			if _, err := conn.Exec(ctx, "SHOW VERSION"); err != nil {
				t.Errorf("after an error: %v", err)
			}
		})
	}
}

func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

func TestConsoleWithPsql(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip(err)
	}
	f := startConsole(t, consoleConfig(t, noServer))
	host, port, _ := net.SplitHostPort(f.tcp)
	cmd := exec.CommandContext(timeout(t), psql, "-XAt", fmt.Sprintf("host=%s port=%s user=watcher dbname=pgbouncer sslmode=disable", host, port))
	cmd.Stdin = strings.NewReader("SHOW VERSION;\nshow help;\nSET datestyle TO 'ISO';\nPAUSE;\nSHOW STATE \\; SHOW VERSION;\n")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	const version = "PgBouncer 1.25.2 (pgvalet 0.0.1)\n"
	got := stdout.String()
	if !strings.HasPrefix(got, version) || !strings.HasSuffix(got, "active|yes\npaused|no\nsuspended|no\n"+version) {
		t.Errorf("psql wrote %q", got)
	}
	for _, want := range []string{
		"NOTICE:  Console usage\nDETAIL:  \n\tSHOW HELP|", "\n\tPAUSE [db]\n", "NOTICE:  SET ignored\n", "ERROR:  admin access needed\n",
	} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("psql did not write %q but %q", want, stderr.String())
		}
	}
}

func TestConsoleReference(t *testing.T) {
	var b bytes.Buffer
	if err := WriteConsoleReference(&b); err != nil {
		t.Fatal(err)
	}
	const path = "../docs/console.md"
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.Bytes(), want) {
		t.Errorf("%s is not what the code writes (-update rewrites it)", path)
	}
}

// A welcome that looks like PgBouncer's, and the end of the console.
func TestConsoleWelcomeAndClose(t *testing.T) {
	f := startConsole(t, consoleConfig(t, noServer))
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeExec).PgConn()
	for name, want := range map[string]string{
		"server_version": "1.25.2/bouncer", "client_encoding": "UTF8", "server_encoding": "UTF8", "DateStyle": "ISO", "TimeZone": "GMT",
		"standard_conforming_strings": "on", "is_superuser": "on",
	} {
		if got := conn.ParameterStatus(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	f.console.Close()
	conn.Conn().SetReadDeadline(time.Now().Add(testTimeout))
	if n, err := conn.Conn().Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after Close: %d bytes, %v", n, err)
	}
	if _, err := pgx.Connect(timeout(t), "postgres://root@"+f.tcp+"/pgbouncer?sslmode=disable"); sqlState(err) != "57P03" {
		t.Errorf("login after Close: %v", err)
	}
}
