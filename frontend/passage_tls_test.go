package frontend

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// TestPassageDirectTLS: a client that begins TLS at once, as libpq 17 does with
// sslnegotiation=direct, is connected to a server that hears nothing before the
// ClientHello, and the TLS is between the two.
func TestPassageDirectTLS(t *testing.T) {
	ca, err := backendtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	own, err := ca.Issue("pgvalet.example")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := own.WriteFiles(t.TempDir(), "own")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("shop.example")
	if err != nil {
		t.Fatal(err)
	}
	r := newPassRig(t, fmt.Sprintf("client_tls_sslmode = \"prefer\"\nclient_tls_cert_file = %q\nclient_tls_key_file = %q\n", certFile, keyFile), "")
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
	for name, addr := range map[string]string{"by name": r.addr, "by port": ln.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(testTimeout))
			client := tls.Client(conn, &tls.Config{RootCAs: ca.Pool(), ServerName: "shop.example", NextProtos: []string{alpnPostgreSQL}})
			shaken := make(chan error, 1)
			go func() { shaken <- client.Handshake() }()
			server := tls.Server(r.accept(), &tls.Config{Certificates: []tls.Certificate{cert.TLS}, NextProtos: []string{alpnPostgreSQL}})
			if err := server.Handshake(); err != nil {
				t.Fatal("the server: ", err)
			}
			if err := <-shaken; err != nil {
				t.Fatal("the client: ", err)
			}
			if state := server.ConnectionState(); state.NegotiatedProtocol != alpnPostgreSQL || state.ServerName != "shop.example" {
				t.Errorf("the server was asked for %q of %q", state.NegotiatedProtocol, state.ServerName)
			}
			for from, to := range map[*tls.Conn]*tls.Conn{client: server, server: client} {
				if _, err := io.WriteString(from, "hello"); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 5)
				if _, err := io.ReadFull(to, got); err != nil || string(got) != "hello" {
					t.Errorf("%q arrived, %v", got, err)
				}
			}
			client.Close()
			if _, err := io.ReadAll(server); err != nil {
				t.Error(err)
			}
			server.Close()
		})
	}
	// For any other name it is pgvalet's own.
	conn, err := tls.Dial("tcp", r.addr, &tls.Config{RootCAs: ca.Pool(), ServerName: "pgvalet.example", NextProtos: []string{alpnPostgreSQL}})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
