package evloop

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/backend/evloop/record"
)

// exchange sends a message both ways and compares.
func exchange(t *testing.T, conn, peer io.ReadWriter) {
	t.Helper()
	for i, way := range [][2]io.ReadWriter{{conn, peer}, {peer, conn}, {conn, peer}} {
		msg := bytes.Repeat([]byte{byte('a' + i)}, 1000)
		mustWrite(t, way[0], msg)
		got := make([]byte, len(msg))
		if _, err := io.ReadFull(way[1], got); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("message %d: got %.20q, %v", i, got, err)
		}
	}
}

// TestTLSHandshakes: a server's connection works from the first record on, and
// sessions are resumed, whatever the handshake was like.
func TestTLSHandshakes(t *testing.T) {
	retry := func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP521} }
	certificates := func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }
	// What a client says of itself ends up in its session ticket.
	long := certificate()
	for range 25 {
		long.Certificate = append(long.Certificate, largeCertificate())
	}
	tests := []struct {
		name    string
		server  func(*tls.Config)
		client  tls.Certificate
		resumed bool
	}{
		{"plain", nil, tls.Certificate{}, true},
		{"no tickets", func(c *tls.Config) { c.SessionTicketsDisabled = true }, tls.Certificate{}, false},
		{"retry", retry, tls.Certificate{}, true},
		{"certificate", certificates, certificate(), true},
		{"certificate and retry", func(c *tls.Config) { certificates(c); retry(c) }, certificate(), true},
		{"no certificate", func(c *tls.Config) { c.ClientAuth = tls.RequestClientCert }, tls.Certificate{}, true},
		{"certificate and no tickets", func(c *tls.Config) { certificates(c); c.SessionTicketsDisabled = true }, certificate(), false},
		{"long ticket", certificates, long, false},
	}
	for _, version := range tlsVersions {
		for _, tt := range tests {
			t.Run(tls.VersionName(version)+"/"+tt.name, func(t *testing.T) {
				server := serverTLS(version)
				server.SessionTicketsDisabled = false
				if tt.server != nil {
					tt.server(server)
				}
				server = ServerTLS(server)
				client := clientTLS()
				client.ServerName = "server"
				client.ClientSessionCache = tls.NewLRUClientSessionCache(0)
				if tt.client.Certificate != nil {
					client.Certificates = []tls.Certificate{tt.client}
				}
				for i := range 3 {
					ours, peerConn := socketPair(t)
					tr, conn, peer := secureWith(t, ours, peerConn, server, client)
					state := conn.ConnectionState()
					if _, own := conn.(*secureConn); own != (version == tls.VersionTLS13) {
						t.Fatalf("the connection is a %T", conn)
					}
					if want := tt.resumed && i > 0; state.DidResume != want {
						t.Errorf("connection %d: resumed %t", i, state.DidResume)
					}
					if retried := strings.HasSuffix(tt.name, "retry"); version == tls.VersionTLS13 && state.HelloRetryRequest != retried {
						t.Errorf("connection %d: retried %t", i, state.HelloRetryRequest)
					}
					exchange(t, conn, peer)
					s, err := tr.Detach(conn)
					if err != nil {
						t.Fatal(err)
					}
					l := startLoop(t)
					attach(t, l, s, &hooks{readable: echo})
					exchange(t, peer, peer)
				}
			})
		}
	}
}

// largeCertificate is one of 2 KB, of nobody.
var largeCertificate = sync.OnceValue(func() []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{strings.Repeat("x.", 900) + "x"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return der
})

// TestTLSClient: as a client, during the login and behind it, with a server's
// session tickets in front of the first bytes.
func TestTLSClient(t *testing.T) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ours, peerConn := socketPair(t)
			server := serverTLS(version)
			server.SessionTicketsDisabled = false
			peer := tls.Server(peerConn, server)
			tr := NewTransport(ours)
			conn := shakeHands(t, ours, peer, func() (TLSConn, error) { return tr.Client(clientTLS()) })
			exchange(t, conn, peer)
			s, err := tr.Detach(conn)
			if err != nil {
				t.Fatal(err)
			}
			l := startLoop(t)
			attach(t, l, s, &hooks{readable: echo})
			exchange(t, peer, peer)
		})
	}
}

// TestTLSKeyUpdateAtLogin: the same while a connection logs in.
func TestTLSKeyUpdateAtLogin(t *testing.T) {
	ours, peer := socketPair(t)
	tr, conn, f := forge(t, ours, peer)
	mustWrite(t, f, append(f.update(true), f.data("first")...))
	if got := mustRead(t, conn, 5); string(got) != "first" {
		t.Errorf("got %q", got)
	}
	mustWrite(t, conn, []byte("answer"))
	p := make([]byte, record.MaxLen)
	if n, err := f.Read(p); err != nil || string(p[:n]) != "answer" || f.updates != 1 {
		t.Errorf("got %q, %v, %d updates", p[:n], err, f.updates)
	}
	// One is owed across Detach.
	mustWrite(t, f, append(f.update(true), f.data("second")...))
	if got := mustRead(t, conn, 6); string(got) != "second" {
		t.Errorf("got %q", got)
	}
	s, err := tr.Detach(conn)
	if err != nil {
		t.Fatal(err)
	}
	l := startLoop(t)
	attach(t, l, s, &hooks{readable: echo})
	mustWrite(t, f, f.data("third"))
	if n, err := f.Read(p); err != nil || string(p[:n]) != "third" || f.updates != 2 {
		t.Errorf("got %q, %v, %d updates", p[:n], err, f.updates)
	}
}

// TestTLSWriteTimeout: after a write that was cut off nothing is written that
// the peer would take for the rest of the record.
func TestTLSWriteTimeout(t *testing.T) {
	ours, peer := socketPair(t)
	_, conn, f := forge(t, ours, peer)
	if err := conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Write(make([]byte, 8<<20)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d, %v", n, err)
	}
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		p := make([]byte, record.MaxLen)
		for {
			if _, err := f.Read(p); err != nil {
				done <- err
				return
			}
		}
	}()
	_, err := conn.Write([]byte("more"))
	if closeErr := conn.CloseWrite(); err == nil || closeErr == nil {
		t.Errorf("a second write: %v, %v", err, closeErr)
	}
	conn.Close()
	if err := wait(t, done); err != io.EOF && err != io.ErrUnexpectedEOF {
		t.Errorf("the peer got %v", err)
	}
}

// TestTLSWriteAfterEnd: whoever writes behind close_notify or an alert hears
// that it does not arrive.
func TestTLSWriteAfterEnd(t *testing.T) {
	ours, peer := socketPair(t)
	_, conn, f := forge(t, ours, peer)
	mustWrite(t, conn, nil)
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Error(err)
	}
	if n, err := conn.Write([]byte("x")); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %d, %v", n, err)
	}
	mustWrite(t, f, f.data("still read"))
	if got := mustRead(t, conn, 10); string(got) != "still read" {
		t.Errorf("got %q", got)
	}
	if n, err := f.Read(make([]byte, 10)); err != io.EOF {
		t.Errorf("the peer got %d, %v", n, err)
	}

	ours, peer = socketPair(t)
	_, conn, f = forge(t, ours, peer)
	mustWrite(t, f, []byte{23, 3, 3, 0xff, 0xff})
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, tls.AlertError(22)) {
		t.Errorf("got %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := f.Read(make([]byte, 10)); !errors.Is(err, tls.AlertError(22)) {
		t.Errorf("the peer got %v", err)
	}
}

// TestTLSPrinted: no verb of fmt shows a secret of a connection.
func TestTLSPrinted(t *testing.T) {
	ours, peer := socketPair(t)
	var log bytes.Buffer
	client := clientTLS()
	client.KeyLogWriter = &log
	client.ClientSessionCache = tls.NewLRUClientSessionCache(0) // or there is no ticket
	var during string
	server := serverTLS(tls.VersionTLS13)
	var tr *Transport
	print := func(v any) (all string) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			all += fmt.Sprintf(verb+"\n", v)
		}
		return all
	}
	server.SessionTicketsDisabled = false
	server = ServerTLS(server)
	own := server.GetConfigForClient
	server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, err := own(hello)
		wrap := c.WrapSession
		c.WrapSession = func(a tls.ConnectionState, b *tls.SessionState) ([]byte, error) {
			during = print(tr) + print(*tr) // it has the secrets now
			return wrap(a, b)
		}
		return c, err
	}
	tr = NewTransport(ours)
	conn := shakeHands(t, ours, tls.Client(peer, client), func() (TLSConn, error) { return tr.Server(server) })
	all := during + print(tr) + print(conn) + print(struct{ c TLSConn }{conn})
	s, err := tr.Detach(conn)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all += print(s) + print(struct{ s *Stream }{s})
	if during == "" || log.Len() == 0 {
		t.Fatal("there were no secrets")
	}
	for line := range strings.Lines(log.String()) {
		secret := strings.Fields(line)[2]
		var raw []byte
		if _, err := fmt.Sscanf(secret, "%x", &raw); err != nil {
			t.Fatal(err)
		}
		decimal := strings.Trim(fmt.Sprint(raw), "[]")
		for _, shown := range []string{secret, decimal, strings.ReplaceAll(decimal, " ", ", "), string(raw)} {
			if strings.Contains(all, shown) {
				t.Errorf("%s is shown", strings.Fields(line)[0])
			}
		}
	}
}
