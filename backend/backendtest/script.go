package backendtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// scriptTimeout bounds what one connection of a ScriptedServer takes.
const scriptTimeout = 30 * time.Second

// Script is what a ScriptedServer does with one connection. When it is at its
// end the connection is closed.
type Script []Step

// Step is one step of a script. Tests may write steps of their own beside
// those of this package.
type Step func(c *ScriptConn) error

// ScriptConn is a connection on which a script plays.
type ScriptConn struct {
	Conn    net.Conn // TCP, or TLS after AcceptTLS
	Backend *pgproto3.Backend
	Startup *pgproto3.StartupMessage // after ExpectStartup
	Done    <-chan struct{}          // closed when the test ends
}

// ScriptedServer is a PostgreSQL server that does what its scripts say, for
// what a real server will not do. The n-th connection plays the n-th script.
type ScriptedServer struct {
	t      testing.TB
	ln     net.Listener
	ctx    context.Context // ends with the test
	cancel context.CancelFunc
	wg     sync.WaitGroup // the accept loop and one goroutine per connection

	played chan struct{} // closed when all scripts have been played

	mu    sync.Mutex // guards conns
	conns []net.Conn // all there have been, for close
}

// StartScript starts a scripted server on a free port of 127.0.0.1. It is
// closed when the test ends, which reports steps that went wrong, scripts that
// were not played to their end, and connections for which there was no script.
func StartScript(t testing.TB, scripts ...Script) *ScriptedServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &ScriptedServer{t: t, ln: ln, played: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(func() { s.serve(scripts) })
	t.Cleanup(s.close)
	return s
}

// Addr returns the address to connect to, 127.0.0.1:port.
func (s *ScriptedServer) Addr() string { return s.ln.Addr().String() }

// Played returns a channel that is closed when all scripts have been played.
func (s *ScriptedServer) Played() <-chan struct{} { return s.played }

func (s *ScriptedServer) serve(scripts []Script) {
	var playing sync.WaitGroup
	next := 0
	for ; ; next++ {
		if next == len(scripts) {
			s.wg.Go(func() {
				playing.Wait()
				close(s.played)
			})
		}
		conn, err := s.ln.Accept()
		if err != nil {
			break
		}
		if next >= len(scripts) {
			s.t.Errorf("connection %d, but there are %d scripts", next+1, len(scripts))
			conn.Close()
			continue
		}
		s.mu.Lock()
		s.conns = append(s.conns, conn)
		if s.ctx.Err() != nil { // close has been through them
			conn.Close()
		}
		s.mu.Unlock()
		n, script := next+1, scripts[next]
		playing.Add(1)
		s.wg.Go(func() {
			defer playing.Done()
			s.play(n, script, conn)
		})
	}
	if next < len(scripts) {
		s.t.Errorf("%d connections, but there are %d scripts", next, len(scripts))
	}
}

func (s *ScriptedServer) play(n int, script Script, conn net.Conn) {
	c := &ScriptConn{Conn: conn, Backend: pgproto3.NewBackend(conn, conn), Done: s.ctx.Done()}
	defer func() { c.Conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(scriptTimeout)); err != nil {
		s.t.Errorf("script %d: %v", n, err)
		return
	}
	for i, step := range script {
		if err := step(c); err != nil {
			s.t.Errorf("script %d, step %d: %v", n, i+1, err)
			return
		}
	}
}

// close ends what still plays.
func (s *ScriptedServer) close() {
	s.cancel()
	s.ln.Close()
	s.mu.Lock()
	for _, conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// ExpectStartup takes a startup message that has at least these parameters.
func ExpectStartup(params map[string]string) Step {
	return func(c *ScriptConn) error {
		msg, err := c.Backend.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		startup, ok := msg.(*pgproto3.StartupMessage)
		if !ok {
			return fmt.Errorf("%T instead of a startup message", msg)
		}
		for name, want := range params {
			if got := startup.Parameters[name]; got != want {
				return fmt.Errorf("startup parameter %s is %q, not %q", name, got, want)
			}
		}
		c.Startup = startup
		return nil
	}
}

// AcceptTLS takes an SSLRequest and does a TLS handshake.
func AcceptTLS(config *tls.Config) Step {
	return func(c *ScriptConn) error {
		if err := answerSSLRequest(c, 'S'); err != nil {
			return err
		}
		conn := tls.Server(c.Conn, config)
		c.Conn, c.Backend = conn, pgproto3.NewBackend(conn, conn)
		return conn.Handshake()
	}
}

// RefuseTLS takes an SSLRequest and answers that there is no TLS.
func RefuseTLS() Step {
	return func(c *ScriptConn) error { return answerSSLRequest(c, 'N') }
}

func answerSSLRequest(c *ScriptConn, answer byte) error {
	msg, err := c.Backend.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	if _, ok := msg.(*pgproto3.SSLRequest); !ok {
		return fmt.Errorf("%T instead of an SSLRequest", msg)
	}
	_, err = c.Conn.Write([]byte{answer})
	return err
}

// ExpectCancel takes a CancelRequest with the process ID and secret of want.
func ExpectCancel(want *pgproto3.CancelRequest) Step {
	return func(c *ScriptConn) error {
		msg, err := c.Backend.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		return sameMessage(msg, want)
	}
}

// Expect takes messages that are equal to these, byte for byte.
func Expect(messages ...pgproto3.FrontendMessage) Step {
	return func(c *ScriptConn) error {
		for _, want := range messages {
			got, err := c.Backend.Receive()
			if err != nil {
				return fmt.Errorf("%w instead of %#v", err, want)
			}
			if err := sameMessage(got, want); err != nil {
				return err
			}
		}
		return nil
	}
}

func sameMessage(got, want pgproto3.FrontendMessage) error {
	gotBytes, err := got.Encode(nil)
	if err != nil {
		return err
	}
	wantBytes, err := want.Encode(nil)
	if err != nil {
		return err
	}
	if !bytes.Equal(gotBytes, wantBytes) {
		return fmt.Errorf("%#v instead of %#v", got, want)
	}
	return nil
}

// Send sends messages with one write. An authentication request among them
// decides how the next password or SASL message is read.
func Send(messages ...pgproto3.BackendMessage) Step {
	return func(c *ScriptConn) error {
		for _, msg := range messages {
			if auth, ok := msg.(pgproto3.AuthenticationResponseMessage); ok {
				if err := c.Backend.SetAuthType(authType(auth)); err != nil {
					return err
				}
			}
			c.Backend.Send(msg)
		}
		return c.Backend.Flush()
	}
}

func authType(msg pgproto3.AuthenticationResponseMessage) uint32 {
	switch msg.(type) {
	case *pgproto3.AuthenticationCleartextPassword:
		return pgproto3.AuthTypeCleartextPassword
	case *pgproto3.AuthenticationMD5Password:
		return pgproto3.AuthTypeMD5Password
	case *pgproto3.AuthenticationGSS:
		return pgproto3.AuthTypeGSS
	case *pgproto3.AuthenticationGSSContinue:
		return pgproto3.AuthTypeGSSCont
	case *pgproto3.AuthenticationSASL:
		return pgproto3.AuthTypeSASL
	case *pgproto3.AuthenticationSASLContinue:
		return pgproto3.AuthTypeSASLContinue
	case *pgproto3.AuthenticationSASLFinal:
		return pgproto3.AuthTypeSASLFinal
	default:
		return pgproto3.AuthTypeOk
	}
}

// SendBytes sends bytes as they are, for what no message type can express.
func SendBytes(b []byte) Step {
	return func(c *ScriptConn) error {
		_, err := c.Conn.Write(b)
		return err
	}
}

// Welcome lets a client in without a password: it takes a startup message and
// answers with what precedes the first query.
func Welcome() Step {
	expect := ExpectStartup(nil)
	send := Send(
		&pgproto3.AuthenticationOk{},
		&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"},
		&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
		&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
		&pgproto3.BackendKeyData{ProcessID: 1234, SecretKey: []byte{0, 0, 22, 46}},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	)
	return func(c *ScriptConn) error {
		if err := expect(c); err != nil {
			return err
		}
		return send(c)
	}
}

// Await waits until the test closes ch or sends on it.
func Await(ch <-chan struct{}) Step {
	return func(c *ScriptConn) error {
		select {
		case <-ch:
			return nil
		case <-c.Done:
			return errors.New("the test ended before the event waited for")
		}
	}
}

// Hang reads nothing and sends nothing until the test ends.
func Hang() Step {
	return func(c *ScriptConn) error {
		<-c.Done
		return nil
	}
}

// ExpectClose takes the end of the connection, and no message before it.
func ExpectClose() Step {
	return func(c *ScriptConn) error {
		msg, err := c.Backend.Receive()
		if err == nil {
			return fmt.Errorf("%#v instead of the end", msg)
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
			return fmt.Errorf("%w instead of the end", err)
		}
		return nil
	}
}

// Reset breaks the connection off with a TCP reset.
func Reset() Step {
	return func(c *ScriptConn) error {
		conn := c.Conn
		if t, ok := conn.(*tls.Conn); ok {
			conn = t.NetConn()
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			return err
		}
		return conn.Close()
	}
}
