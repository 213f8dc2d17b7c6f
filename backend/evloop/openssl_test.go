package evloop

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// openssl is a running openssl command.
type openssl struct {
	stdin io.WriteCloser

	mu     sync.Mutex // guards the fields below
	output bytes.Buffer
	more   chan struct{} // closed when output grows
	read   int           // how much of output has been looked at
}

// Write takes output of the command.
func (o *openssl) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.more)
	o.more = make(chan struct{})
	return o.output.Write(p)
}

// startOpenSSL runs the command until the test ends.
func startOpenSSL(t *testing.T, args ...string) *openssl {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip(err)
	}
	o := &openssl{more: make(chan struct{})}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = o, o
	if o.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
		if t.Failed() {
			o.mu.Lock()
			defer o.mu.Unlock()
			t.Logf("%s: %s", args[0], &o.output)
		}
	})
	return o
}

// until waits until the command has put out words, in this order, and returns
// what came between the last two.
func (o *openssl) until(t *testing.T, words ...string) (between string) {
	t.Helper()
	late := time.After(patience)
	for _, word := range words {
		for {
			o.mu.Lock()
			rest, more := o.output.String()[o.read:], o.more
			before, _, found := strings.Cut(rest, word)
			if found {
				o.read += len(before) + len(word)
				between = before
			}
			o.mu.Unlock()
			if found {
				break
			}
			select {
			case <-more:
			case <-late:
				t.Fatalf("no %q in %q", word, rest)
			}
		}
	}
	return between
}

// say types a line: text, or a command of one letter.
func (o *openssl) say(t *testing.T, line string) {
	t.Helper()
	mustWrite(t, o.stdin, []byte(line+"\n"))
}

// pemFiles writes the certificate and its key.
func pemFiles(t *testing.T) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	c := certificate()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, typ string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", c.Certificate[0]), write("key.pem", "PRIVATE KEY", der)
}

const (
	sentKeyUpdate = ">>> TLS 1.3, Handshake [length 0005], KeyUpdate"
	gotKeyUpdate  = "<<< TLS 1.3, Handshake [length 0005], KeyUpdate"
)

// talk has openssl's side, which is typed, and the stream's, which sends back
// what it gets, change keys and go on.
func talk(t *testing.T, o *openssl) {
	t.Helper()
	o.say(t, "first")
	o.until(t, "first")
	for range 3 {
		o.say(t, "k")
		o.until(t, sentKeyUpdate)
		o.say(t, "next")
		if between := o.until(t, "next"); strings.Contains(between, "KeyUpdate") {
			t.Error("a KeyUpdate that nobody has asked for")
		}
		for range 2 {
			o.say(t, "K")
			o.until(t, sentKeyUpdate)
		}
		o.say(t, "both")
		o.until(t, gotKeyUpdate, "both")
	}
}

// TestOpenSSL: OpenSSL at the other end, in both roles, with both suites.
func TestOpenSSL(t *testing.T) {
	for _, suite := range []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384} {
		name := tls.CipherSuiteName(suite)
		check := func(t *testing.T, conn TLSConn) {
			t.Helper()
			if got := conn.ConnectionState().CipherSuite; got != suite {
				t.Errorf("the suite is %s", tls.CipherSuiteName(got))
			}
			if _, ok := conn.(*secureConn); !ok {
				t.Errorf("the connection is a %T", conn)
			}
		}
		serve := func(t *testing.T, tr *Transport, conn TLSConn) {
			t.Helper()
			s, err := tr.Detach(conn)
			if err != nil {
				t.Fatal(err)
			}
			l := startLoop(t)
			attach(t, l, s, &hooks{readable: echo})
		}
		t.Run("client/"+name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			o := startOpenSSL(t, "s_client", "-connect", ln.Addr().String(), "-tls1_3", "-ciphersuites", name, "-msg")
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			config := serverTLS(tls.VersionTLS13)
			config.SessionTicketsDisabled = false
			tr := NewTransport(conn)
			secured, err := tr.Server(ServerTLS(config))
			if err != nil {
				t.Fatal(err)
			}
			check(t, secured)
			mustWrite(t, secured, []byte("welcome"))
			o.until(t, "welcome")
			serve(t, tr, secured)
			talk(t, o)
			o.say(t, "Q")
		})
		t.Run("server/"+name, func(t *testing.T) {
			cert, key := pemFiles(t)
			o := startOpenSSL(t, "s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-tls1_3",
				"-ciphersuites", name, "-msg", "-num_tickets", "5", "-record_padding", "512", "-naccept", "1")
			o.until(t, "ACCEPT ")
			addr := o.until(t, "\n")
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			tr := NewTransport(conn)
			secured, err := tr.Client(clientTLS())
			if err != nil {
				t.Fatal(err)
			}
			check(t, secured)
			o.until(t, "CIPHER is ")
			mustWrite(t, secured, []byte("welcome"))
			o.until(t, "welcome")
			serve(t, tr, secured)
			talk(t, o)
			o.say(t, "Q")
		})
	}
}
