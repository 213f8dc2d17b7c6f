package frontend

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// The fourth invariant: a cancel reaches the query it was meant for or nobody.

// cancel sends a CancelRequest and waits until it has been handled.
func (r *rig) cancel(key *pgproto3.BackendKeyData) {
	r.t.Helper()
	conn := r.dial()
	defer conn.Close()
	if _, err := conn.Write(bytesOf(r.t, &pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey})); err != nil {
		r.t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, conn); n > 0 || err != nil {
		r.t.Fatalf("a cancel request was answered with %d bytes and %v", n, err)
	}
}

const canceled = "ERROR 57014 canceling statement due to user request"

func TestCancelRunningQuery(t *testing.T) {
	for _, tlsMode := range []string{"disable", "require"} {
		r := newRig(t, "default_pool_size = 2\nevent_loops = 2\nserver_tls_sslmode = \""+tlsMode+"\"")
		c, bystander := r.client(), r.client()
		unlock := lock(t, "4001")
		c.query("select pg_advisory_lock(4001)")
		r.awaitLockWait("4001")
		bystander.do("begin")
		r.cancel(c.key)
		c.want("T", canceled, "Z I")
		bystander.query("select 1")
		bystander.want("T", "D 1", "C SELECT 1", "Z T")

		c.send(parse("", "select pg_advisory_lock(4001)"), bind(""), execute, syncMsg, query("select 2"))
		r.awaitLockWait("4001")
		r.cancel(c.key)
		c.want("1", "2", canceled, "Z I", "T", "D 2", "C SELECT 1", "Z I")
		unlock()
		bystander.do("commit")
		if n := r.awaitRest(); n != 2 {
			t.Errorf("%d servers at rest", n)
		}
	}
}

// TestCancelNobody cancels what is not there to be cancelled, or not by this
// key.
func TestCancelNobody(t *testing.T) {
	r := newRig(t, "")
	c, idle := r.client(), r.client()
	unlock := lock(t, "4002")
	r.cancel(idle.key)
	idle.query("select 'idle'")
	idle.want("T", "D idle", "C SELECT 1", "Z I")
	c.do("begin")
	r.cancel(c.key) // has a server, and asks nothing of it
	c.query("select pg_advisory_lock(4002)")
	r.awaitLockWait("4002")
	for _, key := range []*pgproto3.BackendKeyData{
		{ProcessID: c.key.ProcessID, SecretKey: []byte{1, 2, 3, 4}},
		{ProcessID: c.key.ProcessID, SecretKey: append([]byte{}, append(c.key.SecretKey, 0)...)},
		{ProcessID: c.key.ProcessID + 1, SecretKey: c.key.SecretKey},
		idle.key,
	} {
		r.cancel(key)
	}
	unlock()
	c.want("T", "D ", "C SELECT 1", "Z T")
	c.query("commit")
	c.want("C COMMIT", "Z I")
}

// TestCancelWhileWaiting cancels requests that have no server yet.
func TestCancelWhileWaiting(t *testing.T) {
	m := func(messages ...pgproto3.FrontendMessage) []pgproto3.FrontendMessage { return messages }
	long := strings.Repeat("x", 200_000)
	tests := []struct {
		name string
		send []pgproto3.FrontendMessage
		want []string
	}{
		{"simple", m(query("select 1")), []string{canceled, "Z I"}},
		{"simple and long", m(query("select 1 /*" + long + "*/")), []string{canceled, "Z I"}},
		{"function call", m(&pgproto3.FunctionCall{Function: 1397, Arguments: [][]byte{[]byte("1")}}), []string{canceled, "Z I"}},
		{"extended", m(parse("x", "select 1"), bind("x"), execute, flush, syncMsg), []string{canceled, "Z I"}},
		{"extended and long", m(parse("", "select 1 /*"+long+"*/"), bind(""), execute, syncMsg), []string{canceled, "Z I"}},
		{"with copy data", m(parse("", "copy x from stdin"), bind(""), execute, copyData(long), copyDone, syncMsg), []string{canceled, "Z I"}},
	}
	r := newRig(t, "")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			release := r.busy()
			c := r.client()
			c.t = t
			c.send(tt.send...)
			r.awaitWaiting(1)
			r.cancel(c.key)
			c.want(tt.want...)
			if w := r.info().Waiting; w != 0 {
				t.Errorf("%d clients wait", w)
			}
			c.send(parse("", "select 'on'"), bind(""), execute, syncMsg)
			r.awaitWaiting(1)
			release()
			c.want("1", "2", "D on", "C SELECT 1", "Z I")
			c.close()
		})
	}
}

// TestCancelWhileWaitingThenMore has more requests behind the cancelled one:
// they are no part of it.
func TestCancelWhileWaitingThenMore(t *testing.T) {
	r := newRig(t, "")
	release := r.busy()
	c := r.client()
	c.send(query("select 1"), query("select 2"), parse("", "select 3"), bind(""), execute, syncMsg)
	r.awaitWaiting(1)
	r.cancel(c.key)
	c.want(canceled, "Z I")
	r.awaitWaiting(1)
	release()
	c.want("T", "D 2", "C SELECT 1", "Z I", "1", "2", "D 3", "C SELECT 1", "Z I")
}

// TestCancelThenLeave has a client give up on a batch that it has not even
// finished. What it would have been told must not reach anybody else.
func TestCancelThenLeave(t *testing.T) {
	r := newRig(t, "")
	release := r.busy()
	c, other := r.client(), r.client()
	c.send(parse("", "select 1"), bind(""), execute, &pgproto3.Terminate{})
	r.awaitWaiting(1)
	r.cancel(c.key)
	c.want(canceled, "EOF")
	release()
	other.query("select 'other'")
	other.want("T", "D other", "C SELECT 1", "Z I")
}

// tollgate is a TCP proxy that keeps CancelRequests, or everything, until it is
// told to let them through.
type tollgate struct {
	all      atomic.Bool
	ln       net.Listener
	open     chan struct{}
	arrived  chan struct{} // gets a value for each CancelRequest
	relaying sync.WaitGroup
}

func newTollgate(t testing.TB, addr string) *tollgate {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &tollgate{ln: ln, open: make(chan struct{}), arrived: make(chan struct{}, 100)}
	g.relaying.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			g.relaying.Go(func() { g.relay(conn, addr) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		g.relaying.Wait()
	})
	return g
}

func (g *tollgate) relay(conn net.Conn, addr string) {
	defer conn.Close()
	var head [8]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return
	}
	if binary.BigEndian.Uint32(head[4:]) == codeCancel || g.all.Load() {
		g.arrived <- struct{}{}
		<-g.open
	}
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	if _, err := server.Write(head[:]); err != nil {
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		io.Copy(conn, server)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(server, conn)
	_ = server.(*net.TCPConn).CloseWrite()
	<-back
}

// TestCancelUnderWay keeps a cancel from arriving until the query it was meant
// for has ended: the server must not be lent before.
func TestCancelUnderWay(t *testing.T) {
	for _, ending := range []string{"done", "client gone", "server gone"} {
		t.Run(ending, func(t *testing.T) {
			gate := newTollgate(t, shared.Postgres(t).Addr())
			r := startRig(t, gate.ln.Addr().String(), "cancel_wait_timeout = 15")
			unlock := lock(t, "4003")
			c, next := r.client(), r.client()
			pid := c.pid()
			c.query("select pg_advisory_lock(4003), pg_advisory_unlock(4003)")
			r.awaitLockWait("4003")
			if ending == "client gone" {
				c.reset() // which makes the pooler cancel
			} else {
				go io.Copy(io.Discard, r.cancelConn(c.key))
			}
			<-gate.arrived
			if i := r.info(); i.Cancels != 1 || i.CancelsWaiting != 0 {
				t.Errorf("a cancel request that has been sent: %+v", i)
			}
			next.query("select pg_backend_pid()")
			r.awaitWaiting(1)
			switch ending {
			case "server gone":
				admin(t, "select pg_terminate_backend("+pid+")")
				c.until("FATAL 57P01")
				unlock()
			default:
				unlock()
				if ending == "done" {
					c.want("T", "D |t", "C SELECT 1", "Z I")
				}
				r.await("the server is kept", func() bool { return r.info().BeingCanceled == 1 })
				if i := r.info(); i.Waiting != 1 || i.Active != 0 {
					t.Errorf("%+v", i)
				}
			}
			close(gate.open)
			next.want("T")
			if got := next.receive(); (got == "D "+pid) != (ending != "server gone") {
				t.Errorf("%q after %s", got, pid)
			}
			next.want("C SELECT 1", "Z I")
		})
	}
}

// TestCancelWaits: a cancel request that gets no connection to the server shows as
// waiting, and is given up after cancel_wait_timeout.
func TestCancelWaits(t *testing.T) {
	gate := newTollgate(t, shared.Postgres(t).Addr())
	r := startRig(t, gate.ln.Addr().String(), "cancel_wait_timeout = 1\nserver_tls_sslmode = \"require\"")
	unlock := lock(t, "4006")
	c := r.client()
	c.query("select pg_advisory_lock(4006), pg_advisory_unlock(4006)")
	r.awaitLockWait("4006")
	gate.all.Store(true)
	conn := r.cancelConn(c.key)
	<-gate.arrived // its SSLRequest
	if i := r.info(); i.Cancels != 1 || i.CancelsWaiting != 1 {
		t.Errorf("a cancel request without a connection: %+v", i)
	}
	if n, err := io.Copy(io.Discard, conn); n > 0 || err != nil {
		t.Errorf("a cancel request was answered with %d bytes and %v", n, err)
	}
	r.await("the log says so", func() bool {
		return r.logs.FilterMessageSnippet("closing because: cancel_wait_timeout (age=").Len() == 1
	})
	if i := r.info(); i.Cancels != 0 || i.CancelsWaiting != 0 {
		t.Errorf("a cancel request that was given up: %+v", i)
	}
	close(gate.open)
	unlock()
	c.want("T", "D |t", "C SELECT 1", "Z I")
}

// cancelConn sends a CancelRequest and does not wait.
func (r *rig) cancelConn(key *pgproto3.BackendKeyData) net.Conn {
	r.t.Helper()
	conn := r.dial()
	if _, err := conn.Write(bytesOf(r.t, &pgproto3.CancelRequest{ProcessID: key.ProcessID, SecretKey: key.SecretKey})); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// TestCancelLongKey: protocol 3.2 has long secrets, and all of one counts.
func TestCancelLongKey(t *testing.T) {
	r := newRig(t, "")
	c := r.clientOn(r.dial(), 3<<16|2)
	if len(c.key.SecretKey) != longSecret {
		t.Fatalf("the secret has %d bytes", len(c.key.SecretKey))
	}
	unlock := lock(t, "4004")
	defer unlock()
	c.query("select pg_advisory_lock(4004)")
	r.awaitLockWait("4004")
	wrong := *c.key
	wrong.SecretKey = append([]byte{}, c.key.SecretKey...)
	wrong.SecretKey[longSecret-1] ^= 1
	r.cancel(&wrong)
	short := *c.key
	short.SecretKey = c.key.SecretKey[:4]
	r.cancel(&short)
	r.awaitLockWait("4004")
	r.cancel(c.key)
	c.want("T", canceled, "Z I")
}

// TestCancelOverTLS has clients that use TLS, for their queries and for the
// request to cancel one.
func TestCancelOverTLS(t *testing.T) {
	ca, err := backendtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pgvalet")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	certFile, keyFile, err := cert.WriteFiles(dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, fmt.Sprintf("client_tls_sslmode = \"require\"\nclient_tls_cert_file = %q\nclient_tls_key_file = %q\nserver_tls_sslmode = \"require\"", certFile, keyFile))
	encrypted := func() net.Conn {
		conn := r.dial()
		var answer [1]byte
		if _, err := conn.Write(bytesOf(t, &pgproto3.SSLRequest{})); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, answer[:]); err != nil || answer[0] != 'S' {
			t.Fatalf("%q %v", answer, err)
		}
		conn = tls.Client(conn, &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1"})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := conn.(*tls.Conn).HandshakeContext(ctx); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	c := r.clientOn(encrypted(), 3<<16)
	unlock := lock(t, "4005")
	defer unlock()
	c.query("select pg_advisory_lock(4005)")
	r.awaitLockWait("4005")
	conn := encrypted()
	if _, err := conn.Write(bytesOf(t, &pgproto3.CancelRequest{ProcessID: c.key.ProcessID, SecretKey: c.key.SecretKey})); err != nil {
		t.Fatal(err)
	}
	if n, _ := io.Copy(io.Discard, conn); n != 0 {
		t.Errorf("%d bytes in answer to a cancel request", n)
	}
	c.want("T", canceled, "Z I")
}
