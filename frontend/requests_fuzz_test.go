package frontend

import (
	"bytes"
	"net"
	"os"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// pair returns two ends of a connection, one of them detached.
func pair(t testing.TB) (*evloop.Transport, net.Conn) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	return evloop.NewTransport(conns[0]), conns[1]
}

// sent returns what has been written to the other end of conn.
func sent(t *testing.T, conn net.Conn) []byte {
	var all []byte
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Read(func(fd uintptr) bool {
		var b [4096]byte
		for {
			n, err := syscall.Read(int(fd), b[:])
			if n <= 0 || err != nil {
				return true
			}
			all = append(all, b[:n]...)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// FuzzRequests holds that a client's bytes may come in any pieces without a
// difference to what the server is sent, and that no bytes make a session
// panic.
func FuzzRequests(f *testing.F) {
	f.Add([]byte("Q\x00\x00\x00\x0dselect 1\x00"), 3)
	f.Add([]byte("P\x00\x00\x00\x0as\x00x\x00\x00\x00B\x00\x00\x00\x0d\x00s\x00\x00\x00\x00\x00\x00\x00E\x00\x00\x00\x09\x00\x00\x00\x00\x00S\x00\x00\x00\x04"), 1)
	f.Add([]byte("P\x00\x00\x00\x09\x00x\x00\x00\x00D\x00\x00\x00\x06S\x00H\x00\x00\x00\x04S\x00\x00\x00\x04C\x00\x00\x00\x07Ss\x00"), 6)
	f.Add([]byte("d\x00\x00\x00\x08rowsc\x00\x00\x00\x04f\x00\x00\x00\x07no\x00X\x00\x00\x00\x04"), 2)
	f.Add([]byte("F\x00\x00\x00\x04\xff\x00\x00\x00\x04"), 5)
	f.Add([]byte("B\x00\x00\x00\x12\x00PGVALET_1\x00\x00\x00\x00\x00"), 4)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		if len(data) > 2000 {
			return
		}
		whole, wstate := request(t, data, len(data)+1)
		parts, pstate := request(t, data, 1+(cut&0x7fff)%61)
		if wstate != pstate || !bytes.Equal(whole, parts) {
			t.Fatalf("whole: state %d, %q; in pieces: state %d, %q", wstate, whole, pstate, parts)
		}
	})
}

// request gives a session that has a server the bytes, in pieces of n, and
// returns what the server got and the state that the session ends in.
func request(t *testing.T, data []byte, n int) ([]byte, sessionState) {
	b := newBareSession(t)
	defer b.close()
	s, srv := b.s, b.s.srv
	var kept, got []byte
	for len(data) > 0 && s.state == sessionOpen {
		m := min(n, len(data))
		kept = bytes.Clone(s.requests(append(kept, data[:m]...)))
		data = data[m:]
		if s.state == sessionOpen {
			s.flush()
			got = append(got, sent(t, b.serverEnd)...) // the socket holds few small pieces
		}
	}
	s.w.toServer.Flush(srv.Stream)
	return append(got, sent(t, b.serverEnd)...), s.state
}

// bareSession is a session that has a server, which is busy all the time. Both
// connections have another end, and the loop does not run.
type bareSession struct {
	s                    *session
	clientEnd, serverEnd net.Conn
	close                func()
}

func newBareSession(t testing.TB) *bareSession {
	t.Helper()
	cfg, err := config.Parse("t.toml", []byte("[pgvalet]\nauth_type = \"trust\"\nauth_file = \"u\"\nunix_socket_dir = \"/tmp\"\n[databases.d]\nhost = \"/tmp\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	loop, err := evloop.New(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	loops := []*evloop.Loop{loop}
	pools := pool.New(pool.Options{Settings: pool.Settings{Config: cfg}, Loops: loops, Log: zap.NewNop()})
	c := NewSessions(SessionsOptions{Config: func() *config.Config { return cfg }, Pools: pools, Loops: loops, Log: zap.NewNop()})
	p, err := pools.Get("d", "u")
	if err != nil {
		t.Fatal(err)
	}
	s := &session{
		group: c.groups.join(c.workers[0], p, "u"), release: func() {},
		mode: config.PoolModeTransaction, believes: c.varSets.of(make(backend.Vars, 5)),
	}
	s.configure(cfg)
	client, clientEnd := pair(t)
	if s.stream, err = client.Detach(nil); err != nil {
		t.Fatal(err)
	}
	server, serverEnd := pair(t)
	s.srv, err = backend.NewServer(&backend.Target{}, &backend.Login{Transport: server}, backend.ServerOptions{
		Tracked: pools.Tracked(), Statements: pools.Statements(), MaxPrepared: func() int { return 10 }, Pool: p,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := loop.Attach(s.srv.Stream, s.srv); err != nil {
		t.Fatal(err)
	}
	s.srv.Hold(s)
	s.srv.Expect(wire.Query) // so that it is not given back
	s.w.list = []*session{s}
	srv := s.srv
	return &bareSession{s: s, clientEnd: clientEnd, serverEnd: serverEnd, close: func() {
		s.stream.Close()
		srv.Stream.Close()
		serverEnd.Close()
		clientEnd.Close()
		pools.Close()
		loop.Stop()
		_ = loop.Run() // closes the poller
	}}
}
