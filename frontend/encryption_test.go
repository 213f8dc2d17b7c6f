package frontend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
)

// startTLS returns a running fixture with TLS and SCRAM.
func startTLS(t testing.TB, mode config.SSLMode) *fixture {
	t.Helper()
	cfg := testConfig()
	cfg.AuthType = config.AuthScram
	f := testOptions(t, cfg)
	f.useTLS(t, mode)
	return f.start(t)
}

// clientTLS returns what a client needs to trust the fixture.
func (f *fixture) clientTLS(alpn ...string) *tls.Config {
	return &tls.Config{RootCAs: f.ca.Pool(), ServerName: "localhost", NextProtos: alpn}
}

// encrypt sends an SSLRequest and begins TLS.
func encrypt(t testing.TB, conn net.Conn, c *tls.Config) *tls.Conn {
	t.Helper()
	if _, err := conn.Write(packet(codeSSL, "")); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := conn.Read(b[:]); err != nil || b[0] != 'S' {
		t.Fatalf("answer %q, %v", b, err)
	}
	return tls.Client(conn, c)
}

func TestPsqlWithTLS(t *testing.T) {
	for _, mode := range []config.SSLMode{config.SSLAllow, config.SSLRequire, config.SSLVerifyCA, config.SSLVerifyFull} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			f := startTLS(t, mode)
			dir := t.TempDir()
			ca, err := f.ca.WriteFile(dir)
			if err != nil {
				t.Fatal(err)
			}
			cert, key := issue(t, f.ca, dir, "good")
			strangers, err := backendtest.NewCA()
			if err != nil {
				t.Fatal(err)
			}
			badCert, badKey := issue(t, strangers, dir, "bad")
			_, port, _ := net.SplitHostPort(f.tcp)
			tcp := fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%s dbname=shop user=scram sslrootcert=%s ", port, ca)
			const ok = "SELECT 0"
			verify, require := mode >= config.SSLVerifyCA, mode >= config.SSLRequire
			for _, tt := range []struct {
				conninfo string
				fails    bool
				want     string
			}{
				{tcp + "sslmode=verify-full channel_binding=require", verify, choose(verify, "certificate required", ok)},
				{tcp + fmt.Sprintf("sslmode=verify-full channel_binding=require sslcert=%s sslkey=%s", cert, key), false, ok},
				{tcp + fmt.Sprintf("sslmode=verify-full sslcert=%s sslkey=%s", badCert, badKey), true, "unknown ca"},
				{tcp + "sslmode=disable", require, choose(require, "FATAL:  SSL required", ok)},
				{fmt.Sprintf("host=%s port=%d user=scram dbname=shop", f.unixDir, f.unixPort), false, ok},
			} {
				out, err := f.psql(t, tt.conninfo)
				if !strings.Contains(out, tt.want) || (err != nil) != tt.fails {
					t.Errorf("%s: %v, %q", tt.conninfo, err, out)
				}
			}
			f.logged(t, "tls=TLSv1.3/TLS_")
			f.logged(t, "closing because: TLS handshake failed: ")
			if require {
				f.logged(t, "pooler error: SSL required")
			}
		})
	}
}

func choose(condition bool, then, otherwise string) string {
	if condition {
		return then
	}
	return otherwise
}

// issue writes a client certificate.
func issue(t testing.TB, ca *backendtest.CA, dir, name string) (certFile, keyFile string) {
	t.Helper()
	c, err := ca.Issue(name)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err = c.WriteFiles(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

func TestDirectTLS(t *testing.T) {
	login := startupPacket(protocol30, "user", "scram", "database", "shop")
	ask := "AuthenticationSASL"
	for _, tt := range []struct {
		name string
		alpn []string
		send []byte
		n    int
		want []string
	}{
		{name: "with ALPN", alpn: []string{"postgresql"}, send: login, want: []string{ask, "EOF"}},
		{name: "without ALPN", send: login, want: []string{"EOF"}},
		{name: "SSLRequest inside", alpn: []string{"postgresql"}, send: join(packet(codeSSL, ""), login), n: 1, want: []string{"N", ask, "EOF"}},
		{name: "GSSENCRequest inside", alpn: []string{"postgresql"}, send: packet(codeGSS, ""), want: []string{"FATAL 08P01 bad packet header: '0000000804d21630'", "EOF"}},
		{name: "cancel inside", alpn: []string{"postgresql"}, send: packet(codeCancel, "\x00\x00\x00\x07abcd"), want: []string{"EOF"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startTLS(t, config.SSLRequire)
			conn := tls.Client(f.dial(t, "tcp"), f.clientTLS(tt.alpn...))
			if _, err := conn.Write(tt.send); err != nil {
				t.Fatal(err)
			}
			if err := conn.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got := transcript(t, conn, tt.n); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.name == "cancel inside" {
				if c := <-f.cancels; c.pid != 7 || c.key != "abcd" {
					t.Errorf("cancel %+v", c)
				}
			}
		})
	}
}

func TestDirectTLSWithForeignALPN(t *testing.T) {
	f := startTLS(t, config.SSLRequire)
	conn := tls.Client(f.dial(t, "tcp"), f.clientTLS("h2"))
	if err := conn.Handshake(); !strings.Contains(errorText(err), "no application protocol") {
		t.Errorf("handshake: %v", err)
	}
}

// After an SSLRequest no ALPN is needed: clients before PostgreSQL 17 send none.
func TestErrorUnderTLSIsReadable(t *testing.T) {
	f := startTLS(t, config.SSLRequire)
	conn := encrypt(t, f.dial(t, "tcp"), f.clientTLS())
	send := join(startupPacket(protocol30, "user", "scram", "geqo", "on"), make([]byte, 100<<10))
	if _, err := conn.Write(send); err != nil {
		t.Fatal(err)
	}
	want := []string{"FATAL 0A000 unsupported startup parameter: geqo", "EOF"} // EOF: close_notify came
	if got := transcript(t, conn, 0); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSessionsResume(t *testing.T) {
	f := startTLS(t, config.SSLRequire)
	c := f.clientTLS("postgresql")
	c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		conn := encrypt(t, f.dial(t, "tcp"), c)
		if _, err := conn.Write(startupPacket(protocol30, "user", "scram")); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := conn.Read(b[:]); err != nil { // takes the ticket in
			t.Fatal(err)
		}
		if resumed := conn.ConnectionState().DidResume; resumed != (i > 0) {
			t.Errorf("connection %d: resumed %v", i, resumed)
		}
		conn.Close()
	}
}

// Many handshakes share one slot, which no login may keep while it waits.
func TestOneSlotServesAll(t *testing.T) {
	cfg := testConfig()
	cfg.AuthType = config.AuthScram
	f := testOptions(t, cfg)
	f.useTLS(t, config.SSLRequire)
	f.Slots = 1
	f.start(t)
	for range 3 { // in the middle of a handshake, and after it
		conn := f.dial(t, "tcp")
		if _, err := conn.Write(packet(codeSSL, "")); err != nil {
			t.Fatal(err)
		}
		if err := encrypt(t, f.dial(t, "tcp"), f.clientTLS()).Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := net.SplitHostPort(f.tcp)
	ca, err := f.ca.WriteFile(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			settings := fmt.Sprintf("user=scram dbname=shop password='%s' sslmode=verify-ca sslrootcert=%s", password, ca)
			if err := f.connect(t, settings); err != nil {
				t.Errorf("port %s: %v", port, err)
			}
		})
	}
	wg.Wait()
}

// arrivals is a session on an event loop that only collects what it reads.
type arrivals struct {
	loop *evloop.Loop
	got  chan []byte
}

func (a *arrivals) Readable(s *evloop.Stream) {
	n, err := s.Read(a.loop.Scratch())
	if n > 0 {
		a.got <- slices.Clone(a.loop.Scratch()[:n])
	}
	if err != nil && !errors.Is(err, evloop.ErrWouldBlock) {
		s.Close()
	}
}
func (a *arrivals) Writable(*evloop.Stream)             {}
func (a *arrivals) Parked(*evloop.Stream, *evloop.Loop) {}
func (a *arrivals) HungUp(s *evloop.Stream, gone bool)  { s.Close() }

// held is a connection whose writes are kept back.
type held struct {
	net.Conn
	hold    bool
	pending []byte
}

func (h *held) Write(p []byte) (int, error) {
	if h.hold {
		h.pending = append(h.pending, p...)
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// What a client sends behind its password, even half a TLS record of it,
// reaches the event loop whole.
func TestNothingIsReadAhead(t *testing.T) {
	loop, err := evloop.New(0, nil)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = loop.Run() })
	defer running.Wait()
	defer loop.Stop()

	session := &arrivals{loop: loop, got: make(chan []byte, 100)}
	admitted := make(chan error, 1)
	f := testOptions(t, testConfig())
	f.useTLS(t, config.SSLRequire)
	f.Admit = func(_ context.Context, l *Login) error {
		l.Release()
		s, err := l.Transport.Detach(l.TLS)
		if err == nil {
			err = loop.Attach(s, session)
		}
		admitted <- err
		return err
	}
	f.start(t)

	raw := &held{Conn: f.dial(t, "tcp")}
	conn := encrypt(t, raw, f.clientTLS())
	front := pgproto3.NewFrontend(conn, conn)
	front.Send(&pgproto3.StartupMessage{ProtocolVersion: protocol30, Parameters: map[string]string{"user": "plain", "database": "shop"}})
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := front.Receive(); err != nil {
		t.Fatal(err)
	}
	raw.hold = true
	front.Send(&pgproto3.PasswordMessage{Password: password})
	if err := front.Flush(); err != nil {
		t.Fatal(err)
	}
	cut := len(raw.pending) + 5 + 9 // into the body of the next record
	query, _ := (&pgproto3.Query{String: "select 'a query that is long enough to cut'"}).Encode(nil)
	if _, err := conn.Write(query); err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Conn.Write(raw.pending[:cut]); err != nil {
		t.Fatal(err)
	}
	if err := <-admitted; err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Conn.Write(raw.pending[cut:]); err != nil {
		t.Fatal(err)
	}
	// More than one record, so that a loop that lost count shows.
	raw.hold = false
	if _, err := conn.Write(query); err != nil {
		t.Fatal(err)
	}
	var got []byte
	timeout := time.After(testTimeout)
	for len(got) < 2*len(query) {
		select {
		case b := <-session.got:
			got = append(got, b...)
		case <-timeout:
			t.Fatalf("only %q has arrived", got)
		}
	}
	if want := slices.Concat(query, query); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNewClientTLS(t *testing.T) {
	ca, err := backendtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	caFile, err := ca.WriteFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := issue(t, ca, dir, "server")
	_, otherKey := issue(t, ca, dir, "other")
	missing, garbage := filepath.Join(dir, "missing"), filepath.Join(dir, "garbage")
	if err := os.WriteFile(garbage, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		mode          config.SSLMode
		cert, key, ca string
		auth          tls.ClientAuthType
		errs          []string
	}{
		{mode: config.SSLPrefer, cert: cert, key: key, auth: tls.NoClientCert},
		{mode: config.SSLRequire, cert: cert, key: key, ca: caFile, auth: tls.VerifyClientCertIfGiven},
		{mode: config.SSLVerifyCA, cert: cert, key: key, ca: caFile, auth: tls.RequireAndVerifyClientCert},
		{mode: config.SSLVerifyFull, cert: cert, key: key, ca: caFile, auth: tls.RequireAndVerifyClientCert},
		{mode: config.SSLRequire, key: key, errs: []string{"client_tls_cert_file is not set"}},
		{mode: config.SSLRequire, cert: cert, errs: []string{"client_tls_key_file is not set"}},
		{mode: config.SSLRequire, cert: missing, key: key, errs: []string{"client_tls_cert_file", missing}},
		{mode: config.SSLRequire, cert: cert, key: missing, errs: []string{"client_tls_key_file", missing}},
		{mode: config.SSLRequire, cert: cert, key: otherKey, errs: []string{"client_tls_cert_file", cert, "client_tls_key_file", otherKey}},
		{mode: config.SSLRequire, cert: cert, key: key, ca: missing, errs: []string{"client_tls_ca_file", missing}},
		{mode: config.SSLRequire, cert: cert, key: key, ca: garbage, errs: []string{"client_tls_ca_file", garbage}},
		{mode: config.SSLVerifyFull, cert: cert, key: key, errs: []string{"client_tls_ca_file is not set", "verify-full"}},
	} {
		s := &config.Settings{
			ClientTLSSSLMode: tt.mode, ClientTLSCertFile: tt.cert, ClientTLSKeyFile: tt.key, ClientTLSCAFile: tt.ca,
			ClientTLSProtocols: config.TLSProtocols{Min: tls.VersionTLS12, Max: tls.VersionTLS13},
		}
		c, err := NewClientTLS(s)
		for _, part := range tt.errs {
			if !strings.Contains(errorText(err), part) {
				t.Errorf("%+v: error %v does not name %q", tt, err, part)
			}
		}
		switch {
		case len(tt.errs) > 0:
		case err != nil:
			t.Errorf("%+v: %v", tt, err)
		case c.ClientAuth != tt.auth || c.MinVersion != tls.VersionTLS12 || c.MaxVersion != tls.VersionTLS13 || !c.DynamicRecordSizingDisabled:
			t.Errorf("%+v: %+v", tt, c)
		}
	}
	if c, err := NewClientTLS(&config.Settings{}); c != nil || err != nil {
		t.Errorf("disable: %v, %v", c, err)
	}
}
