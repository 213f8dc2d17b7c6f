package frontend

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"net"
	"slices"
	"time"

	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// socketColumns are those of SHOW CLIENTS and SHOW SERVERS.
const socketColumns = "type user database replication state addr port:i local_addr local_port:i connect_time request_time " +
	"wait:i wait_us:i close_needed:i ptr link remote_pid:i tls application_name prepared_statements:i id:i"

// showCommands are the tables of the console. Names, order and types of their
// columns are PgBouncer's; what pgvalet does not have shows as it does there
// when it is not used.
func showCommands() []consoleCommand {
	list := []consoleCommand{
		{
			name: "SHOW HELP", run: (*consoleSession).showHelp,
			help: "Lists the commands, in the detail of a notice.",
		},
		{
			name: "SHOW CONFIG", rows: (*Console).showConfig,
			columns: columnsOf("key value default changeable"),
			help:    "The settings in force. `changeable` says whether `RELOAD` applies a new value.",
		},
		{
			name: "SHOW DATABASES", rows: (*Console).showDatabases,
			columns: columnsOf("name host port:i database force_user pool_size:i min_pool_size:i reserve_pool_size:i server_lifetime:i pool_mode load_balance_hosts " +
				"max_connections:i current_connections:i max_client_connections:i current_client_connections:i paused:i disabled:i"),
			help: "The configured databases, where they are, and how many connections they have.",
		},
		{
			name: "SHOW POOLS", rows: (*Console).showPools,
			columns: columnsOf("database user cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active:i sv_active_cancel:i sv_being_canceled:i " +
				"sv_idle:i sv_used:i sv_tested:i sv_login:i maxwait:i maxwait_us:i pool_mode load_balance_hosts"),
			help: "One row for each database and server user: clients by state (`cl_`), servers by state (`sv_`), and how long the client that waits longest has waited (seconds, and the microseconds of it).",
		},
		{
			name: "SHOW CLIENTS", rows: (*Console).showClients, columns: columnsOf(socketColumns),
			help: "One row for each client. `state` is active (it has a server), idle or waiting; `link` is the server's `ptr`.",
		},
		{
			name: "SHOW SERVERS", rows: (*Console).showServers, columns: columnsOf(socketColumns),
			help: "One row for each server. `state` is active, idle, tested (it is being checked or cleaned) or being_canceled; `link` is the client's `ptr`.",
		},
		{
			name: "SHOW USERS", rows: (*Console).showUsers,
			columns: columnsOf("name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i max_user_client_connections:i current_client_connections:i"),
			help:    "The users that are configured or connected, and how many connections they have.",
		},
		{
			name: "SHOW LISTS", rows: (*Console).showLists, columns: columnsOf("list items:i"),
			help: "How many of everything there are.",
		},
		{
			name: "SHOW STATE", rows: (*Console).showState, columns: columnsOf("key value"),
			help: "Whether everything is paused.",
		},
		{
			name: "SHOW VERSION", rows: (*Console).showVersion, columns: columnsOf("version"),
			help: "The version of PgBouncer whose console this one is like, and pgvalet's own.",
		},
	}
	return append(list, statsCommands()...)
}

func (c *Console) showVersion() [][]any {
	return [][]any{{"PgBouncer " + imitated + " (pgvalet " + c.o.Version + ")"}}
}

func (c *Console) showConfig() [][]any {
	var rows [][]any
	for _, r := range c.o.Config().Rows() {
		row := []any{r.Key, r.Value, r.Default, yesNo(r.Changeable)}
		if r.Null {
			row[1] = nil
		}
		if r.DefaultNull {
			row[2] = nil
		}
		rows = append(rows, row)
	}
	return rows
}

func (c *Console) showState() [][]any {
	databases := c.o.Pools.Databases()
	paused := len(databases) > 0
	for _, d := range databases {
		paused = paused && c.o.Pools.Paused(d.Name)
	}
	return [][]any{{"active", yesNo(!paused)}, {"paused", yesNo(paused)}, {"suspended", yesNo(false)}}
}

// pools returns the state of all pools, with the console's own.
func (c *Console) pools() []pool.Info {
	list := c.o.Pools.Snapshot()
	c.mu.Lock()
	list = append(list, pool.Info{Database: consoleName, User: consoleName, Mode: config.PoolModeStatement, Clients: len(c.sessions), Size: 2})
	c.mu.Unlock()
	slices.SortStableFunc(list, func(a, b pool.Info) int { return cmp.Compare(a.Database, b.Database) })
	return list
}

func (c *Console) showPools() [][]any {
	var rows [][]any
	for _, p := range c.pools() {
		wait, waitMicros := seconds(p.MaxWait)
		rows = append(rows, []any{
			p.Database, p.User, p.Clients - p.Waiting, p.Waiting, 0, 0, p.Active, 0, p.BeingCanceled,
			p.Idle, 0, p.Tested, p.Login, wait, waitMicros, p.Mode.String(), nil,
		})
	}
	return rows
}

func (c *Console) showDatabases() [][]any {
	cfg := c.o.Config()
	servers, clients := map[string]int{}, map[string]int{}
	for _, p := range c.pools() {
		servers[p.Database] += p.Servers() + p.Login
		clients[p.Database] += p.Clients
	}
	row := func(d *config.Database, poolSize, paused int) []any {
		return []any{
			d.Name, orNull(d.Host), d.Port, d.DBName, orNull(d.User), poolSize, cfg.MinPoolSizeFor(d), 0,
			int(cfg.ServerLifetimeFor(d).Seconds()), orNull(d.PoolMode.String()), nil,
			0, servers[d.Name], 0, clients[d.Name], paused, 0,
		}
	}
	rows := [][]any{row(&config.Database{
		Name: consoleName, Port: cfg.ListenPort, DBName: consoleName, User: consoleName, PoolMode: config.PoolModeStatement, ServerLifetime: cfg.ServerLifetime,
	}, 2, 0)}
	for _, d := range c.o.Pools.Databases() {
		paused := 0
		if c.o.Pools.Paused(d.Name) {
			paused = 1
		}
		rows = append(rows, row(d, cfg.PoolSizeFor(d, ""), paused))
	}
	slices.SortFunc(rows, func(a, b []any) int { return cmp.Compare(a[0].(string), b[0].(string)) })
	return rows
}

func (c *Console) showUsers() [][]any {
	cfg := c.o.Config()
	servers, clients := map[string]int{}, map[string]int{}
	for name := range cfg.Users {
		clients[name] = 0
	}
	for _, p := range c.pools() {
		servers[p.User] += p.Servers() + p.Login
		clients[p.User] += 0
	}
	for _, i := range c.clients() {
		clients[i.User]++
	}
	var rows [][]any
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		size, mode := "", ""
		if u := cfg.Users[name]; u != nil {
			mode = u.PoolMode.String()
			if u.PoolSize >= 0 {
				size = fmt.Sprintf("%9d", u.PoolSize)
			}
		}
		rows = append(rows, []any{name, size, "", orNull(mode), 0, servers[name], 0, clients[name]})
	}
	return rows
}

func (c *Console) showLists() [][]any {
	pools, clients, logins, servers := c.pools(), 0, c.o.Logins(), 0
	for _, p := range pools {
		clients += p.Clients
		servers += p.Servers() + p.Login
	}
	return [][]any{
		{"databases", len(c.o.Pools.Databases()) + 1},
		{"users", len(c.showUsers())},
		{"peers", 0},
		{"pools", len(pools)},
		{"peer_pools", 0},
		{"free_clients", 0},
		{"used_clients", clients + logins},
		{"login_clients", logins},
		{"free_servers", 0},
		{"used_servers", servers},
		{"dns_names", 0},
		{"dns_zones", 0},
		{"dns_queries", 0},
		{"dns_pending", 0},
	}
}

func (c *Console) showClients() [][]any {
	var rows [][]any
	port := c.o.Config().ListenPort
	for _, i := range c.clients() {
		addr, addrPort := addressOf(i.Addr, port)
		local, localPort := addressOf(i.LocalAddr, port)
		wait, waitMicros := seconds(i.Wait)
		rows = append(rows, []any{
			"C", i.User, i.Database, i.Replication.String(), i.State, addr, addrPort, local, localPort, instant(i.ConnectedAt), instant(i.RequestAt),
			wait, waitMicros, 0, pointer(i.ID), pointer(i.Server), 0, tlsOrNone(i.TLS), i.ApplicationName, i.Prepared, shownID(i.ID),
		})
	}
	return rows
}

func (c *Console) showServers() [][]any {
	var rows [][]any
	cfg := c.o.Config()
	for _, i := range c.o.Pools.Servers() {
		port := 0
		if db := cfg.Database(i.Database); db != nil {
			port = db.Port
		}
		addr, addrPort := addressOf(i.Addr, port)
		local, localPort := addressOf(i.LocalAddr, port)
		closeNeeded := 0
		if i.CloseNeeded {
			closeNeeded = 1
		}
		rows = append(rows, []any{
			"S", i.User, i.Database, i.Replication.String(), i.State, addr, addrPort, local, localPort, instant(i.ConnectedAt), instant(i.RequestAt),
			0, 0, closeNeeded, pointer(i.ID), pointer(i.Client), int(i.PID), tlsOrNone(i.TLS), "", 0, shownID(i.ID),
		})
	}
	return rows
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// orNull shows what is not set as NULL.
func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// seconds splits d into whole seconds and the microseconds of the rest.
func seconds(d time.Duration) (s, micros int) {
	return int(d / time.Second), int(d % time.Second / time.Microsecond)
}

// instant is how the tables show a moment; one that has not come is empty.
func instant(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// addressOf is how the tables show an address. That of a unix socket has the
// port that is part of its name.
func addressOf(a net.Addr, port int) (string, int) {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().String(), tcp.Port
	}
	return "unix", port
}

// tlsOrNone is empty for a plain connection.
func tlsOrNone(state *tls.ConnectionState) string {
	if state == nil {
		return ""
	}
	return tlsName(state)
}
