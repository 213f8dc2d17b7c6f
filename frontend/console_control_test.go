package frontend

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestConsoleDisable(t *testing.T) {
	f, client := startBusy(t)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	must(t, conn, "DISABLE shop")
	if got := must(t, conn, "SHOW DATABASES"); !strings.Contains(got, "|0|1\nstock") {
		t.Errorf("shop is not shown as disabled: %s", got)
	}
	const url = "postgres://plain@%/shop?sslmode=disable"
	_, err := pgx.Connect(timeout(t), strings.ReplaceAll(url, "%", f.tcp))
	if got := outcomeOf(nil, err); got != `FATAL 55000 database "shop" is disabled` {
		t.Errorf("login: %s", got)
	}
	if client.PgConn().IsClosed() {
		t.Error("a client that was there is gone")
	}
	must(t, conn, "ENABLE shop")
	f.open(t, "plain", "shop", pgx.QueryExecModeSimpleProtocol)
}

func TestConsoleWaitClose(t *testing.T) {
	f, _ := startBusy(t)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	must(t, conn, "WAIT_CLOSE") // there is nothing to wait for
	must(t, conn, "RECONNECT shop")
	done := make(chan string, 1)
	go func() { done <- outcomeOf(simple(t, conn, "WAIT_CLOSE shop")) }()
	select {
	case got := <-done:
		t.Fatalf("the server is open, but WAIT_CLOSE says %s", got)
	case <-time.After(20 * time.Millisecond):
	}
	f.killClientOf(t, "shop")
	if got := <-done; got != "WAIT_CLOSE" {
		t.Errorf("WAIT_CLOSE: %s", got)
	}
}

// columnOf returns a column of every row of a table of the console.
func (f *consoleFixture) columnOf(t *testing.T, conn *pgx.Conn, show, name string) []string {
	t.Helper()
	var list []string
	for _, row := range strings.Split(must(t, conn, show), "\n")[1:] {
		for i, c := range f.console.command(show).columns {
			if c.name == name {
				list = append(list, strings.Split(row, "|")[i])
			}
		}
	}
	return list
}

func TestConsoleSockets(t *testing.T) {
	f, _ := startBusy(t)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	silent, err := net.Dial("tcp", f.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for give := time.Now().Add(testTimeout); len(f.LoggingIn()) == 0; <-time.After(time.Millisecond) {
		if time.Now().After(give) {
			t.Fatal("the login is not shown")
		}
	}
	states := f.columnOf(t, conn, "SHOW SOCKETS", "state")
	if got := strings.Join(states, " "); got != "cl_active cl_active sv_active cl_login" {
		t.Errorf("states %s", got)
	}
	users := f.columnOf(t, conn, "SHOW SOCKETS", "user")
	if users[3] != "(nouser)" {
		t.Errorf("users %q", users)
	}
	// Clients and servers are numbered together, in the order in which they came.
	if got := strings.Join(f.columnOf(t, conn, "SHOW SOCKETS", "id"), " "); got != "1 3 2 4" {
		t.Errorf("ids %s", got)
	}
	if got := must(t, conn, "SHOW ACTIVE_SOCKETS"); got != "SHOW" {
		t.Errorf("nothing waits in any buffer, but %s", got)
	}

	tasks := f.columnOf(t, conn, "SHOW FDS", "task")
	if got := strings.Join(tasks, " "); got != "pooler pooler client client client server" {
		t.Errorf("tasks %s", got)
	}
	fds, links := f.columnOf(t, conn, "SHOW FDS", "fd"), f.columnOf(t, conn, "SHOW FDS", "link")
	if links[3] != fds[5] || links[5] != fds[3] || fds[3] == "0" || links[4] != "0" {
		t.Errorf("descriptors %q, links %q", fds, links)
	}
	for _, name := range []string{"cancel", "password", "scram_client_key", "scram_server_key"} {
		if got := strings.Join(f.columnOf(t, conn, "SHOW FDS", name), ""); got != "------" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// The tables show the limits that hold, and what is remembered of host names.
func TestConsoleShowsLimits(t *testing.T) {
	cfg := consoleConfig(t, noServer)
	cfg.ReservePoolSize, cfg.MaxDBConnections, cfg.MaxDBClientConnections = 3, 30, 300
	cfg.MaxUserConnections, cfg.MaxUserClientConnections = 4, 40
	cfg.Users["plain"].ReservePoolSize, cfg.Users["plain"].MaxUserConnections = 5, 6
	cfg.Databases["shop"].MaxDBConnections = 31
	stock := cfg.Databases["stock"]
	stock.Host = "localhost,127.0.0.1"
	f := startConsole(t, cfg)
	conn := f.open(t, "root", "pgbouncer", pgx.QueryExecModeSimpleProtocol)
	for _, tt := range []struct{ show, column, want string }{
		{"SHOW DATABASES", "reserve_pool_size", "0 3 3"}, // pgbouncer, shop, stock
		{"SHOW DATABASES", "max_connections", "30 31 30"},
		{"SHOW DATABASES", "max_client_connections", "300 300 300"},
		{"SHOW DATABASES", "load_balance_hosts", "- - round-robin"},
		{"SHOW USERS", "name", "md5 nosecret pgbouncer plain root scram watcher"},
		{"SHOW USERS", "reserve_pool_size", "           5   "},
		{"SHOW USERS", "max_user_connections", "4 4 4 6 4 4 4"},
		{"SHOW USERS", "max_user_client_connections", "40 40 40 40 40 40 40"},
	} {
		if got := strings.Join(f.columnOf(t, conn, tt.show, tt.column), " "); strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(tt.want), " ") {
			t.Errorf("%s, %s: %q, want %q", tt.show, tt.column, got, tt.want)
		}
	}
}
