package frontend

import (
	"crypto/tls"
	"net"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/pool"
)

const (
	// socketColumns are those of SHOW CLIENTS and SHOW SERVERS.
	socketColumns = "type user database replication state addr port:i local_addr local_port:i connect_time request_time " +
		"wait:i wait_us:i close_needed:i ptr link remote_pid:i tls application_name prepared_statements:i id:i"
	// bufferColumns are more of them, of SHOW SOCKETS.
	bufferColumns = " recv_pos:i pkt_pos:i pkt_remain:i send_pos:i send_remain:i pkt_avail:i send_avail:i"
)

// socketCommands are the tables of connections.
func socketCommands() []consoleCommand {
	return []consoleCommand{
		{
			name: "SHOW CLIENTS", rows: (*Console).showClients, columns: columnsOf(socketColumns),
			help: "One row for each client. `state` is active (it has a server), idle or waiting; `link` is the server's `ptr`; `id` is what `KILL_CLIENT` takes.",
		},
		{
			name: "SHOW SERVERS", rows: (*Console).showServers, columns: columnsOf(socketColumns),
			help: "One row for each server. `state` is active, idle, used (idle for so long that it is checked before use), tested (it is being checked or cleaned) or being_canceled; " +
				"`link` is the client's `ptr`; `close_needed` is 1 if it is closed as soon as it is free.",
		},
		{
			name: "SHOW SOCKETS", rows: func(c *Console) [][]any { return c.showSockets(false) }, columns: columnsOf(socketColumns + bufferColumns),
			help: "Both, and the clients that are logging in, with the bytes that wait: `pkt_avail` (as many as `recv_pos`) were received and have not been looked at, " +
				"`pkt_remain` of the message being carried are still to come, `send_avail` have not been taken by the system yet. The other positions are always 0.",
		},
		{
			name: "SHOW ACTIVE_SOCKETS", rows: func(c *Console) [][]any { return c.showSockets(true) }, columns: columnsOf(socketColumns + bufferColumns),
			help: "Of these the ones with bytes that wait.",
		},
		{
			name: "SHOW FDS", admin: true, rows: (*Console).showFDs,
			columns: columnsOf("fd:i task user database addr port:i cancel:q link:i client_encoding std_strings datestyle timezone password scram_client_key:b scram_server_key:b"),
			help: "The file descriptors of listeners (pooler), clients and servers. `link` is the descriptor at the other end of the lease. " +
				"Cancel keys, passwords and SCRAM keys are never shown: the columns are NULL.",
		},
	}
}

func (c *Console) showClients() [][]any {
	var rows [][]any
	for _, i := range c.clients() {
		rows = append(rows, c.clientRow(&i))
	}
	return rows
}

func (c *Console) showServers() [][]any {
	var rows [][]any
	for _, i := range c.o.Pools.Servers() {
		rows = append(rows, c.serverRow(&i))
	}
	return rows
}

// showSockets shows all connections, or those with something in their buffers.
func (c *Console) showSockets(active bool) [][]any {
	var rows [][]any
	add := func(row []any, state string, i *pool.ConnInfo) {
		if active && i.Kept+i.Left+i.Queued == 0 {
			return
		}
		row[socketState] = state
		rows = append(rows, append(row, i.Kept, 0, i.Left, 0, 0, i.Kept, i.Queued))
	}
	for _, i := range c.clients() {
		state := "cl_active" // idle too, as in PgBouncer
		if i.State == "waiting" {
			state = "cl_waiting"
		}
		add(c.clientRow(&i), state, &i.ConnInfo)
	}
	for _, i := range c.o.Pools.Servers() {
		add(c.serverRow(&i), "sv_"+i.State, &i.ConnInfo)
	}
	for _, i := range c.o.LoggingIn() {
		add(c.clientRow(&i), "cl_login", &i.ConnInfo)
	}
	return rows
}

// socketState is the position of the column "state".
const socketState = 4

func (c *Console) clientRow(i *ClientInfo) []any {
	port := c.o.Config().ListenPort
	addr, addrPort := addressOf(i.Addr, port)
	local, localPort := addressOf(i.LocalAddr, port)
	wait, waitMicros := seconds(i.Wait)
	return []any{
		"C", i.User, i.Database, i.Replication.String(), i.State, addr, addrPort, local, localPort, instant(i.ConnectedAt), instant(i.RequestAt),
		wait, waitMicros, 0, pointer(i.ID), pointer(i.Link), i.PeerPID, tlsOrNone(i.TLS), i.ApplicationName, i.Prepared, shownID(i.ID),
	}
}

func (c *Console) serverRow(i *pool.ServerInfo) []any {
	port := 0
	if db := c.o.Config().Database(i.Database); db != nil {
		port = db.Port
	}
	addr, addrPort := addressOf(i.Addr, port)
	local, localPort := addressOf(i.LocalAddr, port)
	return []any{
		"S", i.User, i.Database, i.Replication.String(), i.State, addr, addrPort, local, localPort, instant(i.ConnectedAt), instant(i.RequestAt),
		0, 0, number(i.CloseNeeded), pointer(i.ID), pointer(i.Link), int(i.PID), tlsOrNone(i.TLS), i.ApplicationName, i.Prepared, shownID(i.ID),
	}
}

func (c *Console) showFDs() [][]any {
	var rows [][]any
	for _, ln := range c.o.Listeners() {
		fd, _ := describeSocket(ln)
		addr, port := addressOf(ln.Addr(), c.o.Config().ListenPort)
		rows = append(rows, []any{fd, "pooler", nil, nil, addr, port, nil, 0, nil, nil, nil, nil, nil, nil, nil})
	}
	clients, servers := c.clients(), c.o.Pools.Servers()
	fds := make(map[uint64]int)
	for _, i := range clients {
		fds[i.ID] = i.FD
	}
	for _, i := range servers {
		fds[i.ID] = i.FD
	}
	tracked := c.o.Pools.Tracked()
	add := func(task string, i *pool.ConnInfo, row []any) {
		rows = append(rows, []any{
			i.FD, task, i.User, i.Database, row[5], row[6], nil, fds[i.Link], varOf(tracked, i.Vars, "client_encoding"),
			varOf(tracked, i.Vars, "standard_conforming_strings"), varOf(tracked, i.Vars, "DateStyle"), varOf(tracked, i.Vars, "TimeZone"), nil, nil, nil,
		})
	}
	for _, i := range c.o.LoggingIn() {
		add("client", &i.ConnInfo, c.clientRow(&i))
	}
	for _, i := range clients {
		add("client", &i.ConnInfo, c.clientRow(&i))
	}
	for _, i := range servers {
		add("server", &i.ConnInfo, c.serverRow(&i))
	}
	return rows
}

// varOf is how the tables show a tracked parameter.
func varOf(t *backend.Tracked, v backend.Vars, name string) any {
	if i := t.Index(name); i < len(v) && v[i].Known {
		return v[i].Value
	}
	return nil
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
