package frontend

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/pool"
)

// passRig is a rig whose database "shop" passes clients through to ln.
type passRig struct {
	*rig
	ln net.Listener
}

// newPassRig starts one, with more lines for section [pgvalet].
func newPassRig(t *testing.T, lines, shop string) *passRig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	r := &passRig{ln: ln}
	r.rig = startRig(t, ln.Addr().String(), "listen_addr = \"127.0.0.1\"\n"+lines+r.shop(shop))
	return r
}

// shop is the section of the database.
func (r *passRig) shop(more string) string {
	return fmt.Sprintf("\n[databases.shop]\nhost = \"127.0.0.1\"\nport = %d\npool_mode = \"passthrough\"\npassthrough_port = 6433\npassthrough_names = \"shop.example\"\n%s", r.ln.Addr().(*net.TCPAddr).Port, more)
}

// accept returns the next connection to the server.
func (r *passRig) accept() *net.TCPConn {
	r.t.Helper()
	conn, err := r.ln.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(testTimeout))
	r.t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

// start connects a client, and returns what Sessions.PassThrough will return.
func (r *passRig) start(askTLS bool) (*net.TCPConn, <-chan error) {
	r.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	client.SetDeadline(time.Now().Add(testTimeout))
	r.t.Cleanup(func() { client.Close() })
	conn, err := ln.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	l := &Login{
		ID: r.pools.NextID(), Transport: evloop.NewTransport(conn), Database: r.config.Load().Databases["shop"],
		Addr: conn.RemoteAddr(), LocalAddr: conn.LocalAddr(), Since: time.Now(), Release: func() {},
	}
	passed := make(chan error, 1)
	go func() { passed <- r.sessions.PassThrough(context.Background(), l, nil, askTLS) }()
	return client.(*net.TCPConn), passed
}

// pass connects a client with a server.
func (r *passRig) pass() (client, server *net.TCPConn) {
	r.t.Helper()
	client, passed := r.start(false)
	server = r.accept()
	if err := <-passed; err != nil {
		r.t.Fatal(err)
	}
	return client, server
}

// fill writes until pgvalet has something left that to does not take. It returns
// how much that is.
func (r *passRig) fill(from *net.TCPConn, queued func(*passage) int) (n int) {
	r.t.Helper()
	chunk := bytes.Repeat([]byte{'x'}, 4<<10)
	r.await("a queue", func() bool {
		m, err := from.Write(chunk)
		if err != nil {
			r.t.Fatal(err)
		}
		n += m
		full := false
		r.sessions.eachPassage(func(t *passage) { full = queued(t) > 0 })
		return full
	})
	return n
}

// unsent is how many bytes of a connection the other side's kernel has not taken.
func (r *passRig) unsent(conn *net.TCPConn) (n int) {
	r.t.Helper()
	raw, err := conn.SyscallConn()
	if err == nil {
		ctlErr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
		err = errors.Join(err, ctlErr)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// reset breaks a connection when the other side's kernel has everything.
func (r *passRig) reset(conn *net.TCPConn) {
	r.t.Helper()
	r.await("everything is sent", func() bool { return r.unsent(conn) == 0 })
	_ = conn.SetLinger(0)
	conn.Close()
}

// TestPassageGone: what one end said before its connection broke arrives at the
// other, whether it was on its way or not read yet.
func TestPassageGone(t *testing.T) {
	const last = "FATAL: goodbye"
	for _, fromServer := range []bool{true, false} {
		t.Run(fmt.Sprintf("server=%v", fromServer), func(t *testing.T) {
			r := newPassRig(t, "", "")
			client, server := r.pass()
			from, to, queued := server, client, func(t *passage) int { return t.client.stream.Queued() }
			if !fromServer {
				from, to, queued = client, server, func(t *passage) int { return t.server.stream.Queued() }
			}
			n := r.fill(from, queued)
			if _, err := io.WriteString(from, last); err != nil {
				t.Fatal(err)
			}
			r.reset(from)
			r.await("the end is noticed", func() bool {
				noticed := false
				r.sessions.eachPassage(func(t *passage) { noticed = t.client.gone || t.server.gone })
				return noticed || r.sessions.Count() == 0
			})
			got, err := io.ReadAll(to)
			if err != nil {
				t.Error(err)
			}
			if len(got) != n+len(last) || !bytes.HasSuffix(got, []byte(last)) {
				t.Errorf("%d bytes arrived of %d", len(got), n+len(last))
			}
			r.await("the passage is over", func() bool { return r.sessions.Count() == 0 })
		})
	}
}

// TestPassageLastWord: a client that is still sending learns why the server has
// left.
func TestPassageLastWord(t *testing.T) {
	const last = "FATAL: goodbye"
	r := newPassRig(t, "", "")
	client, server := r.pass()
	r.await("nobody reads on", func() bool {
		if _, err := client.Write(make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
		return r.unsent(client) > 256<<10
	})
	if _, err := io.WriteString(server, last); err != nil {
		t.Fatal(err)
	}
	r.reset(server)
	got, err := io.ReadAll(client)
	if string(got) != last || err != nil {
		t.Errorf("the client has got %q, %v", got, err)
	}
	client.Close()
	r.await("the passage is over", func() bool { return r.sessions.Count() == 0 })
}

// TestPassageLeftOpen: a client that does not close its side when the server has
// does not keep its place.
func TestPassageLeftOpen(t *testing.T) {
	r := newPassRig(t, "", "")
	client, server := r.pass()
	server.Close()
	if got, err := io.ReadAll(client); len(got) != 0 || err != nil {
		t.Errorf("the client has got %q, %v", got, err)
	}
	r.await("the passage is over", func() bool { return r.sessions.Count() == 0 })
}

// TestPassageHalfClosed: who has only finished sending gets the answer.
func TestPassageHalfClosed(t *testing.T) {
	r := newPassRig(t, "", "")
	client, server := r.pass()
	_, _ = io.WriteString(client, "question")
	_ = client.CloseWrite()
	if got, err := io.ReadAll(server); string(got) != "question" || err != nil {
		t.Errorf("the server has got %q, %v", got, err)
	}
	_, _ = io.WriteString(server, "answer")
	server.Close()
	if got, err := io.ReadAll(client); string(got) != "answer" || err != nil {
		t.Errorf("the client has got %q, %v", got, err)
	}
	r.await("the passage is over", func() bool { return r.sessions.Count() == 0 })
}

// TestPassageClientLimit: max_db_client_connections holds, and no limit on the
// clients of a user does.
func TestPassageClientLimit(t *testing.T) {
	r := newPassRig(t, "max_user_client_connections = 1", "max_db_client_connections = 2")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer ln.Close()
	serving.Go(func() {
		if err := r.acceptor.ServePassthrough(ln, "shop"); err != nil {
			t.Error(err)
		}
	})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		conn.SetDeadline(time.Now().Add(testTimeout))
		return conn
	}
	first := dial()
	server := r.accept()
	dial()
	r.accept()
	got, err := io.ReadAll(dial())
	if err != nil || !bytes.Contains(got, []byte(errTooManyOfDatabase.Message)) {
		t.Errorf("the third client has got %q, %v", got, err)
	}
	first.Close()
	server.Close()
	r.await("a place is free", func() bool { databases, _ := r.acceptor.Connected(); return databases["shop"] == 1 })
	dial()
	r.accept()
}

// TestPassageBeginsTooLate: a database that is removed while a client of it is
// being connected is gone for this client too.
func TestPassageBeginsTooLate(t *testing.T) {
	for _, tt := range []struct {
		name  string
		leave func(r *passRig)
	}{
		{"removed", func(r *passRig) { r.reload("") }},
		{"killed", func(r *passRig) {
			if err := r.pools.Kill("shop"); err != nil {
				r.t.Fatal(err)
			}
			r.sessions.Kill("shop", errKilled)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newPassRig(t, "", "")
			client, passed := r.start(true)
			server := r.accept()
			if _, err := io.ReadFull(server, make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
			tt.leave(r)
			if _, err := server.Write([]byte{'S'}); err != nil {
				t.Fatal(err)
			}
			if err := <-passed; err != nil && !errors.Is(err, pool.ErrDatabaseRemoved) {
				t.Error(err)
			}
			if _, err := server.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the server was left with %v", err)
			}
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the client was left with %v", err)
			}
			r.await("the passage is over", func() bool { return r.sessions.Count() == 0 })
		})
	}
}
