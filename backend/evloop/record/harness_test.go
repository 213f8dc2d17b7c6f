package record

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
	"sync"
	"testing"
	"time"
	_ "unsafe" // for linkname
)

// patience bounds every wait of these tests; none is expected to last.
const patience = 20 * time.Second

// ids are the suites that this package can do.
var ids = [...]uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384}

// suitesTLS13 is what crypto/tls offers and takes, which it lets nobody choose.
// It promises not to rename it.
//
//go:linkname suitesTLS13 crypto/tls.defaultCipherSuitesTLS13
var suitesTLS13 []uint16

// onlySuite makes crypto/tls use one suite until the test ends.
func onlySuite(t *testing.T, id uint16) {
	t.Helper()
	all := suitesTLS13
	suitesTLS13 = []uint16{id}
	t.Cleanup(func() { suitesTLS13 = all })
}

// layers returns the two ends of a connection.
func layers(t testing.TB, id uint16) (client, server *Layer) {
	t.Helper()
	s := &Secrets{client: &secret{1}, server: &secret{2}, n: suiteByID(id).hash.Size()}
	state := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: id}
	var errs [2]error
	client, errs[0] = New(state, s, false, 0)
	server, errs[1] = New(state, s, true, 0)
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return client, server
}

// sealPadded seals a record of any type with padding behind it.
func (l *Layer) sealPadded(typ byte, content []byte, padding int) []byte {
	inner := append(append([]byte(nil), content...), typ)
	inner = append(inner, make([]byte, padding)...)
	return l.sealInner(inner)
}

// sealInner seals what need not even have a type.
func (l *Layer) sealInner(inner []byte) []byte {
	n := len(inner) + tagLen
	head := []byte{typeApplicationData, 3, 3, byte(n >> 8), byte(n)}
	return l.out.aead.Seal(head, l.out.next(), inner, head)
}

// openAll opens a series of records.
func openAll(l *Layer, recs []byte) (got []byte, err error) {
	for len(recs) > 0 && err == nil {
		n := Size(recs)
		before := len(got)
		got, err = l.Open(append(make([]byte, 0, before+Room(n)), got...), recs[:n])
		recs = recs[n:]
	}
	return got, err
}

// mustOpen fails the test if the records do not carry want.
func mustOpen(t testing.TB, l *Layer, recs []byte, want string) {
	t.Helper()
	got, err := openAll(l, recs)
	if err != nil || string(got) != want {
		t.Fatalf("got %.100q, %v; want %.100q", got, err, want)
	}
}

// alertOf returns the alert in an error, 0 for another one.
func alertOf(err error) tls.AlertError {
	a, _ := errors.AsType[tls.AlertError](err)
	return a
}

// conn is our end of a connection whose other end is crypto/tls.
type conn struct {
	net.Conn
	*Layer
	state tls.ConnectionState
}

// connect makes a connection to crypto/tls; server says what we are.
func connect(t *testing.T, server, tickets bool) (*conn, *tls.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [...]net.Conn{a, b} {
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	var (
		secrets Secrets
		sent    int
	)
	serverConfig := &tls.Config{
		Certificates:           []tls.Certificate{certificate()},
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: !tickets,
	}
	clientConfig := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
	var ours, peer *tls.Conn
	if server {
		issuer := serverConfig.Clone()
		serverConfig.KeyLogWriter = &secrets
		serverConfig.WrapSession = func(c tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
			sent++
			return issuer.EncryptTicket(c, s)
		}
		ours, peer = tls.Server(&oneByOne{Conn: a}, serverConfig), tls.Client(b, clientConfig)
	} else {
		clientConfig.KeyLogWriter = &secrets
		ours, peer = tls.Client(&oneByOne{Conn: a}, clientConfig), tls.Server(b, serverConfig)
	}
	done := make(chan error, 1)
	go func() { done <- peer.Handshake() }()
	if err := errors.Join(ours.Handshake(), <-done); err != nil {
		t.Fatal(err)
	}
	state := ours.ConnectionState()
	if !Supported(state) {
		t.Fatalf("suite %x is not supported", state.CipherSuite)
	}
	l, err := New(state, &secrets, server, sent)
	if err != nil {
		t.Fatal(err)
	}
	return &conn{a, l, state}, peer
}

// read returns what n bytes of the application are, or how they end.
func (c *conn) read(n int) (got []byte, err error) {
	for len(got) < n && err == nil {
		rec := make([]byte, HeaderLen, MaxLen)
		if _, err := io.ReadFull(c.Conn, rec); err != nil {
			return got, err
		}
		rec = rec[:Size(rec)]
		if _, err := io.ReadFull(c.Conn, rec[HeaderLen:]); err != nil {
			return got, err
		}
		var plain []byte
		plain, err = c.Open(nil, rec)
		got = append(got, plain...)
	}
	return got, err
}

// oneByOne lets crypto/tls have one record at a time, so that it reads nothing
// that comes behind the handshake.
type oneByOne struct {
	net.Conn
	rec []byte
}

func (c *oneByOne) Read(p []byte) (int, error) {
	if len(c.rec) == 0 {
		var head [HeaderLen]byte
		if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
			return 0, err
		}
		c.rec = append(head[:], make([]byte, Size(head[:])-HeaderLen)...)
		if _, err := io.ReadFull(c.Conn, c.rec[HeaderLen:]); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rec)
	c.rec = c.rec[n:]
	return n, nil
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})
