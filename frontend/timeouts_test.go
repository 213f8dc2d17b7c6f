package frontend

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// TestTimeouts: what each limit does to the client that passes it, and that its
// server is there for the next.
func TestTimeouts(t *testing.T) {
	tests := []struct {
		setting string
		send    []pgproto3.FrontendMessage
		want    []string
	}{
		{"query_timeout = 0.3", []pgproto3.FrontendMessage{query("select pg_advisory_lock(4301)")}, []string{"FATAL 57014 query timeout", "EOF"}},
		{"idle_transaction_timeout = 0.3", []pgproto3.FrontendMessage{query("begin")}, []string{"C BEGIN", "Z T", "FATAL 25P03 idle transaction timeout", "EOF"}},
		{
			"transaction_timeout = 0.3",
			[]pgproto3.FrontendMessage{query("begin"), query("select pg_advisory_lock(4301)")},
			[]string{"C BEGIN", "Z T", "FATAL 25P04 transaction timeout", "EOF"},
		},
		{"transaction_timeout = 0.3", []pgproto3.FrontendMessage{query("begin")}, []string{"C BEGIN", "Z T", "FATAL 25P04 transaction timeout", "EOF"}},
		{"client_idle_timeout = 0.3", nil, []string{"FATAL 57P05 client_idle_timeout", "EOF"}},
		{
			"client_idle_timeout = 0.3\npool_mode = \"session\"",
			[]pgproto3.FrontendMessage{query("select 1")},
			[]string{"T", "D 1", "C SELECT 1", "Z I", "FATAL 57P05 client_idle_timeout", "EOF"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.setting, func(t *testing.T) {
			r := newRig(t, tt.setting)
			unlock := lock(t, "4301")
			defer unlock()
			c := r.client()
			pid := c.pid()
			c.send(tt.send...)
			c.want(tt.want...)
			next := r.client()
			if p := next.pid(); p != pid {
				t.Errorf("the server was replaced: %s, not %s", p, pid)
			}
		})
	}
}

// TestLoginWaitsNoLongerThanAQuery: a login that waits for the first server of
// its pool is a client that waits.
func TestLoginWaitsNoLongerThanAQuery(t *testing.T) {
	for setting, want := range map[string]string{
		"query_wait_timeout = 0.3\nquery_timeout = 5": "FATAL 53300 query_wait_timeout",
		"query_timeout = 0.3":                         "FATAL 57014 query_timeout",
	} {
		t.Run(want, func(t *testing.T) {
			peer := backendtest.StartScript(t, backendtest.Script{backendtest.Hang()})
			r := startRig(t, peer.Addr(), setting)
			conn := r.dial()
			c := &wireClient{t: t, conn: conn, front: pgproto3.NewFrontend(conn, conn)}
			c.send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "postgres", "database": "app"}})
			c.want(want, "EOF")
		})
	}
}

// TestSilentFromTheStart: a client that has logged in and not said a word is
// seen by the console, ended by it, and by client_idle_timeout.
func TestSilentFromTheStart(t *testing.T) {
	r := newRig(t, "")
	c := r.client()
	var infos []ClientInfo
	r.await("the client", func() bool { // it has its greeting before it is admitted
		infos = r.sessions.Snapshot()
		return len(infos) == 1
	})
	if infos[0].State != "idle" {
		t.Errorf("the console sees %+v", infos)
	}
	if !r.sessions.KillClient(shownID(infos[0].ID)) {
		t.Error("the console does not find the client")
	}
	c.want("FATAL 57P01 "+errKilled.Message, "EOF")

	newRig(t, "client_idle_timeout = 0.3").client().want("FATAL 57P05 client_idle_timeout", "EOF")
}

// TestNoTimeout: the limits are for what their names say.
func TestNoTimeout(t *testing.T) {
	r := newRig(t, "query_timeout = 0.3\nidle_transaction_timeout = 0.3\nclient_idle_timeout = 0.6")
	c := r.client()
	c.do("begin")
	for range 3 { // longer than any of the limits, taken together
		c.query("select pg_sleep(0.2)")
		c.want("T", "D ", "C SELECT 1", "Z T")
	}
	c.query("commit")
	c.want("C COMMIT", "Z I")
}

// TestCancelWaitTimeout has a server that hears no cancel: a client that is
// gone does not keep it for longer than this.
func TestCancelWaitTimeout(t *testing.T) {
	peer := backendtest.StartScript(t,
		backendtest.Script{backendtest.Welcome(), backendtest.Expect(query("select 1")), untilClosed},
		backendtest.Script{backendtest.Hang()},
		backendtest.Script{
			backendtest.Welcome(), backendtest.Expect(query("select 2")),
			backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'}),
		},
	)
	r := startRig(t, peer.Addr(), "cancel_wait_timeout = 0.2")
	c, next := r.client(), r.client()
	c.query("select 1")
	r.await("a server", func() bool { return r.info().Active == 1 })
	c.close()
	next.query("select 2")
	next.want("C SELECT 1", "Z I")
}

func TestServerLifetime(t *testing.T) {
	r := newRig(t, "server_lifetime = 0")
	c := r.client()
	if a, b := c.pid(), c.pid(); a == b {
		t.Error("a server was used twice")
	}
	r = newRig(t, "server_lifetime = 0.5")
	c = r.client()
	a, b := c.pid(), c.pid()
	if a != b {
		t.Error("a young server was replaced")
	}
	r.await("the old server is closed", func() bool { return r.servers() == 0 })
	if c.pid() == a {
		t.Error("an old server was used")
	}
}

// TestServerFastClose: a server that is to be replaced is taken from a client
// that has a session with it, but not in the middle of a transaction.
func TestServerFastClose(t *testing.T) {
	r := newRig(t, "server_fast_close = true\npool_mode = \"session\"\ndefault_pool_size = 2")
	idle, busy := r.client(), r.client()
	idle.do("select 1")
	busy.do("begin")
	if err := r.pools.Reconnect(""); err != nil {
		t.Fatal(err)
	}
	idle.want("FATAL 57P01 database configuration changed", "EOF")
	busy.query("select 2")
	busy.want("T", "D 2", "C SELECT 1", "Z T")
	busy.query("commit")
	busy.want("C COMMIT", "Z I", "FATAL 57P01 database configuration changed", "EOF")
	r.await("no server is left", func() bool { return r.servers() == 0 })
}

func TestServerIdleTimeout(t *testing.T) {
	r := newRig(t, "server_idle_timeout = 0.2\ndefault_pool_size = 5\nmin_pool_size = 2")
	var clients []*wireClient
	for range 4 {
		c := r.client()
		c.do("begin")
		clients = append(clients, c)
	}
	for _, c := range clients {
		c.do("commit")
	}
	r.await("two servers", func() bool { return r.info().Idle == 2 && r.servers() == 2 })
	clients[0].do("select 1")
}

func TestMinPoolSize(t *testing.T) {
	r := newRig(t, "default_pool_size = 5\nmin_pool_size = 3")
	c := r.client()
	c.do("select 1")
	r.await("three servers", func() bool { return r.info().Idle == 3 })
}

func TestServerCheckQuery(t *testing.T) {
	// Fails on a server that has been used.
	r := newRig(t, "server_check_query = \"select 1/(current_setting('work_mem') = '4MB')::int\"\nserver_check_delay = 0")
	c := r.client()
	a := c.pid()
	c.do("set work_mem = '5MB'")
	if b := c.pid(); a == b {
		t.Error("a server that failed its test was used")
	}
	for _, check := range []string{"<empty>", "select 1"} {
		r = newRig(t, "server_check_delay = 0\nserver_check_query = \""+check+"\"")
		c = r.client()
		if a, b := c.pid(), c.pid(); a != b {
			t.Error("a server that passed its test was replaced")
		}
	}
}

// TestServerCheckQueryOfNewServer: one that has just been logged in to is not asked
// whether it is alive; the next time it is.
func TestServerCheckQueryOfNewServer(t *testing.T) {
	one := backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	peer := backendtest.StartScript(t, backendtest.Script{
		backendtest.Welcome(), backendtest.Expect(query("select 1")), one,
		backendtest.Expect(query("select 'check'")), one,
		backendtest.Expect(query("select 2")), one,
	})
	c := startRig(t, peer.Addr(), "server_check_query = \"select 'check'\"\nserver_check_delay = 0").client()
	for _, sql := range []string{"select 1", "select 2"} {
		c.query(sql)
		c.want("C SELECT 1", "Z I")
	}
}

// TestServerLoginRetry: logins fail for a while, then work; whoever waits is
// served.
func TestServerLoginRetry(t *testing.T) {
	starting := backendtest.Script{
		backendtest.ExpectStartup(nil),
		backendtest.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"}),
	}
	peer := backendtest.StartScript(t,
		backendtest.Script{backendtest.Welcome(), backendtest.Expect(query("select 1"))},
		starting, starting,
		backendtest.Script{
			backendtest.Welcome(), backendtest.Expect(query("select 2")),
			backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'}),
		},
	)
	r := startRig(t, peer.Addr(), "server_login_retry = 0.2")
	c, waiting := r.client(), r.client()
	c.query("select 1")
	c.want("FATAL 08006 server conn crashed?", "EOF")
	waiting.query("select 2")
	waiting.want("C SELECT 1", "Z I")
}

// TestRestart restarts PostgreSQL under clients that are idle, in a transaction
// and waiting.
func TestRestart(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	shared.Postgres(t) // skips where there is none
	pg, err := backendtest.StartPostgres(ctx, backendtest.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	}()
	r := startRig(t, pg.Addr(), "server_login_retry = 0.1\nevent_loops = 2")
	idle, inTx := r.client(), r.client()
	idle.do("select 1")
	inTx.do("begin")
	if err := pg.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	inTx.want("FATAL 57P01 terminating connection due to administrator command", "FATAL 08006 server conn crashed?", "EOF")
	r.await("the dead servers are gone", func() bool { return r.servers() == 0 })
	idle.query("select 2")
	idle.want("T", "D 2", "C SELECT 1", "Z I")
}

// TestFIFO serves many waiting clients strictly in the order in which they came.
func TestFIFO(t *testing.T) {
	tab := table(t, "who int, at serial")
	r := newRig(t, "event_loops = 3")
	release := r.busy()
	const n = 30
	var clients []*wireClient
	var want []string
	for i := range n {
		c := r.client()
		c.query(fmt.Sprintf("insert into %s values (%d)", tab, i))
		r.awaitWaiting(i + 1)
		clients = append(clients, c)
		want = append(want, fmt.Sprint(i))
	}
	release()
	for _, c := range clients {
		c.want("C INSERT 0 1", "Z I")
	}
	if got := clients[0].row("select string_agg(who::text, ' ' order by at) from " + tab); got != strings.Join(want, " ") {
		t.Errorf("served in the order %s", got)
	}
}

// untilClosed reads to the end of the connection, whatever comes.
func untilClosed(c *backendtest.ScriptConn) error {
	for {
		if _, err := c.Backend.Receive(); err != nil {
			return nil
		}
	}
}
