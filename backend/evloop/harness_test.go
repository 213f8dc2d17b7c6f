package evloop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests; none is expected to last.
const patience = 20 * time.Second

// hooks is a Handler of functions; those that are nil do nothing.
type hooks struct {
	readable func(*Stream)
	writable func(*Stream)
	parked   func(*Stream, *Loop)
	hungUp   func(*Stream, bool)
}

func (h *hooks) Readable(s *Stream) {
	if h.readable != nil {
		h.readable(s)
	}
}

func (h *hooks) Writable(s *Stream) {
	if h.writable != nil {
		h.writable(s)
	}
}

func (h *hooks) Parked(s *Stream, l *Loop) {
	if h.parked != nil {
		h.parked(s, l)
	}
}

func (h *hooks) HungUp(s *Stream, gone bool) {
	if h.hungUp != nil {
		h.hungUp(s, gone)
	}
}

func newLoop(t testing.TB, sweep func(time.Time) bool) *Loop {
	t.Helper()
	l, err := New(0, sweep)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// startLoop runs a loop until the test ends.
func startLoop(t testing.TB) *Loop {
	t.Helper()
	l := newLoop(t, nil)
	runLoop(t, l)
	return l
}

func runLoop(t testing.TB, l *Loop) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// call runs fn on the loop.
func call(t testing.TB, l *Loop, fn func()) {
	t.Helper()
	if !l.Call(fn) {
		t.Fatal("the loop has stopped")
	}
}

// turns lets the loop go round n times.
func turns(t testing.TB, l *Loop, n int) {
	t.Helper()
	for range n {
		call(t, l, func() {})
	}
}

func attach(t testing.TB, l *Loop, s *Stream, h Handler) {
	t.Helper()
	if err := l.Attach(s, h); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeOn(l, s) })
}

// closeOn closes a stream on its loop, or here when the loop has stopped.
func closeOn(l *Loop, s *Stream) {
	if now := s.Loop(); now != nil {
		l = now
	}
	if !l.Call(s.Close) {
		s.Close()
	}
}

func wait[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

// socketPair returns two connected unix sockets.
func socketPair(t testing.TB) (ours, peer net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := func(fd int) net.Conn {
		f := os.NewFile(uintptr(fd), "socketpair")
		defer f.Close()
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	return conn(fds[0]), conn(fds[1])
}

// dialled returns both ends of a connection over network: tcp or unix.
func dialled(t testing.TB, network string) (ours, peer net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err = net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ours, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); peer.Close() })
	return ours, peer
}

// detached returns a plain stream and its peer.
func detached(t testing.TB) (*Stream, net.Conn) {
	t.Helper()
	ours, peer := socketPair(t)
	return detach(t, ours), peer
}

func detach(t testing.TB, c net.Conn) *Stream {
	t.Helper()
	s, err := NewTransport(c).Detach(nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
	}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

func serverTLS(version uint16) *tls.Config {
	return &tls.Config{
		Certificates:                []tls.Certificate{certificate()},
		MinVersion:                  version,
		MaxVersion:                  version,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
}

func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}
}

// secure makes the TLS connection between ours and peer; ours is the server's
// side. peerPipe is what the peer's TLS runs over.
func secure(t testing.TB, ours, peerPipe net.Conn, version uint16) (tr *Transport, conn TLSConn, peer *tls.Conn) {
	t.Helper()
	return secureWith(t, ours, peerPipe, serverTLS(version), clientTLS())
}

func secureWith(t testing.TB, ours, peerPipe net.Conn, server, client *tls.Config) (tr *Transport, conn TLSConn, peer *tls.Conn) {
	t.Helper()
	if server.GetConfigForClient == nil {
		server = ServerTLS(server)
	}
	tr = NewTransport(ours)
	peer = tls.Client(peerPipe, client)
	return tr, shakeHands(t, ours, peer, func() (TLSConn, error) { return tr.Server(server) }), peer
}

// shakeHands makes both sides of a handshake.
func shakeHands(t testing.TB, ours net.Conn, peer *tls.Conn, handshake func() (TLSConn, error)) TLSConn {
	t.Helper()
	if err := ours.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- peer.Handshake() }()
	conn, err := handshake()
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	return conn
}

// detachedTLS returns a TLS stream, which is the server's side, and its peer.
func detachedTLS(t testing.TB, version uint16) (*Stream, *tls.Conn) {
	t.Helper()
	ours, peerConn := socketPair(t)
	tr, conn, peer := secure(t, ours, peerConn, version)
	s, err := tr.Detach(conn)
	if err != nil {
		t.Fatal(err)
	}
	return s, peer
}

// records is a net.Conn under a peer's TLS that keeps what it writes, instead
// of sending it, while holding is set.
type records struct {
	net.Conn
	holding bool
	held    []byte
}

func (r *records) Write(p []byte) (int, error) {
	if r.holding {
		r.held = append(r.held, p...)
		return len(p), nil
	}
	return r.Conn.Write(p)
}

// readAll collects what a stream delivers, and its end.
type readAll struct {
	hooks
	got  []byte
	buf  [4096]byte
	err  error
	read chan struct{} // one token after each Readable
}

func newReadAll() *readAll {
	r := &readAll{read: make(chan struct{}, 1)}
	r.readable = func(s *Stream) {
		for {
			n, err := s.Read(r.buf[:])
			r.got = append(r.got, r.buf[:n]...)
			if err != nil {
				if err != ErrWouldBlock {
					r.err = err
					s.Close()
				}
				break
			}
		}
		select {
		case r.read <- struct{}{}:
		default:
		}
	}
	return r
}

// until waits until cond, evaluated on the loop after each Readable, holds.
func (r *readAll) until(t testing.TB, l *Loop, cond func() bool) {
	t.Helper()
	for {
		ok := false
		call(t, l, func() { ok = cond() })
		if ok {
			return
		}
		wait(t, r.read)
	}
}

func mustWrite(t testing.TB, w io.Writer, p []byte) {
	t.Helper()
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t testing.TB, c net.Conn, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, p); err != nil {
		t.Fatal(err)
	}
	return p
}
