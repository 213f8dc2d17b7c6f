package frontend

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

// testTimeout bounds every wait of a test.
const testTimeout = 20 * time.Second

// password is what everybody in the test userlist has.
const password = "correct horse"

// verifier returns the SCRAM secret of password as PostgreSQL stores it.
func verifier(password string) string {
	salt := []byte("0123456789abcdef")
	salted, err := pbkdf2.Key(sha256.New, password, salt, 4096, sha256.Size)
	if err != nil {
		panic(err)
	}
	mac := func(s string) []byte {
		m := hmac.New(sha256.New, salted)
		m.Write([]byte(s))
		return m.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return "SCRAM-SHA-256$4096:" + b64(salt) + "$" + b64(stored[:]) + ":" + b64(mac("Server Key"))
}

// testUsers has a user for every kind of secret, and the console's users.
var testUsers = sync.OnceValue(func() *auth.Userlist {
	u, err := auth.ParseUserlist(strings.NewReader(fmt.Sprintf(`
"plain" %[1]q
"md5" "md5c4fda0da0974ae77564b8331365e4e9e"
"scram" %[2]q
"nosecret" ""
"root" %[1]q
"watcher" %[1]q
`, password, verifier(password))), "userlist.txt")
	if err != nil {
		panic(err)
	}
	return u
})

// testConfig has one database and no encryption.
func testConfig() *config.Config {
	return &config.Config{
		Settings: config.Settings{
			AuthType:             config.AuthPlain,
			AdminUsers:           []string{"root"},
			StatsUsers:           []string{"watcher"},
			TrackExtraParameters: []string{"IntervalStyle"},
			ClientLoginTimeout:   testTimeout,
			ClientTLSProtocols:   config.TLSProtocols{Min: tls.VersionTLS12, Max: tls.VersionTLS13},
			LogConnections:       true,
			LogDisconnections:    true,
			LogPoolerErrors:      true,
		},
		Databases: map[string]*config.Database{"shop": {Name: "shop"}},
	}
}

type cancelled struct {
	pid uint32
	key string
}

// fixture is an Acceptor with a session behind it that knows only how to
// answer queries with nothing.
type fixture struct {
	AcceptorOptions
	*Acceptor
	cfg      *config.Config
	tcp      string // address
	unixDir  string
	unixPort int
	logs     *observer.ObservedLogs
	ca       *backendtest.CA
	tokens   *auth.TokenSource // of a console; nil: none

	admitted chan *Login
	cancels  chan cancelled
	sessions sync.WaitGroup
}

// testOptions returns a fixture that is not started.
func testOptions(t testing.TB, cfg *config.Config) *fixture {
	core, logs := observer.New(zapcore.DebugLevel)
	f := &fixture{cfg: cfg, logs: logs, admitted: make(chan *Login, 100), cancels: make(chan cancelled, 100)}
	scram := auth.NewScramServer(4096)
	var ids atomic.Uint64
	f.AcceptorOptions = AcceptorOptions{
		Config:   func() *config.Config { return cfg },
		Userlist: testUsers,
		HBA:      func() *auth.HBA { return nil },
		LDAP:     func() *auth.LDAP { return nil },
		TLS:      func() *tls.Config { return nil },
		Scram:    func() *auth.ScramServer { return scram },
		Cancel: func(_ context.Context, pid uint32, key []byte) error {
			f.cancels <- cancelled{pid, string(key)}
			return nil
		},
		Admit:        f.admit,
		ShuttingDown: func() bool { return false },
		NextID:       func() uint64 { return ids.Add(1) },
		Log:          zap.New(core),
		Slots:        2,
	}
	return f
}

// useTLS writes a server certificate and its CA to files, and sets mode.
func (f *fixture) useTLS(t testing.TB, mode config.SSLMode) {
	t.Helper()
	var err error
	if f.ca, err = backendtest.NewCA(); err != nil {
		t.Fatal(err)
	}
	cert, err := f.ca.Issue("localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	s, dir := &f.cfg.Settings, t.TempDir()
	s.ClientTLSSSLMode = mode
	if s.ClientTLSCertFile, s.ClientTLSKeyFile, err = cert.WriteFiles(dir, "server"); err != nil {
		t.Fatal(err)
	}
	if s.ClientTLSCAFile, err = f.ca.WriteFile(dir); err != nil {
		t.Fatal(err)
	}
	c, err := NewClientTLS(s)
	if err != nil {
		t.Fatal(err)
	}
	f.TLS = func() *tls.Config { return c }
}

// start serves on a TCP and a unix socket.
func (f *fixture) start(t testing.TB) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgvalet") // short enough for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.unixDir, f.unixPort, f.tcp = dir, 6432, tcp.Addr().String()
	local, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.6432"))
	if err != nil {
		t.Fatal(err)
	}
	f.Acceptor = NewAcceptor(f.AcceptorOptions)
	var serving sync.WaitGroup
	for _, ln := range []net.Listener{tcp, local} {
		serving.Go(func() {
			if err := f.Serve(ln); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		f.Close()
		serving.Wait()
		close(f.admitted)
		for l := range f.admitted {
			l.Transport.Close()
		}
		f.sessions.Wait()
		if n := f.Clients(); n != 0 {
			t.Errorf("%d places of max_client_conn were not given back", n)
		}
	})
	return f
}

// start returns a running fixture with cfg and without TLS.
func start(t testing.TB, cfg *config.Config) *fixture { return testOptions(t, cfg).start(t) }

// admit is the Admit of the fixture.
func (f *fixture) admit(_ context.Context, l *Login) error {
	f.admitted <- l
	var b []byte
	for _, m := range []pgproto3.BackendMessage{
		&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"},
		&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
		&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte("abcd")},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	} {
		b, _ = m.Encode(b)
	}
	if err := l.Write(b); err != nil {
		return err
	}
	if err := l.Transport.SetDeadline(time.Time{}); err != nil {
		return err
	}
	f.sessions.Go(func() {
		defer l.Release()
		defer l.Conn().Close()
		backend := pgproto3.NewBackend(l.Conn(), l.Conn())
		for {
			m, err := backend.Receive()
			if err != nil {
				return
			}
			switch m.(type) {
			case *pgproto3.Query:
				backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 0")})
				backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
			case *pgproto3.Terminate:
				return
			}
			if backend.Flush() != nil {
				return
			}
		}
	})
	return nil
}

// dial opens a connection that cannot hang a test.
func (f *fixture) dial(t testing.TB, network string) net.Conn {
	t.Helper()
	address := f.tcp
	if network == "unix" {
		address = filepath.Join(f.unixDir, ".s.PGSQL.6432")
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(testTimeout))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// transcript reads from conn to its end: first so many single bytes, then
// messages. A reset shows as an error.
func transcript(t testing.TB, conn io.Reader, single int) []string {
	t.Helper()
	var lines []string
	for range single {
		var b [1]byte
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return append(lines, "ERROR "+err.Error())
		}
		lines = append(lines, string(b[:]))
	}
	front := pgproto3.NewFrontend(conn, nil)
	for {
		m, err := front.Receive()
		if err != nil {
			if err.Error() != io.ErrUnexpectedEOF.Error() {
				lines = append(lines, "ERROR "+err.Error())
			}
			return append(lines, "EOF")
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			lines = append(lines, fmt.Sprintf("%s %s %s", m.Severity, m.Code, m.Message))
		case *pgproto3.NegotiateProtocolVersion:
			lines = append(lines, fmt.Sprintf("negotiate %#x %v", m.NewestMinorProtocol, m.UnrecognizedOptions))
		default:
			lines = append(lines, strings.TrimPrefix(fmt.Sprintf("%T", m), "*pgproto3."))
		}
	}
}

// logged waits for a log line that contains text and returns it.
func (f *fixture) logged(t testing.TB, text string) observer.LoggedEntry {
	t.Helper()
	f.Close() // everything has been logged then
	for _, e := range f.logs.All() {
		if strings.Contains(e.LoggerName+" "+e.Message, text) {
			return e
		}
	}
	t.Fatalf("no log line has %q: %v", text, f.logs.All())
	return observer.LoggedEntry{}
}
