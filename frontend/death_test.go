package frontend

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// The sixth invariant: a client may die at any point, and leaves neither a
// stuck server nor a dirty one.

func TestClientDies(t *testing.T) {
	tab := table(t, "x int")
	m := func(messages ...pgproto3.FrontendMessage) []pgproto3.FrontendMessage { return messages }
	insert := "insert into " + tab + " values (1)"
	long := strings.Repeat("x", 300_000)
	tests := []struct {
		name     string
		send     []pgproto3.FrontendMessage
		cut      int    // so many bytes of it are not sent
		until    string // the client reads up to this
		blocked  bool   // and the server waits for lock 4201
		replaced bool   // the server cannot be saved
	}{
		{name: "idle"},
		{name: "in the middle of a header", send: m(query(insert)), cut: len(insert) + 3},
		{name: "in the middle of a query", send: m(query(insert + " /*" + long + "*/")), cut: 1000, replaced: true},
		{name: "in the middle of a named parse", send: m(parse("p", insert+" /*"+long+"*/")), cut: 1000},
		{name: "in the middle of bind", send: m(query("begin"), query(insert), parse("", "select $1"), flush, bind("", long)), cut: 1000, until: "1", replaced: true},
		{name: "query in a transaction", send: m(query("begin"), query(insert)), until: "C INSERT"},
		{name: "failed transaction", send: m(query("begin"), query(insert), query("select 1/0")), until: "Z E"},
		{name: "idle in a transaction", send: m(query("begin;" + insert)), until: "Z T"},
		{name: "in the middle of a result", send: m(query("begin;" + insert + "; select repeat('x', 10000) from generate_series(1, 100000)")), until: "D"},
		{name: "while a query runs", send: m(query("begin"), query(insert), query("select pg_advisory_lock(4201)")), until: "C INSERT", blocked: true},
		{name: "between parse and sync", send: m(query("begin"), query(insert), parse("a", "select 1"), flush), until: "1"},
		{name: "before sync", send: m(query("begin"), query(insert), parse("", "select 1"), bind(""), execute, flush), until: "D"},
		{name: "implicit transaction before sync", send: m(parse("", insert), bind(""), execute, flush), until: "C INSERT"},
		{name: "after an error, before sync", send: m(query("begin"), query(insert), parse("", "nonsense"), flush), until: "ERROR"},
		{name: "after a known parse", send: m(query("begin;"+insert), parse("k", "select 'known'"), flush, parse("k2", "select 'known'")), until: "1"},
		{name: "after close", send: m(query("begin;"+insert), closeStatement("k2"), flush), until: "3"},
		{name: "pipeline under way", send: m(query("begin"), query(insert), parse("", "select pg_advisory_lock(4201)"), bind(""), execute, syncMsg, query("commit")), until: "C INSERT", blocked: true},
		{name: "copy in", send: m(query("begin"), query(insert), query("copy "+tab+" from stdin"), copyData("5\n")), until: "G"},
		{name: "copy in, data under way", send: m(query("begin"), query("copy "+tab+" from stdin"), copyData("5\n"+long)), until: "G", cut: 100, replaced: true},
		{name: "copy in before the server is ready for it", send: m(query("begin"), query(insert), query("copy "+tab+" from stdin"))},
		{name: "extended copy in", send: m(query("begin"), query(insert), parse("", "copy "+tab+" from stdin"), bind(""), execute, syncMsg), until: "G"},
		{name: "extended copy in, ended but not synced", send: m(query("begin"), query(insert), parse("", "copy "+tab+" from stdin"), bind(""), execute, copyData("1\n"), copyDone), until: "G"},
		{name: "copy out", send: m(query("begin"), query(insert), query("copy (select repeat('x', 10000) from generate_series(1, 100000)) to stdout")), until: "d"},
	}
	r := newRig(t, "event_loops = 2\ncancel_wait_timeout = 5")
	prepare := r.client()
	prepare.send(parse("k", "select 'known'"), syncMsg)
	prepare.want("1", "Z I")
	next := r.client()
	unlock := lock(t, "4201")
	defer unlock()
	for _, tt := range tests {
		for _, death := range []string{"close", "reset", "terminate"} {
			if death == "terminate" && tt.cut > 0 {
				continue
			}
			t.Run(tt.name+"/"+death, func(t *testing.T) {
				next.conn.SetDeadline(time.Now().Add(testTimeout)) // which is for one death, not for all
				pid := next.pid()
				c := r.client()
				c.t = t
				b := bytesOf(t, tt.send...)
				c.write(b[:len(b)-tt.cut])
				if tt.until != "" {
					c.until(tt.until)
				}
				if tt.blocked {
					r.awaitLockWait("4201")
				}
				switch death {
				case "terminate":
					c.send(&pgproto3.Terminate{})
					fallthrough
				case "close":
					c.close()
				case "reset":
					c.reset()
				}
				if got := next.row("select count(*) from " + tab); got != "0" {
					t.Errorf("%s rows are there", got)
				}
				if p := next.pid(); p != pid && !tt.replaced {
					t.Errorf("the server was replaced: %s, not %s", p, pid)
				}
				next.query("select 'next'")
				next.want("T", "D next", "C SELECT 1", "Z I")
				r.awaitRest()
				r.await("the client is forgotten", func() bool { return r.info().Clients == 2 })
				if i := r.info(); i.Servers() > 1 {
					t.Errorf("%+v", i)
				}
			})
		}
	}
}

// TestClientDiesBeforeCopyBegins: the server asks for data when nobody is left
// to send any.
func TestClientDiesBeforeCopyBegins(t *testing.T) {
	const sql = "copy t from stdin"
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	failed := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "57014", Message: "COPY from stdin failed"}
	for _, simple := range []bool{true, false} {
		gone := make(chan struct{})
		first := []pgproto3.FrontendMessage{query(sql)}
		replies := []pgproto3.BackendMessage{failed, ready}
		if !simple {
			first = []pgproto3.FrontendMessage{parse("", sql), bind(""), execute, syncMsg}
			replies = []pgproto3.BackendMessage{failed}
		}
		giveUp := []pgproto3.FrontendMessage{&pgproto3.CopyFail{Message: "client disconnected"}, syncMsg}
		main := backendtest.Script{
			backendtest.Welcome(), backendtest.Expect(first...), backendtest.Await(gone),
		}
		if simple {
			main = append(main, backendtest.Send(&pgproto3.CopyInResponse{}))
		} else {
			main = append(main, backendtest.Send(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.CopyInResponse{}))
		}
		main = append(main, backendtest.Expect(giveUp...), backendtest.Send(append(replies, ready)...),
			backendtest.Expect(query(unlockAll)), backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, ready),
			backendtest.Expect(query("select 1")), backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, ready))
		cancel := backendtest.Script{backendtest.ExpectCancel(&pgproto3.CancelRequest{ProcessID: 1234, SecretKey: []byte{0, 0, 22, 46}})}
		peer := backendtest.StartScript(t, main, cancel)
		r := startRig(t, peer.Addr(), "")
		c, next := r.client(), r.client()
		c.send(first...)
		r.await("a server", func() bool { return r.info().Active == 1 })
		c.close()
		r.await("the end", func() bool { return r.info().Clients == 1 })
		close(gone)
		next.query("select 1")
		next.want("C SELECT 1", "Z I")
	}
}

// TestClientDiesWhileParametersAreSet loses a client while its server is being
// told its parameters.
func TestClientDiesWhileParametersAreSet(t *testing.T) {
	gone := make(chan struct{})
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	take := func(n int) backendtest.Step {
		return func(c *backendtest.ScriptConn) error {
			for range n {
				if _, err := c.Backend.Receive(); err != nil {
					return err
				}
			}
			return nil
		}
	}
	answer := func(name string) backendtest.Step {
		return backendtest.Send(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.DataRow{}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")},
			&pgproto3.ParameterStatus{Name: "application_name", Value: name}, ready)
	}
	peer := backendtest.StartScript(t, backendtest.Script{
		backendtest.Welcome(), take(4), backendtest.Await(gone), answer("first"),
		backendtest.Expect(query(unlockAll)), backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, ready),
		take(4), answer("second"),
		backendtest.Expect(query("select 2")), backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, ready),
	}, backendtest.Script{backendtest.ExpectCancel(&pgproto3.CancelRequest{ProcessID: 1234, SecretKey: []byte{0, 0, 22, 46}})})
	r := startRig(t, peer.Addr(), "")
	c, next := r.client("application_name", "first"), r.client("application_name", "second")
	c.query("select 1")
	outlive(r, c, next, gone)
}

// outlive loses c while the server, which waits for gone, has a query of its, and
// lets next run another one.
func outlive(r *rig, c, next *wireClient, gone chan struct{}) {
	r.t.Helper()
	r.await("a server", func() bool { return r.info().Active == 1 })
	c.reset()
	r.await("the end", func() bool { return r.info().Clients == 1 })
	close(gone)
	next.query("select 2")
	next.want("C SELECT 1", "Z I")
	r.awaitRest()
}

// TestManyClientsDie has clients of several loops die at random, over few
// servers; what is left must work.
func TestManyClientsDie(t *testing.T) {
	tab := table(t, "x int")
	r := newRig(t, "default_pool_size = 2\nevent_loops = 3")
	parts := [][]byte{
		bytesOf(t, query("begin")),
		bytesOf(t, query("insert into "+tab+" values (1)")),
		bytesOf(t, parse("s", "select $1::int"), bind("s", "1"), execute, flush),
		bytesOf(t, query("copy "+tab+" from stdin"), copyData("7\n")),
	}
	done := make(chan struct{})
	const clients = 60
	for i := range clients {
		c := r.client()
		go func() {
			defer func() { done <- struct{}{} }()
			for k, p := range parts[:1+i%4] {
				if k == i%4 && i%5 == 0 {
					p = p[:len(p)-1-i%7]
				}
				if _, err := c.conn.Write(p); err != nil {
					t.Error(err)
				}
			}
			if i%3 == 0 && i%5 != 0 {
				c.receive()
			}
			if i%2 == 0 {
				c.reset()
			} else {
				c.close()
			}
		}()
	}
	for range clients {
		<-done
	}
	r.await("all forgotten", func() bool { return r.info().Clients == 0 })
	if n := r.awaitRest(); n > 2 {
		t.Errorf("%d servers", n)
	}
	c := r.client()
	for i := range 4 {
		c.query(fmt.Sprint("select ", i))
		c.want("T", fmt.Sprint("D ", i), "C SELECT 1", "Z I")
	}
	if got := c.row("select count(*) from " + tab); got != "0" {
		t.Errorf("%s rows are there", got)
	}
}

// unlockAll is what a server whose client died is asked after the rollback.
const unlockAll = "SELECT pg_catalog.pg_advisory_unlock_all()"

// TestBeginOfTheDeadIsNotCancelled: what a client has sent behind a BEGIN would
// be committed if that was cancelled.
func TestBeginOfTheDeadIsNotCancelled(t *testing.T) {
	gone := make(chan struct{})
	idle, inTx := &pgproto3.ReadyForQuery{TxStatus: 'I'}, &pgproto3.ReadyForQuery{TxStatus: 'T'}
	done := func(tag string) *pgproto3.CommandComplete { return &pgproto3.CommandComplete{CommandTag: []byte(tag)} }
	// A cancel request would be one connection more than there are scripts for.
	peer := backendtest.StartScript(t, backendtest.Script{
		backendtest.Welcome(),
		backendtest.Expect(query("begin")), backendtest.Expect(query("insert")), backendtest.Await(gone),
		backendtest.Send(done("BEGIN"), inTx, done("INSERT 0 1"), inTx),
		backendtest.Expect(query("ROLLBACK")), backendtest.Send(done("ROLLBACK"), idle),
		backendtest.Expect(query(unlockAll)), backendtest.Send(done("SELECT 1"), idle),
		backendtest.Expect(query("select 2")), backendtest.Send(done("SELECT 1"), idle),
	})
	r := startRig(t, peer.Addr(), "")
	c, next := r.client(), r.client()
	c.write(bytesOf(t, query("begin"), query("insert")))
	outlive(r, c, next, gone)
}
