package frontend

import (
	"crypto/sha256"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// inUse is how many bytes are in use.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestSlowReader has a client that does not read a result of 200 MB: all of it
// stays where it is made. Then it reads, and gets every byte.
func TestSlowReader(t *testing.T) {
	r := newRig(t, "default_pool_size = 2")
	c, other := r.client(), r.client()
	other.do("select 1")
	before := inUse()
	const rows, width = 2000, 100_000
	c.query(fmt.Sprintf("select lpad(g::text, %d, '-') from generate_series(1, %d) g", width, rows))
	r.await("the client is held up", func() (held bool) {
		r.look(c, func(s *session) { held = s.stream.Queued() > 0 && s.srv.Stream.Paused() })
		return held
	})
	for range 10 { // life goes on beside it
		other.query("select 1")
		other.want("T", "D 1", "C SELECT 1", "Z I")
	}
	if after := inUse(); after > before+8<<20 {
		t.Errorf("%d bytes for a result that nobody reads", after-before)
	}
	got, want := sha256.New(), sha256.New()
	c.want("T")
	for range rows {
		m, err := c.front.Receive()
		if err != nil {
			t.Fatal(err)
		}
		got.Write(m.(*pgproto3.DataRow).Values[0])
	}
	c.want(fmt.Sprintf("C SELECT %d", rows), "Z I")
	for g := 1; g <= rows; g++ {
		n := fmt.Sprint(g)
		want.Write([]byte(strings.Repeat("-", width-len(n)) + n))
	}
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Error("the result is not what was asked for")
	}
	c.query("select 1")
	c.want("T", "D 1", "C SELECT 1", "Z I")
}

// TestClientThatNeverReads sends query after query and reads no answer. The
// answers must not pile up in the pooler.
func TestClientThatNeverReads(t *testing.T) {
	r := newRig(t, "")
	c, other := r.client(), r.client()
	b := bytesOf(t, query("select repeat('x', 8000)"))
	for n := uint64(1); ; n++ {
		c.write(b)
		var queued int
		held := false
		r.await("an answer", func() (done bool) {
			r.look(c, func(s *session) {
				queued, held = s.stream.Queued(), s.stream.Paused()
				done = s.stats.Queries >= n || held
			})
			return done
		})
		if held {
			break
		}
		if queued > 1<<20 {
			t.Fatalf("%d bytes wait for a client that does not read", queued)
		}
	}
	other.query("select 1") // the server is not tied to the slow client
	other.want("T", "D 1", "C SELECT 1", "Z I")
	c.want("T", "D xxxxxxxxxx…8000", "C SELECT 1", "Z I")
}

// TestSlowClientDies leaves a server behind whose answers nobody has read.
func TestSlowClientDies(t *testing.T) {
	r := newRig(t, "pool_mode = \"session\"\nserver_reset_query = \"\"")
	c, other := r.client(), r.client()
	pid := c.pid()
	b := bytesOf(t, query("select repeat('x', 8000)"))
	idle := false
	for n := 1; !idle; n++ {
		if n > 10_000 {
			t.Fatal("the client cannot be held up")
		}
		c.write(b)
		r.await("an answer", func() (done bool) {
			r.look(c, func(s *session) {
				idle = s.srv.Stream.Paused() && s.srv.Clean()
				done = s.srv.TxStatus() == 'I' || s.srv.Stream.Paused()
			})
			return done
		})
	}
	c.reset()
	if p := other.pid(); p != pid {
		t.Errorf("server %s took the place of %s", p, pid)
	}
}

// TestSlowServer has a client that sends more than the server takes.
func TestSlowServer(t *testing.T) {
	r := newRig(t, "")
	unlock := lock(t, "4101")
	c := r.client()
	before := inUse()
	c.query("select pg_advisory_lock(4101)")
	r.awaitLockWait("4101")
	sent := make(chan error, 1)
	const queries = 100
	go func() { sent <- writeQueries(c.conn, queries, 1<<20) }()
	r.await("the client is held up", func() (held bool) {
		r.look(c, func(s *session) { held = s.stream.Paused() })
		return held
	})
	if after := inUse(); after > before+24<<20 {
		t.Errorf("%d bytes for requests that cannot be sent", after-before)
	}
	unlock()
	c.want("T", "D ", "C SELECT 1", "Z I")
	for i := range queries {
		c.want("T", fmt.Sprint("D ", i), "C SELECT 1", "Z I")
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func writeQueries(conn net.Conn, n, size int) error {
	pad := strings.Repeat("x", size)
	for i := range n {
		b, err := query(fmt.Sprintf("select %d /*%s*/", i, pad)).Encode(nil)
		if err == nil {
			_, err = conn.Write(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
