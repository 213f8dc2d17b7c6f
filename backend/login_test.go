package backend

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

func scriptTarget(t testing.TB, s *backendtest.ScriptedServer) *Target {
	t.Helper()
	return targetAt(t, s.Addr())
}

func targetAt(t testing.TB, addr string) *Target {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return &Target{Host: host, Port: n, User: "u", DBName: "d", ConnectTimeout: 30 * time.Second}
}

// expectSSLRequest takes an SSLRequest and answers with any byte.
func expectSSLRequest(answer byte) backendtest.Step {
	return func(c *backendtest.ScriptConn) error {
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
}

// message is a message of any type and body.
func message(typ byte, body string) []byte {
	b := append([]byte{typ}, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b[1:], uint32(len(body)+4))
	return append(b, body...)
}

const (
	authOK    = "R\x00\x00\x00\x08\x00\x00\x00\x00"
	readyIdle = "Z\x00\x00\x00\x05I"
)

func TestHostileServers(t *testing.T) {
	startup := backendtest.ExpectStartup(map[string]string{"user": "u", "database": "d"})
	send := func(s string) backendtest.Step { return backendtest.SendBytes([]byte(s)) }
	ended := backendtest.ExpectClose()
	violation := "server login failed: protocol violation"
	crashed := "server conn crashed?"
	for _, test := range []struct {
		name           string
		script         backendtest.Script
		kind           Kind
		client, reason string
	}{
		{
			"not PostgreSQL",
			backendtest.Script{startup, send("SSH-2.0-OpenSSH_9.2p1\r\n"), ended},
			BrokenProtocol, violation, "message of",
		},
		{
			"not a message",
			backendtest.Script{startup, send("R\x00\x00\x00\x03"), ended},
			BrokenProtocol, violation, "not the header of a message",
		},
		{
			"negative length",
			backendtest.Script{startup, send("R\xff\xff\xff\xff"), ended},
			BrokenProtocol, violation, "not the header of a message",
		},
		{
			"huge length",
			backendtest.Script{startup, send("E\x7f\xff\xff\xff"), ended},
			BrokenProtocol, violation, "message of 2147483643 bytes",
		},
		{
			"many messages",
			backendtest.Script{startup, send(authOK), hail(message('N', "MSOS\x00\x00"+strings.Repeat("x", 60000)))},
			BrokenProtocol, violation, "while waiting for the end of the login",
		},
		{
			"query result",
			backendtest.Script{startup, send("D\x00\x00\x00\x06\x00\x00"), ended},
			BrokenProtocol, violation, "message of type 'D' while waiting for the answer to the startup message",
		},
		{
			"ready before authentication",
			backendtest.Script{startup, send(readyIdle), ended},
			BrokenProtocol, violation, "message of type 'Z'",
		},
		{
			"short authentication message",
			backendtest.Script{startup, send("R\x00\x00\x00\x05\x00"), ended},
			BrokenProtocol, violation, "authentication message of 1 bytes",
		},
		{
			"authentication twice",
			backendtest.Script{startup, send("R\x00\x00\x00\x08\x00\x00\x00\x03"), expectPassword, send("R\x00\x00\x00\x0c\x00\x00\x00\x05salt"), ended},
			BrokenProtocol, violation, "asks for authentication twice",
		},
		{
			"authentication after its end",
			backendtest.Script{startup, send(authOK + "R\x00\x00\x00\x08\x00\x00\x00\x03"), ended},
			BrokenProtocol, violation, "message of type 'R'",
		},
		{
			"GSSAPI",
			backendtest.Script{startup, send("R\x00\x00\x00\x08\x00\x00\x00\x07"), ended},
			AuthImpossible, "server login failed: unsupported authentication method", "method 7",
		},
		{
			"SASL without SCRAM",
			backendtest.Script{startup, send(string(message('R', "\x00\x00\x00\x0aOAUTHBEARER\x00\x00"))), ended},
			AuthImpossible, "server login failed: none of the server's SASL authentication mechanisms are supported", "OAUTHBEARER",
		},
		{
			"SASL from the middle",
			backendtest.Script{startup, send(string(message('R', "\x00\x00\x00\x0br=x"))), ended},
			BrokenProtocol, violation, "before it began",
		},
		{
			"SASL from the end",
			backendtest.Script{startup, send(string(message('R', "\x00\x00\x00\x0cv=x"))), ended},
			BrokenProtocol, violation, "before it began",
		},
		{
			"SCRAM without proof",
			backendtest.Script{startup, send(string(message('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))), expectScram("SCRAM-SHA-256"), send(authOK), ended},
			AuthImpossible, "server login failed: invalid server signature", "without proof",
		},
		{
			"SCRAM with a wrong signature",
			backendtest.Script{startup, send(string(message('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))), scramWithWrongSignature, ended},
			AuthImpossible, "server login failed: invalid server signature", "scram",
		},
		{
			"SCRAM with a nonce of its own",
			backendtest.Script{startup, send(string(message('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))), expectScram("SCRAM-SHA-256"), send(string(message('R', "\x00\x00\x00\x0br=x,s=AAAA,i=4096"))), ended},
			AuthImpossible, "server login failed: SASL authentication failed", "scram",
		},
		{
			"in a transaction",
			backendtest.Script{startup, send(authOK + "Z\x00\x00\x00\x05T"), ended},
			BrokenProtocol, violation, "not idle",
		},
		{
			"short ReadyForQuery",
			backendtest.Script{startup, send(authOK + "Z\x00\x00\x00\x04"), ended},
			BrokenProtocol, violation, "not idle",
		},
		{
			"more after ReadyForQuery",
			backendtest.Script{startup, send(authOK + readyIdle + readyIdle), ended},
			BrokenProtocol, violation, "message of type 'Z' after ReadyForQuery",
		},
		{
			"long cancel key",
			backendtest.Script{startup, send(authOK + string(message('K', strings.Repeat("k", 4+257)))), ended},
			BrokenProtocol, violation, "cancel key of 257 bytes",
		},
		{
			"short cancel key",
			backendtest.Script{startup, send(authOK + string(message('K', "pid.key"))), ended},
			BrokenProtocol, violation, "BackendKeyData",
		},
		{
			"broken parameter",
			backendtest.Script{startup, send(authOK + string(message('S', "name\x00value"))), ended},
			BrokenProtocol, violation, "",
		},
		{
			"broken error",
			backendtest.Script{startup, send(string(message('E', "Mmessage"))), ended},
			BrokenProtocol, violation, "",
		},
		{
			"end at once",
			backendtest.Script{startup},
			ConnectionLost, crashed, "closed the connection while waiting for the answer to the startup message",
		},
		{
			"end in a header",
			backendtest.Script{startup, send("R\x00")},
			ConnectionLost, crashed, "closed the connection",
		},
		{
			"end in a message",
			backendtest.Script{startup, send(authOK[:7])},
			ConnectionLost, crashed, "closed the connection",
		},
		{
			"end in the login",
			backendtest.Script{startup, send(authOK)},
			ConnectionLost, crashed, "while waiting for the end of the login",
		},
		{
			"reset",
			backendtest.Script{startup, backendtest.Reset()},
			ConnectionLost, crashed, "connection reset",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := backendtest.StartScript(t, test.script)
			target := scriptTarget(t, server)
			target.Password = auth.ParseSecret("secret password")
			l, err := Connect(testContext(t), target)
			if err == nil {
				l.Close()
			}
			wantConnectError(t, err, test.kind, test.client, test.reason)
			if err != nil && strings.Contains(err.Error(), "secret password") {
				t.Errorf("the password is in %q", err)
			}
			<-server.Played()
		})
	}
}

// hail sends the same bytes until the other side has had enough.
func hail(b []byte) backendtest.Step {
	return func(c *backendtest.ScriptConn) error {
		for range 100 * maxLogin / len(b) {
			if _, err := c.Conn.Write(b); err != nil {
				return nil
			}
		}
		return errors.New("the other side took it all")
	}
}

// readAll waits for the other side to close, however it does.
func readAll(c *backendtest.ScriptConn) error {
	_, _ = io.Copy(io.Discard, c.Conn)
	return nil
}

func expectPassword(c *backendtest.ScriptConn) error {
	if err := c.Backend.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
		return err
	}
	return backendtest.Expect(&pgproto3.PasswordMessage{Password: "secret password"})(c)
}

func expectScram(mechanism string) backendtest.Step {
	return func(c *backendtest.ScriptConn) error {
		_, err := receiveScram(c, mechanism)
		return err
	}
}

func receiveScram(c *backendtest.ScriptConn, mechanism string) ([]byte, error) {
	if err := c.Backend.SetAuthType(pgproto3.AuthTypeSASL); err != nil {
		return nil, err
	}
	msg, err := c.Backend.Receive()
	if err != nil {
		return nil, err
	}
	first, ok := msg.(*pgproto3.SASLInitialResponse)
	if !ok || first.AuthMechanism != mechanism {
		return nil, fmt.Errorf("%#v, want %s", msg, mechanism)
	}
	return first.Data, nil
}

// scramWithWrongSignature is a server that does not know the password.
func scramWithWrongSignature(c *backendtest.ScriptConn) error {
	first, err := receiveScram(c, "SCRAM-SHA-256")
	if err != nil {
		return err
	}
	_, nonce, _ := strings.Cut(string(first), "r=")
	err = backendtest.Send(&pgproto3.AuthenticationSASLContinue{Data: []byte("r=" + nonce + "more,s=c2FsdHNhbHQ=,i=4096")})(c)
	if err != nil {
		return err
	}
	if _, err := c.Backend.Receive(); err != nil {
		return err
	}
	return backendtest.Send(
		&pgproto3.AuthenticationSASLFinal{Data: []byte("v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")},
		&pgproto3.AuthenticationOk{},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	)(c)
}

func TestHostileTLS(t *testing.T) {
	_, ca := tlsServer.postgres(t)
	cert, err := ca.Issue("pg.test")
	if err != nil {
		t.Fatal(err)
	}
	config1 := &tls.Config{Certificates: []tls.Certificate{cert.TLS}}
	startup := backendtest.ExpectStartup(nil)
	send := func(s string) backendtest.Step { return backendtest.SendBytes([]byte(s)) }
	for _, test := range []struct {
		name           string
		script         backendtest.Script
		kind           Kind
		client, reason string
	}{
		{
			"strange answer",
			backendtest.Script{expectSSLRequest('X')},
			BrokenProtocol, "server login failed: protocol violation", "answered the SSLRequest with 'X'",
		},
		{
			"error instead of an answer",
			backendtest.Script{expectSSLRequest('E')},
			ConnectionLost, "server conn crashed?", "with an error",
		},
		{
			"end instead of an answer",
			backendtest.Script{func(c *backendtest.ScriptConn) error { _, err := c.Backend.ReceiveStartupMessage(); return err }},
			ConnectionLost, "server conn crashed?", "the answer to the SSLRequest",
		},
		{
			"bytes slipped in before the handshake",
			backendtest.Script{expectSSLRequest('S'), send(authOK + readyIdle), readAll},
			TLSFailed, "server TLS handshake failed", "first record does not look like a TLS handshake",
		},
		{
			"end instead of a handshake",
			backendtest.Script{expectSSLRequest('S')},
			TLSFailed, "server TLS handshake failed", "",
		},
		{
			"more after ReadyForQuery, same record",
			backendtest.Script{backendtest.AcceptTLS(config1), startup, send(authOK + readyIdle + readyIdle)},
			BrokenProtocol, "server login failed: protocol violation", "message of type 'Z' after ReadyForQuery",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := backendtest.StartScript(t, test.script)
			target := scriptTarget(t, server)
			target.SSLMode = config.SSLRequire
			l, err := Connect(testContext(t), target)
			if err == nil {
				l.Close()
			}
			wantConnectError(t, err, test.kind, test.client, test.reason)
			<-server.Played()
		})
	}
}

// SCRAM is bound to the TLS connection where the server can do that.
func TestChannelBinding(t *testing.T) {
	_, ca := tlsServer.postgres(t)
	cert, err := ca.Issue("pg.test")
	if err != nil {
		t.Fatal(err)
	}
	server := backendtest.StartScript(t, backendtest.Script{
		backendtest.AcceptTLS(&tls.Config{Certificates: []tls.Certificate{cert.TLS}}),
		backendtest.ExpectStartup(nil),
		backendtest.Send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"}}),
		expectScram("SCRAM-SHA-256-PLUS"),
		backendtest.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "bound"}),
	})
	target := scriptTarget(t, server)
	target.SSLMode = config.SSLRequire
	target.Password = auth.ParseSecret("x")
	_, err = Connect(testContext(t), target)
	wantLoginError(t, err, "28P01", "bound")
}

// A server may be told to go, or to read its settings again, the moment that a
// login is over.
func TestUnaskedAfterLogin(t *testing.T) {
	_, ca := tlsServer.postgres(t)
	cert, err := ca.Issue("pg.test")
	if err != nil {
		t.Fatal(err)
	}
	param := string(message('S', "TimeZone\x00UTC\x00"))
	gone := string(message('E', "SFATAL\x00C57P01\x00Mterminating connection due to administrator command\x00\x00"))
	for _, overTLS := range []bool{false, true} {
		login := func(t *testing.T, last string) (*Login, error) {
			script := backendtest.Script{backendtest.ExpectStartup(nil), backendtest.SendBytes([]byte(authOK + readyIdle + last)), readAll}
			mode := config.SSLDisable
			if overTLS {
				script = append(backendtest.Script{backendtest.AcceptTLS(&tls.Config{Certificates: []tls.Certificate{cert.TLS}})}, script...)
				mode = config.SSLRequire
			}
			target := scriptTarget(t, backendtest.StartScript(t, script))
			target.SSLMode = mode
			return Connect(testContext(t), target)
		}
		t.Run(fmt.Sprintf("settings read, TLS %v", overTLS), func(t *testing.T) {
			l, err := login(t, param+string(message('N', "SNOTICE\x00C00000\x00Mhello\x00\x00")))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if want := []Parameter{{"TimeZone", "UTC"}}; !slices.Equal(l.Params, want) {
				t.Errorf("parameters %v, want %v", l.Params, want)
			}
		})
		t.Run(fmt.Sprintf("told to go, TLS %v", overTLS), func(t *testing.T) {
			_, err := login(t, param+gone)
			wantLoginError(t, err, "57P01", "terminating connection due to administrator command")
		})
	}
}

// What servers of other versions may say beside PostgreSQL 15.
func TestUnusualWelcome(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 256)
	server := backendtest.StartScript(t, backendtest.Script{
		backendtest.ExpectStartup(nil),
		backendtest.Send(
			&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 196608, UnrecognizedOptions: []string{"_pq_.x"}},
			&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "hello"},
			&pgproto3.AuthenticationOk{},
			&pgproto3.ParameterStatus{Name: "a", Value: "1"},
			&pgproto3.BackendKeyData{ProcessID: 1<<32 - 1, SecretKey: key},
			&pgproto3.ParameterStatus{Name: "b", Value: ""},
			&pgproto3.ParameterStatus{Name: "a", Value: "2"},
			&pgproto3.ReadyForQuery{TxStatus: 'I'},
		),
		backendtest.Expect(&pgproto3.Terminate{}),
	})
	target := scriptTarget(t, server)
	var warnings []string
	target.Warn = func(msg string, err error) { warnings = append(warnings, msg+": "+err.Error()) }
	l, err := Connect(testContext(t), target)
	if err != nil {
		t.Fatal(err)
	}
	if l.PID != 1<<32-1 || !bytes.Equal(l.Key, key) {
		t.Errorf("PID %d, key %x", l.PID, l.Key)
	}
	if want := []Parameter{{"a", "2"}, {"b", ""}}; !slices.Equal(l.Params, want) {
		t.Errorf("parameters %q, want %q", l.Params, want)
	}
	want := []string{`startup options: the server does not know ["_pq_.x"]`, "notice during login: NOTICE: hello (SQLSTATE 00000)"}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	<-server.Played()
}

func TestSilence(t *testing.T) {
	_, ca := tlsServer.postgres(t)
	cert, err := ca.Issue("pg.test")
	if err != nil {
		t.Fatal(err)
	}
	accept := backendtest.AcceptTLS(&tls.Config{Certificates: []tls.Certificate{cert.TLS}})
	startup := backendtest.ExpectStartup(nil)
	for _, test := range []struct {
		stage  string
		mode   config.SSLMode
		script backendtest.Script
	}{
		{"the answer to the SSLRequest", config.SSLRequire, nil},
		{"the TLS handshake", config.SSLRequire, backendtest.Script{expectSSLRequest('S')}},
		{"the answer to the startup message", config.SSLDisable, backendtest.Script{startup}},
		{"the answer to the startup message", config.SSLRequire, backendtest.Script{accept, startup}},
		{"the answer to the password", config.SSLDisable, backendtest.Script{startup, backendtest.Send(&pgproto3.AuthenticationCleartextPassword{}), expectPassword}},
		{"the end of the login", config.SSLDisable, backendtest.Script{startup, backendtest.SendBytes([]byte(authOK + readyIdle[:3]))}},
		{"the connect_query", config.SSLDisable, backendtest.Script{backendtest.Welcome(), backendtest.Expect(&pgproto3.Query{String: "SELECT 1"})}},
	} {
		t.Run(fmt.Sprintf("timeout/%s/%s", test.stage, test.mode), func(t *testing.T) {
			t.Parallel()
			server := backendtest.StartScript(t, append(slices.Clone(test.script), backendtest.Hang()))
			target := scriptTarget(t, server)
			target.SSLMode = test.mode
			target.Password = auth.ParseSecret("secret password")
			target.ConnectQuery = "SELECT 1"
			target.ConnectTimeout = time.Second
			_, err := Connect(testContext(t), target)
			wantConnectError(t, err, ConnectTimeout, "connect timeout", "while waiting for "+test.stage)
		})
		t.Run(fmt.Sprintf("cancelled/%s/%s", test.stage, test.mode), func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(testContext(t))
			why := errors.New("shutting down")
			stop := func(*backendtest.ScriptConn) error { cancel(why); return nil }
			server := backendtest.StartScript(t, append(slices.Clone(test.script), stop, backendtest.Hang()))
			target := scriptTarget(t, server)
			target.SSLMode = test.mode
			target.Password = auth.ParseSecret("secret password")
			target.ConnectQuery = "SELECT 1"
			if _, err := Connect(ctx, target); !errors.Is(err, why) {
				t.Errorf("%v, want %v", err, why)
			}
		})
	}
}

// The startup message has its parameters in order, as only the first user
// counts to some servers.
func TestStartupMessage(t *testing.T) {
	target := &Target{User: "u", DBName: "d", Params: []Parameter{{"b", "1"}, {"a", ""}}}
	got, err := target.startup()
	if err != nil {
		t.Fatal(err)
	}
	if want := "\x00\x00\x00\x22\x00\x03\x00\x00user\x00u\x00database\x00d\x00b\x001\x00a\x00\x00\x00"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzServer feeds a login with anything. If that ends well, pgproto3 must
// agree that it was a welcome, and the login must have read no byte more.
func FuzzServer(f *testing.F) {
	f.Add([]byte(authOK + readyIdle))
	f.Add([]byte(authOK + string(message('S', "a\x00b\x00")) + string(message('K', "pid.key.")) + readyIdle + "rest"))
	f.Add([]byte("R\x00\x00\x00\x08\x00\x00\x00\x03" + authOK + readyIdle))
	f.Add([]byte("R\x00\x00\x00\x0c\x00\x00\x00\x05salt" + authOK + string(message('N', "MSOS\x00\x00")) + readyIdle))
	f.Add(message('R', "\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))
	f.Add(message('E', "SFATAL\x00C28P01\x00Mno\x00\x00"))
	f.Add(message('v', "\x00\x03\x00\x00\x00\x00\x00\x01x\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		s := &session{
			attempt: &attempt{t: &Target{User: "u", DBName: "d", Password: auth.ParseSecret("p")}, ctx: t.Context()},
			stream:  readWriter{in, io.Discard},
		}
		err := s.authenticate()
		if err == nil {
			err = s.untilReady()
		}
		if err != nil {
			if _, ok := errors.AsType[*ConnectError](err); ok {
				return
			}
			if _, ok := errors.AsType[*LoginError](err); ok {
				return
			}
			t.Fatalf("unclassified: %v", err)
		}
		front := pgproto3.NewFrontend(bytes.NewReader(b[:len(b)-in.Len()]), io.Discard)
		var last pgproto3.BackendMessage
		for {
			m, err := front.Receive()
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			last = m
		}
		if _, ok := last.(*pgproto3.ReadyForQuery); !ok {
			t.Errorf("the login ended with %T", last)
		}
	})
}

type readWriter struct {
	io.Reader
	io.Writer
}

func TestLoginErrorText(t *testing.T) {
	e := &LoginError{Severity: "FATAL", Code: "42501", Message: "no", Detail: "because", Hint: "ask"}
	if got, want := e.Error(), "FATAL: no (SQLSTATE 42501), detail: because, hint: ask"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
