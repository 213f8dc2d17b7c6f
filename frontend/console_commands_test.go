package frontend

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

// outcomeOf is what came of a query: the last tag, or the error.
func outcomeOf(list []string, err error) string {
	var e *pgconn.PgError
	switch {
	case errors.As(err, &e):
		return e.Severity + " " + e.Code + " " + e.Message
	case err != nil:
		return err.Error()
	}
	if len(list) == 0 {
		return ""
	}
	tag, _, _ := strings.Cut(list[len(list)-1], "\n")
	return tag
}

func TestConsoleCommands(t *testing.T) {
	f := startConsole(t, consoleConfig(t, noServer))
	const (
		needed  = "ERROR 08P01 admin access needed"
		unknown = "ERROR 08P01 invalid command '"
		use     = "', use SHOW HELP;"
	)
	f.reloads <- errors.New("no such file")
	conns := map[string]*pgx.Conn{}
	for _, user := range []string{"root", "watcher"} {
		conns[user] = f.open(t, user, "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	}
	for _, tt := range []struct{ user, sql, want string }{
		{"watcher", "SHOW POOLS", "SHOW"},
		{"watcher", "RELOAD", needed},
		{"watcher", "pause", needed},
		{"watcher", "RESUME shop", needed},
		{"watcher", "RECONNECT", needed},
		{"watcher", "KILL", needed},
		{"watcher", "KILL_CLIENT 1", needed},
		{"watcher", "SHUTDOWN", needed},
		{"watcher", "SHUTDOWN SOON", needed},
		{"watcher", "SET pool_mode = session", needed},
		{"watcher", "SET DateStyle = 'ISO'", "SET"},

		{"root", "", ""},
		{"root", ";; -- ;\n/* ; */", ""},
		{"root", "SHOW", unknown + "SHOW" + use},
		{"root", "SHOW memory;", unknown + "SHOW memory" + use},
		{"root", " show  'pools' ", unknown + "show  'pools'" + use},
		{"root", "SHOW pools clients", unknown + "SHOW pools clients" + use},
		{"root", "show \"Pools\"", "SHOW"},
		{"root", "SELECT version ;", "SHOW"},
		{"root", "SELECT 1", unknown + "SELECT 1" + use},
		{"root", "BEGIN", unknown + "BEGIN" + use},
		{"root", "\"SHOW\" pools", unknown + "\"SHOW\" pools" + use},
		{"root", "RELOAD now", unknown + "RELOAD now" + use},
		{"root", "PAUSE 'shop'", unknown + "PAUSE 'shop'" + use},
		{"root", "PAUSE \"shop", unknown + "PAUSE \"shop" + use},
		{"root", "PAUSE my-db", unknown + "PAUSE my-db" + use},
		{"root", "SHUTDOWN SOON", unknown + "SHUTDOWN SOON" + use},
		{"root", "SET x", unknown + "SET x" + use},
		{"root", "SET x 1 2", unknown + "SET x 1 2" + use},
		{"root", "SET extra_float_digits TO -3", "SET"},
		{"root", "set \"timezone\" = 'it''s'", "SET"},
		{"root", "SET pool_mode = session", "SET pool_mode=session"},
		{"root", "set query_timeout to '1.5';", "SET query_timeout=1.5"},
		{"root", "SET query_timeout = soon", "ERROR 08P01 SET failed"},
		{"root", "SET version = 2", "ERROR 08P01 SET failed"},
		{"root", "SHOW VERSION; SHOW STATE", "SHOW"},
		{"root", "PAUSE shop; SHOW NOTHING", unknown + "SHOW NOTHING" + use}, // and nothing is paused:
		{"root", "RESUME shop", "ERROR 08P01 database shop is not paused"},
		{"root", "RESUME", "ERROR 08P01 pooler is not paused/suspended"},
		{"root", "PAUSE nothere", "ERROR 08P01 no such database: nothere"},
		{"root", "PAUSE SHOP", "ERROR 08P01 no such database: SHOP"},
		{"root", "PAUSE pgbouncer", "ERROR 08P01 cannot pause admin db: pgbouncer"},
		{"root", "KILL pgvalet", "ERROR 08P01 cannot kill admin db: pgvalet"},
		{"root", "WAIT_CLOSE pgbouncer", "ERROR 08P01 cannot wait in admin db: pgbouncer"},
		{"root", "DISABLE pgbouncer", "ERROR 08P01 cannot disable admin db: pgbouncer"},
		{"root", "RESUME pgbouncer", "ERROR 08P01 database pgbouncer is not paused"},
		{"root", "KILL nothere", "ERROR 08P01 no such database: nothere"},
		{"root", "RECONNECT \"no\"\"there\"", "ERROR 08P01 no such database: no\"there"},
		{"root", "RESUME nothere", "ERROR 08P01 no such database: nothere"},
		{"root", "WAIT_CLOSE nothere", "ERROR 08P01 no such database: nothere"},
		{"root", "ENABLE nothere", "ERROR 08P01 no such database: nothere"},
		{"root", "DISABLE", "ERROR 08P01 a database is required"},
		{"root", "ENABLE", "ERROR 08P01 a database is required"},
		{"root", "RECONNECT shop", "RECONNECT"},
		{"root", "WAIT_CLOSE shop", "WAIT_CLOSE"},
		{"root", "WAIT_CLOSE", "WAIT_CLOSE"},
		{"root", "DISABLE shop", "DISABLE"},
		{"root", "ENABLE shop", "ENABLE"},
		{"root", "PAUSE shop", "PAUSE"},
		{"root", "PAUSE shop", "PAUSE"},
		{"root", "SUSPEND", "ERROR 08P01 cannot suspend with paused databases"},
		{"root", "RESUME", "ERROR 08P01 pooler is not paused/suspended"},
		{"root", "PAUSE", "PAUSE"},
		{"root", "PAUSE", "ERROR 08P01 already suspended/paused"},
		{"root", "PAUSE nothere", "ERROR 08P01 already suspended/paused"},
		{"root", "KILL", "ERROR 08P01 already suspended/paused"},
		{"root", "SUSPEND", "ERROR 08P01 already suspended/paused"},
		{"root", "RESUME", "RESUME"},
		{"root", "RESUME shop", "RESUME"}, // which was paused by itself
		{"root", "KILL", "KILL"},
		{"root", "RESUME", "ERROR 08P01 pooler is not paused/suspended"},
		{"root", "RESUME stock", "RESUME"},
		{"root", "RESUME shop", "RESUME"},
		{"root", "SUSPEND", "SUSPEND"},
		{"root", "SUSPEND", "ERROR 08P01 already suspended/paused"},
		{"root", "PAUSE", "ERROR 08P01 already suspended/paused"},
		{"root", "KILL", "ERROR 08P01 already suspended/paused"},
		{"root", "RESUME", "RESUME"},
		{"root", "KILL_CLIENT", "ERROR 08P01 invalid client pointer supplied"},
		{"root", "KILL_CLIENT it", "ERROR 08P01 invalid client pointer supplied"},
		{"root", "KILL_CLIENT 4711", "ERROR 08P01 client not found"},
		{"root", "RELOAD", "ERROR F0000 RELOAD failed, see logs for additional details"},
	} {
		list, err := simple(t, conns[tt.user], tt.sql)
		if got := outcomeOf(list, err); got != tt.want {
			t.Errorf("%s: %q: %s, want %s", tt.user, tt.sql, got, tt.want)
		}
	}
	f.reloads <- nil
	if got := must(t, conns["root"], "RELOAD"); got != "RELOAD" {
		t.Errorf("RELOAD: %s", got)
	}
	f.logged(t, "RECONNECT 'shop' command issued")
	f.logged(t, "pooler error: no such database: nothere")
}

func TestConsoleState(t *testing.T) {
	f := startConsole(t, consoleConfig(t, noServer))
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	const running = "SHOW\nactive|yes\npaused|no\nsuspended|no"
	must(t, conn, "PAUSE stock")
	if got := must(t, conn, "SHOW STATE"); got != running {
		t.Errorf("one database paused: %s", got)
	}
	if got := must(t, conn, "SHOW DATABASES"); !strings.Contains(got, "\nshop|127.0.0.1|1|shop|owner|20|0|0|3600|-|-|0|0|0|0|0|0") || !strings.HasSuffix(got, "|0|0|0|0|1|0") {
		t.Errorf("stock is not shown as paused, or shop is: %s", got)
	}
	must(t, conn, "PAUSE")
	if got := must(t, conn, "SHOW STATE"); got != "SHOW\nactive|no\npaused|yes\nsuspended|no" {
		t.Errorf("everything paused: %s", got)
	}
	must(t, conn, "RESUME")
	if got := must(t, conn, "SHOW STATE"); got != running {
		t.Errorf("resumed: %s", got)
	}
}

// Rights are those of the present configuration.
func TestConsoleRightsChange(t *testing.T) {
	cfg := consoleConfig(t, noServer)
	f := startConsole(t, cfg)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	must(t, conn, "RECONNECT")
	less := *cfg
	less.AdminUsers = nil
	f.config.Store(&less)
	if _, err := simple(t, conn, "RECONNECT"); outcomeOf(nil, err) != "ERROR 08P01 admin access needed" {
		t.Errorf("not an admin any more: %v", err)
	}
}

func TestConsoleShutdown(t *testing.T) {
	for sql, want := range map[string]ShutdownMode{
		"SHUTDOWN": ShutdownNow, "SHUTDOWN wait_for_servers": ShutdownWaitForServers, "SHUTDOWN WAIT_FOR_CLIENTS": ShutdownWaitForClients,
	} {
		f := startConsole(t, consoleConfig(t, noServer))
		conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
		done := make(chan string, 1)
		go func() { done <- outcomeOf(simple(t, conn, sql)) }()
		if got := <-f.shutdowns; got != want {
			t.Errorf("%s: mode %d, want %d", sql, got, want)
		}
		if want == ShutdownNow {
			f.console.Close() // ends the wait, with the connection
			if got := <-done; got == "SHUTDOWN" {
				t.Errorf("%s: %s", sql, got)
			}
		} else if got := <-done; got != "SHUTDOWN" {
			t.Errorf("%s: %s", sql, got)
		}
	}
}

func TestConsoleKillsConsole(t *testing.T) {
	f := startConsole(t, consoleConfig(t, noServer))
	root := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	other := f.open(t, "watcher", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	clients := strings.Split(must(t, root, "SHOW CLIENTS"), "\n")[1:]
	if len(clients) != 2 {
		t.Fatalf("clients %q", clients)
	}
	id := clients[1][strings.LastIndexByte(clients[1], '|')+1:]
	must(t, root, "KILL_CLIENT "+id)
	if _, err := simple(t, other, "SHOW POOLS"); err == nil {
		t.Error("a killed client is served")
	}
	must(t, root, "SHOW POOLS")
}

// busyServer begins a transaction, and breaks when anything else is asked of it.
func busyServer(t *testing.T) string {
	return backendtest.StartScript(t, backendtest.Script{
		backendtest.ExpectStartup(nil),
		backendtest.Send(
			&pgproto3.AuthenticationOk{},
			&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
			&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
			&pgproto3.ParameterStatus{Name: "application_name", Value: "tester"}, // as the client has it
			&pgproto3.BackendKeyData{ProcessID: 1234, SecretKey: []byte("abcd")},
			&pgproto3.ReadyForQuery{TxStatus: 'I'},
		),
		backendtest.Expect(&pgproto3.Query{String: "BEGIN"}),
		backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")}, &pgproto3.ReadyForQuery{TxStatus: 'T'}),
		func(c *backendtest.ScriptConn) error {
			_, _ = c.Backend.Receive() // whatever is done to end the transaction, the server breaks
			return nil
		},
	}).Addr()
}

// startBusy returns a console, and a client whose transaction holds a server.
func startBusy(t *testing.T, prepare ...func(*fixture)) (*consoleFixture, *pgx.Conn) {
	f := startConsole(t, consoleConfig(t, busyServer(t)), prepare...)
	client := f.open(t, "plain", "shop", pgx.QueryExecModeSimpleProtocol)
	must(t, client, "BEGIN")
	return f, client
}

// paused waits until a PAUSE is in force; it may still wait for servers.
func (f *consoleFixture) paused(t *testing.T) {
	t.Helper()
	conn := f.open(t, "watcher", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	defer conn.Close(timeout(t))
	for give := time.Now().Add(testTimeout); !strings.Contains(must(t, conn, "SHOW STATE"), "paused|yes"); {
		if time.Now().After(give) {
			t.Fatal("PAUSE does not begin")
		}
	}
}

// pausing sends PAUSE and returns when it waits. done gets the outcome.
func (f *consoleFixture) pausing(t *testing.T, conn *pgx.Conn) (done <-chan string) {
	t.Helper()
	c := make(chan string, 1)
	go func() { c <- outcomeOf(simple(t, conn, "PAUSE")) }()
	f.paused(t)
	return c
}

// killClientOf kills the one client of a database.
func (f *consoleFixture) killClientOf(t *testing.T, database string) {
	t.Helper()
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	for row := range strings.Lines(must(t, conn, "SHOW CLIENTS")) {
		if row = strings.TrimSpace(row); strings.Contains(row, "|"+database+"|none|") {
			must(t, conn, "KILL_CLIENT "+row[strings.LastIndexByte(row, '|')+1:])
			return
		}
	}
	t.Fatalf("%s has no client", database)
}

func TestConsoleShowsClientsAndServers(t *testing.T) {
	f, _ := startBusy(t)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	field := func(row, name string) string {
		i := slices.IndexFunc(f.console.command("SHOW CLIENTS").columns, func(c column) bool { return c.name == name })
		return strings.Split(row, "|")[i]
	}
	clients := strings.Split(must(t, conn, "SHOW CLIENTS"), "\n")[1:]
	servers := strings.Split(must(t, conn, "SHOW SERVERS"), "\n")[1:]
	if len(clients) != 2 || len(servers) != 1 {
		t.Fatalf("clients %q, servers %q", clients, servers)
	}
	client, server := clients[0], servers[0]
	for column, want := range map[string][2]string{
		"type": {"C", "S"}, "user": {"plain", "owner"}, "database": {"shop", "shop"}, "state": {"active", "active"}, "addr": {"127.0.0.1", "127.0.0.1"},
		"link": {field(server, "ptr"), field(client, "ptr")}, "remote_pid": {"0", "1234"}, "application_name": {"tester", "tester"}, "close_needed": {"0", "0"},
	} {
		if got := [2]string{field(client, column), field(server, column)}; got != want {
			t.Errorf("%s of client and server: %q, want %q", column, got, want)
		}
	}
	if got := must(t, conn, "SHOW POOLS"); !strings.HasSuffix(got, "\nshop|owner|1|0|0|0|1|0|0|0|0|0|0|0|0|transaction|-") {
		t.Errorf("pools %s", got)
	}
	if got := must(t, conn, "SHOW DATABASES"); !strings.Contains(got, "|0|1|0|1|0|0\nstock") {
		t.Errorf("databases %s", got)
	}
	must(t, conn, "RECONNECT")
	if got := must(t, conn, "SHOW SERVERS"); field(strings.Split(got, "\n")[1], "close_needed") != "1" {
		t.Errorf("servers after RECONNECT: %s", got)
	}
}

func TestConsolePauseIsCancelled(t *testing.T) {
	f, client := startBusy(t)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	done := f.pausing(t, conn)
	if err := conn.PgConn().CancelRequest(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got != "ERROR 57014 canceling statement due to user request" {
		t.Errorf("cancelled PAUSE: %s", got)
	}
	if f.pools.PausedAll() {
		t.Error("still paused")
	}
	if got := must(t, conn, "SHOW VERSION"); !strings.HasPrefix(got, "SHOW\nPgBouncer") {
		t.Errorf("after the cancel: %s", got)
	}
	if client.PgConn().IsClosed() {
		t.Error("the client is gone")
	}
}

func TestConsolePauseWaitsForServers(t *testing.T) {
	f, client := startBusy(t)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	done := f.pausing(t, conn)
	f.killClientOf(t, "shop")
	if got := outcomeOf(simple(t, client, "SELECT 1")); got != "FATAL 57P01 admin forced disconnect" {
		t.Errorf("killed client: %s", got)
	}
	if got := <-done; got != "PAUSE" {
		t.Errorf("PAUSE: %s", got)
	}
	if !f.pools.PausedAll() {
		t.Error("not paused")
	}
}

func TestConsoleKill(t *testing.T) {
	f, client := startBusy(t)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	must(t, conn, "KILL stock")
	must(t, conn, "KILL shop")
	if got := outcomeOf(simple(t, client, "SELECT 1")); got != "FATAL 57P01 database removed" {
		t.Errorf("killed client: %s", got)
	}
	if !f.pools.Paused("shop") {
		t.Error("not paused")
	}
}

// A client that disconnects while its PAUSE waits does not leave it behind.
func TestConsolePauseLosesItsClient(t *testing.T) {
	eachWay(t, func(t *testing.T, prepare func(*fixture)) {
		f, _ := startBusy(t, prepare)
		front, conn := f.raw(t) // pgx would send a cancel request when it has lost its connection
		front.Send(&pgproto3.Query{String: "PAUSE"})
		if err := front.Flush(); err != nil {
			t.Fatal(err)
		}
		f.paused(t)
		conn.Close()
		for give := time.Now().Add(testTimeout); f.pools.PausedAll(); <-time.After(time.Millisecond) {
			if time.Now().After(give) {
				t.Fatal("paused without anybody who waits for it")
			}
		}
	})
}

// What a client sends while a command waits is answered after it.
func TestConsoleAnswersAfterTheWait(t *testing.T) {
	eachWay(t, func(t *testing.T, prepare func(*fixture)) {
		f, _ := startBusy(t, prepare)
		front, _ := f.raw(t)
		for _, sql := range []string{"PAUSE", "SHOW NOTHING", strings.Repeat(" ", 3000)} {
			front.Send(&pgproto3.Query{String: sql})
			if err := front.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		f.paused(t)
		f.killClientOf(t, "shop")
		want := []string{
			"CommandComplete PAUSE", "ReadyForQuery", "ERROR 08P01 invalid command 'SHOW NOTHING', use SHOW HELP;", "ReadyForQuery",
			"EmptyQueryResponse", "ReadyForQuery",
		}
		if got := replies(t, front, len(want)); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// eachWay runs a test without and with TLS.
func eachWay(t *testing.T, test func(t *testing.T, prepare func(*fixture))) {
	t.Run("plain", func(t *testing.T) { test(t, func(*fixture) {}) })
	t.Run("TLS", func(t *testing.T) { test(t, func(f *fixture) { f.useTLS(t, config.SSLRequire) }) })
}
