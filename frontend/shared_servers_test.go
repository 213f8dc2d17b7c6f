package frontend

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// What one client leaves behind on a server must mean nothing to the next.

// TestStatementsMeanWhatTheClientMeans: PostgreSQL understands a literal when it
// parses the statement, by the parameters of that moment.
func TestStatementsMeanWhatTheClientMeans(t *testing.T) {
	r := newRig(t, "")
	const sql = "select ('2024-01-02 00:00'::timestamptz at time zone 'UTC')::text"
	for _, tt := range []struct{ zone, want string }{
		{"UTC", "2024-01-02 00:00:00"},
		{"Asia/Tokyo", "2024-01-01 15:00:00"},
		{"UTC", "2024-01-02 00:00:00"},
	} {
		c := r.client("TimeZone", tt.zone)
		c.send(parse("s", sql), bind("s"), execute, syncMsg)
		c.want("1", "2", "D "+tt.want, "C SELECT 1", "Z I")
		c.close()
	}
}

// TestStatementsOfWhoChangesParameters: what a client prepared before it changed
// a parameter, or right behind that, is not what others mean by the same text.
func TestStatementsOfWhoChangesParameters(t *testing.T) {
	const sql = "select extract(month from '01/02/2024'::date)"
	month := func(c *wireClient, want string, first ...pgproto3.FrontendMessage) {
		t.Helper()
		replies := []string{"2", "D " + want, "C SELECT 1", "Z I"}
		if len(first) > 0 {
			replies = append([]string{"1"}, replies...)
		}
		c.send(append(first, bind("s"), execute, syncMsg)...)
		c.want(replies...)
	}
	t.Run("before", func(t *testing.T) {
		r := newRig(t, "default_pool_size = 2\nserver_round_robin = true")
		a, b := r.client("DateStyle", "ISO, DMY"), r.client("DateStyle", "ISO, DMY")
		a.do("begin")
		b.do("begin")
		a.do("commit")
		b.do("commit")
		a.send(parse("s", sql), syncMsg)
		a.want("1", "Z I")
		a.do("set DateStyle = 'ISO, MDY'")
		for range 2 { // on both servers
			a.send(bind("s"), execute, syncMsg)
			a.until("Z I")
		}
		b.send(parse("s", sql), syncMsg)
		b.want("1", "Z I")
		for range 4 {
			month(b, "2")
		}
	})
	t.Run("behind", func(t *testing.T) {
		for _, set := range [][]pgproto3.FrontendMessage{
			{query("set DateStyle = 'ISO, MDY'")},
			{parse("", "set DateStyle = 'ISO, MDY'"), bind(""), execute},
		} {
			r := newRig(t, "")
			a, b := r.client("DateStyle", "ISO, DMY"), r.client("DateStyle", "ISO, DMY")
			a.do("select 1")
			a.send(append(set, parse("s", sql), bind("s"), execute, syncMsg)...)
			a.until("D 1")
			a.until("Z I")
			month(a, "1")
			month(b, "2", parse("s", sql))
			month(a, "1")
			month(b, "2")
		}
	})
}

// TestUnreportedParameterIsKept tracks a parameter that PostgreSQL 15 does not
// report when it changes.
func TestUnreportedParameterIsKept(t *testing.T) {
	r := newRig(t, "track_extra_parameters = \"search_path\"\ndefault_pool_size = 1")
	a := r.client("search_path", "pg_catalog", "application_name", "a")
	b := r.client("search_path", "public", "application_name", "b")
	for range 3 {
		if got := a.row("select current_setting('search_path')"); got != "pg_catalog" {
			t.Fatalf("a has search_path %q", got)
		}
		if got := b.row("select current_setting('search_path')"); got != "public" {
			t.Fatalf("b has search_path %q", got)
		}
	}
}

// TestServerThatLeavesIsNotLent: a server that said goodbye while nobody had it
// is not given to anybody, even if its socket is open for a while.
func TestServerThatLeavesIsNotLent(t *testing.T) {
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	answer := backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, ready)
	leave := make(chan struct{})
	peer := backendtest.StartScript(t,
		backendtest.Script{
			backendtest.Welcome(), backendtest.Expect(query("select 1")), answer, backendtest.Await(leave),
			backendtest.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "57P01", Message: "terminating connection due to administrator command"}),
			backendtest.Expect(&pgproto3.Terminate{}),
		},
		backendtest.Script{backendtest.Welcome(), backendtest.Expect(query("select 2")), answer})
	r := startRig(t, peer.Addr(), "")
	c := r.client()
	c.query("select 1")
	c.want("C SELECT 1", "Z I")
	close(leave)
	r.await("the server's end", func() bool { return r.info().Idle == 0 })
	c.query("select 2")
	c.want("C SELECT 1", "Z I")
}

// TestStatementsBehindDiscard prepares in the batch of the DISCARD ALL.
func TestStatementsBehindDiscard(t *testing.T) {
	r := newRig(t, "default_pool_size = 1")
	c := r.client()
	c.send(parse("s", "select 7"), syncMsg)
	c.want("1", "Z I")
	for range 2 {
		c.send(query("discard all"), parse("s", "select 7"), bind("s"), execute, syncMsg)
		c.until("C DISCARD ALL")
		c.want("Z I", "1", "2", "D 7", "C SELECT 1", "Z I")
	}
	c.send(bind("s"), execute, syncMsg)
	c.want("2", "D 7", "C SELECT 1", "Z I")
}

// TestNameTakenAgainBeforeTheAnswer prepares again what it does not know to have
// failed.
func TestNameTakenAgainBeforeTheAnswer(t *testing.T) {
	r := newRig(t, "")
	c := r.client()
	c.send(parse("s", "select nonsense"), syncMsg, parse("s", "select 8"), syncMsg, bind("s"), execute, syncMsg)
	c.want("ERROR 42703…", "Z I", "1", "Z I", "2", "D 8", "C SELECT 1", "Z I")
}

// TestLocksOfTheDeadAreUnlocked: advisory locks of a session outlive the
// transaction that is rolled back.
func TestLocksOfTheDeadAreUnlocked(t *testing.T) {
	r := newRig(t, "default_pool_size = 1")
	c, next := r.client(), r.client()
	c.do("begin")
	c.do("select pg_advisory_lock(815001)")
	pid := c.pid()
	c.reset()
	if got := next.pid(); got != pid {
		t.Errorf("the server was replaced: %s, not %s", got, pid)
	}
	if got := next.row("select count(*) from pg_locks where locktype = 'advisory' and objid = 815001"); got != "0" {
		t.Errorf("%s locks are held", got)
	}
}

// TestClientDiesInASecondCopy leaves while the second COPY of one query reads.
func TestClientDiesInASecondCopy(t *testing.T) {
	r := newRig(t, "default_pool_size = 1\ncancel_wait_timeout = 15")
	name := table(t, "x int")
	c, next := r.client(), r.client()
	pid := c.pid()
	c.query(strings.Repeat("copy "+name+" from stdin;", 2))
	c.until("G")
	c.send(copyData("1\n"), copyDone)
	c.until("G")
	c.reset()
	if got := next.pid(); got != pid {
		t.Errorf("the server was replaced: %s, not %s", got, pid)
	}
}

// TestTerminateLetsTheQueryEnd: what was asked for before goodbye is done.
func TestTerminateLetsTheQueryEnd(t *testing.T) {
	r := newRig(t, "")
	name := table(t, "x int")
	unlock := lock(t, "815002")
	c := r.client()
	c.send(query("insert into "+name+" select 1 from pg_advisory_xact_lock(815002)"), &pgproto3.Terminate{})
	r.awaitLockWait("815002")
	r.await("the client's end", func() bool { return r.info().Clients == 0 })
	unlock()
	next := r.client()
	r.await("the row", func() bool { return next.row("select count(*) from "+name) == "1" })
}

// TestServersAtOnce opens the servers of one pool together: the third comes no
// further than its login until the second does, and the other way round.
func TestServersAtOnce(t *testing.T) {
	pg := shared.Postgres(t).Addr()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { ln.Close() })
	running.Go(func() {
		var all sync.WaitGroup // that are to come
		all.Add(3)
		for i := 0; ; i++ {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			if i < 3 {
				all.Done()
			}
			running.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", pg)
				if err != nil {
					t.Error(err)
					return
				}
				defer server.Close()
				if i > 0 { // the first tells the clients what they log in to
					all.Wait()
				}
				running.Go(func() {
					_, _ = io.Copy(server, client)
					server.Close()
				})
				_, _ = io.Copy(client, server)
			})
		}
	})
	r := startRig(t, ln.Addr().String(), "default_pool_size = 3")
	var clients []*wireClient
	for range 3 {
		clients = append(clients, r.client())
	}
	for _, c := range clients {
		c.query("begin")
	}
	for _, c := range clients {
		c.want("C BEGIN", "Z T")
	}
}
