package frontend

import (
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

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
			name: "SHOW USERS", rows: (*Console).showUsers,
			columns: columnsOf("name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i max_user_client_connections:i current_client_connections:i"),
			help:    "The users that are configured or connected, and how many connections they have.",
		},
		{
			name: "SHOW LISTS", rows: (*Console).showLists, columns: columnsOf("list items:i"),
			help: "How many of everything there are.",
		},
		{
			name: "SHOW PEERS", rows: (*Console).showPeers, columns: columnsOf("peer_id:i host port:i pool_size:i"),
			help: "The peers that cancel requests are passed on to.",
		},
		{
			name: "SHOW PEER_POOLS", rows: (*Console).showPeerPools,
			columns: columnsOf("peer_id:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active_cancel:i sv_login:i"),
			help:    "Cancel requests on their way to each peer that has had one: being sent (active) or waiting for a place in its pool.",
		},
		{
			name: "SHOW DNS_HOSTS", rows: (*Console).showDNSHosts, columns: columnsOf("hostname ttl:q addrs"),
			help: "The host names that are remembered, for how many seconds, and their addresses, none for a name that does not exist.",
		},
		{
			name: "SHOW DNS_ZONES", rows: func(*Console) [][]any { return nil }, columns: columnsOf("zonename serial:q count:i"),
			help: "The zones that are watched for changes: none.",
		},
		{
			name: "SHOW MEM", rows: (*Console).showMem, columns: columnsOf("name size:i used:i free:i memtotal:i"),
			help: "The memory of the process, in units of `size` bytes: used and free ones, and bytes in all. " +
				"`heap` is what pgvalet itself has made, `stacks` belong to its goroutines, `runtime` is what Go needs to manage both.",
		},
		{
			name: "SHOW STATE", rows: (*Console).showState, columns: columnsOf("key value"),
			help: "Whether everything goes on, is paused (`PAUSE` without a database) or suspended.",
		},
		{
			name: "SHOW VERSION", rows: (*Console).showVersion, columns: columnsOf("version"),
			help: "The version of PgBouncer whose console this one is like, and pgvalet's own.",
		},
	}
	list = append(list, loginsCommand())
	return slices.Concat(list, tokenCommands(), socketCommands(), statsCommands())
}

func (c *Console) showVersion() [][]any {
	return [][]any{{Version(c.o.Version)}}
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
	suspended := c.o.Sessions.Suspended()
	paused := c.o.Pools.PausedAll()
	return [][]any{{"active", yesNo(!paused && !suspended)}, {"paused", yesNo(paused)}, {"suspended", yesNo(suspended)}}
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
		canceling := p.Cancels - p.CancelsWaiting
		rows = append(rows, []any{
			p.Database, p.User, p.Clients - p.Waiting, p.Waiting, canceling, p.CancelsWaiting, p.Active, canceling, p.BeingCanceled,
			p.Idle, p.Used, p.Tested, p.Login, wait, waitMicros, p.Mode.String(), balancing(c.o.Config().Database(p.Database)),
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
	row := func(d *config.Database, poolSize int, paused, disabled bool) []any {
		return []any{
			d.Name, orNull(d.Host), d.Port, d.DBName, orNull(d.User), poolSize, cfg.MinPoolSizeFor(d), cfg.ReservePoolSizeFor(d, ""),
			int(cfg.ServerLifetimeFor(d).Seconds()), orNull(d.PoolMode.String()), balancing(d),
			cfg.MaxDBConnectionsFor(d), servers[d.Name], cfg.MaxDBClientConnectionsFor(d), clients[d.Name], number(paused), number(disabled),
		}
	}
	rows := [][]any{row(&config.Database{
		Name: consoleName, Port: cfg.ListenPort, DBName: consoleName, User: consoleName, PoolMode: config.PoolModeStatement, ServerLifetime: cfg.ServerLifetime,
		MaxDBConnections: cfg.MaxDBConnections, MaxDBClientConnections: cfg.MaxDBClientConnections,
	}, 2, false, false)}
	for _, d := range c.o.Pools.Databases() {
		rows = append(rows, row(d, cfg.PoolSizeFor(d, ""), c.o.Pools.Paused(d.Name), c.o.Pools.Disabled(d.Name)))
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
	for _, name := range c.o.Users() {
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
		size, reserve, mode := "", "", ""
		if u := cfg.Users[name]; u != nil {
			mode = u.PoolMode.String()
			if u.PoolSize >= 0 {
				size = fmt.Sprintf("%9d", u.PoolSize)
			}
			if u.ReservePoolSize >= 0 {
				reserve = fmt.Sprintf("%9d", u.ReservePoolSize)
			}
		}
		rows = append(rows, []any{
			name, size, reserve, orNull(mode), cfg.MaxUserConnectionsFor(name), servers[name], cfg.MaxUserClientConnectionsFor(name), clients[name],
		})
	}
	return rows
}

func (c *Console) showLists() [][]any {
	pools, clients, logins, servers := c.pools(), 0, len(c.o.LoggingIn()), 0
	for _, p := range pools {
		clients += p.Clients
		servers += p.Servers() + p.Login
	}
	return [][]any{
		{"databases", len(c.o.Pools.Databases()) + 1},
		{"users", len(c.showUsers())},
		{"peers", len(c.o.Config().Peers)},
		{"pools", len(pools)},
		{"peer_pools", len(c.o.Sessions.PeerPools())},
		{"free_clients", 0},
		{"used_clients", clients + logins},
		{"login_clients", logins},
		{"free_servers", 0},
		{"used_servers", servers},
		{"dns_names", len(c.o.Pools.Names())},
		{"dns_zones", 0},
		{"dns_queries", 0},
		{"dns_pending", 0},
	}
}

// balancing is how the tables show load_balance_hosts: only where it matters.
func balancing(d *config.Database) any {
	if d == nil || len(d.Hosts()) < 2 {
		return nil
	}
	return d.LoadBalanceHosts.String()
}

func (c *Console) showDNSHosts() [][]any {
	var rows [][]any
	for _, n := range c.o.Pools.Names() {
		addrs := make([]string, len(n.Addrs))
		for i, a := range n.Addrs {
			addrs[i] = a.String()
		}
		rows = append(rows, []any{n.Host, int(n.TTL.Seconds()), strings.Join(addrs, ",")})
	}
	return rows
}

func (c *Console) showPeers() [][]any {
	cfg := c.o.Config()
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(cfg.Peers)) {
		p := cfg.Peers[id]
		rows = append(rows, []any{id, orNull(p.Host), p.Port, cfg.PeerPoolSizeFor(p)})
	}
	return rows
}

func (c *Console) showPeerPools() [][]any {
	var rows [][]any
	for _, p := range c.o.Sessions.PeerPools() {
		rows = append(rows, []any{p.ID, p.Active, p.Waiting, p.Active, 0})
	}
	return rows
}

// memUnit is the size that SHOW MEM counts in: bytes would not fit its columns.
const memUnit = 1 << 10

func (c *Console) showMem() [][]any {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	row := func(name string, used, all uint64) []any {
		return []any{name, memUnit, used / memUnit, (all - used) / memUnit, all}
	}
	managed := m.MSpanSys + m.MCacheSys + m.BuckHashSys + m.GCSys + m.OtherSys
	return [][]any{
		row("heap", m.HeapAlloc, m.HeapSys-m.HeapReleased),
		row("stacks", m.StackInuse, m.StackSys),
		row("runtime", managed-(m.MSpanSys-m.MSpanInuse)-(m.MCacheSys-m.MCacheInuse), managed),
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
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
