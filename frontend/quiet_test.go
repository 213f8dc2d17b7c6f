package frontend

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// The two ends of what is measured, client and server, allocate nothing once
// they have logged in: every allocation that is counted is the pooler's.

// quietBuffer holds the messages of one transaction, in either direction.
const quietBuffer = 32 << 10

// quietServer answers every query with the same row, without looking at it.
type quietServer struct {
	t    testing.TB
	ln   net.Listener
	cert *backendtest.Certificate // nil: it refuses TLS
	wg   sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns []net.Conn // nil after close
}

// startQuietServer serves until the test ends.
func startQuietServer(t testing.TB, cert *backendtest.Certificate) *quietServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &quietServer{t: t, ln: ln, cert: cert, conns: []net.Conn{}}
	s.wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			if s.conns == nil {
				conn.Close()
			} else {
				s.conns = append(s.conns, conn)
			}
			s.mu.Unlock()
			s.wg.Go(func() {
				defer conn.Close()
				if err := s.serve(conn); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		s.mu.Lock()
		for _, conn := range s.conns {
			conn.Close()
		}
		s.conns = nil
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *quietServer) addr() string { return s.ln.Addr().String() }

// serve logs one connection in and answers it until it ends.
func (s *quietServer) serve(conn net.Conn) error {
	var rw io.ReadWriter = conn
	code, _, err := readStartup(conn)
	if err != nil {
		return err
	}
	if code == codeSSL {
		answer := []byte("N")
		if s.cert != nil {
			answer[0] = 'S'
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
		if s.cert != nil {
			if rw, err = quietTLS(conn, &s.cert.TLS); err != nil {
				return err
			}
		}
		if code, _, err = readStartup(rw); err != nil {
			return err
		}
	}
	if code != protocol30 {
		return fmt.Errorf("start-up packet with code %#x", code)
	}
	if _, err := rw.Write(quietWelcome(s.t)); err != nil {
		return err
	}

	replies := quietReplies(s.t)
	in, out := make([]byte, quietBuffer), make([]byte, 0, quietBuffer)
	have := 0
	for {
		n, err := rw.Read(in[have:])
		if err != nil {
			return err
		}
		have += n
		pos := 0
		for {
			typ, n, ok := wire.Header(in[pos:have])
			if !ok || pos+n > have {
				break
			}
			if typ == wire.Terminate {
				return nil
			}
			out = append(out, replies[typ]...)
			pos += n
		}
		have = copy(in, in[pos:have])
		if len(out) > 0 {
			if _, err := rw.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
}

// encodeReplies puts messages of a server together.
func encodeReplies(t testing.TB, messages ...pgproto3.BackendMessage) (b []byte) {
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func quietWelcome(t testing.TB) []byte {
	messages := []pgproto3.BackendMessage{&pgproto3.AuthenticationOk{}}
	for _, p := range [...][2]string{
		{"server_version", "15.0"},
		{"client_encoding", "UTF8"},
		{"DateStyle", "ISO, MDY"},
		{"TimeZone", "UTC"},
		{"standard_conforming_strings", "on"},
		{"application_name", ""},
	} {
		messages = append(messages, &pgproto3.ParameterStatus{Name: p[0], Value: p[1]})
	}
	return encodeReplies(t, append(messages,
		&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte("abcd")},
		&pgproto3.ReadyForQuery{TxStatus: 'I'})...)
}

// quietReplies are what each type of message is answered with: those of
// pgbench's SELECT.
func quietReplies(t testing.TB) (replies [256][]byte) {
	row := &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("abalance"), DataTypeOID: 23, DataTypeSize: 4, TypeModifier: -1}}}
	data := &pgproto3.DataRow{Values: [][]byte{[]byte("-12345")}}
	done := &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	replies[wire.Query] = encodeReplies(t, row, data, done, ready)
	replies[wire.Parse] = encodeReplies(t, &pgproto3.ParseComplete{})
	replies[wire.Bind] = encodeReplies(t, &pgproto3.BindComplete{})
	replies[wire.Describe] = encodeReplies(t, row) // of a portal
	replies[wire.Execute] = encodeReplies(t, data, done)
	replies[wire.Sync] = encodeReplies(t, ready)
	return replies
}

// quietClient runs one transaction after the other.
type quietClient struct {
	rw  io.ReadWriter
	buf []byte
}

// quiet logs a client in, over TLS or not.
func (r *rig) quiet(t testing.TB, overTLS bool) *quietClient {
	t.Helper()
	conn := r.dial()
	if _, ok := t.(*testing.B); ok { // which takes as long as it is told to
		if err := conn.SetDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	c := &quietClient{rw: conn, buf: make([]byte, quietBuffer)}
	if overTLS {
		request := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, codeSSL)
		if _, err := conn.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, c.buf[:1]); err != nil || c.buf[0] != 'S' {
			t.Fatalf("answer to SSLRequest: %q, %v", c.buf[0], err)
		}
		var err error
		if c.rw, err = quietTLS(conn, nil); err != nil {
			t.Fatal(err)
		}
	}
	startup := &pgproto3.StartupMessage{ProtocolVersion: protocol30, Parameters: map[string]string{"user": "postgres", "database": "app"}}
	if err := c.transaction(bytesOf(t, startup)); err != nil {
		t.Fatal(err)
	}
	return c
}

// transaction sends requests and reads their replies, up to ReadyForQuery.
func (c *quietClient) transaction(requests []byte) error {
	if _, err := c.rw.Write(requests); err != nil {
		return err
	}
	for n := 0; ; {
		m, err := c.rw.Read(c.buf[n:])
		if err != nil {
			return err
		}
		n += m
		if c.buf[0] == wire.ErrorResponse {
			return fmt.Errorf("%q instead of a reply", c.buf[:n])
		}
		if bytes.HasSuffix(c.buf[:n], wire.MsgReadyIdle) {
			return nil
		}
	}
}

// quietRig is a rig between quiet ends, with TLS towards both or neither. The
// lines are further settings.
func quietRig(t testing.TB, overTLS bool, lines string) *rig {
	t.Helper()
	if !overTLS {
		return startRig(t, startQuietServer(t, nil).addr(), lines)
	}
	ca, err := backendtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("localhost", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := cert.WriteFiles(t.TempDir(), "client-side")
	if err != nil {
		t.Fatal(err)
	}
	return startRig(t, startQuietServer(t, cert).addr(), fmt.Sprintf(
		"client_tls_sslmode = \"require\"\nclient_tls_cert_file = %q\nclient_tls_key_file = %q\nserver_tls_sslmode = \"require\"\n%s",
		certFile, keyFile, lines))
}

// quietTransaction is one way to run pgbench's SELECT, as libpq does it.
type quietTransaction struct {
	name    string
	prepare []byte // once before
	run     []byte
}

func quietTransactions(t testing.TB) []quietTransaction {
	const sql = "SELECT abalance FROM pgbench_accounts WHERE aid = "
	portal := &pgproto3.Describe{ObjectType: 'P'}
	return []quietTransaction{
		{"simple", nil, bytesOf(t, query(sql+"4711;"))},
		{"extended", nil, bytesOf(t, parse("", sql+"$1;"), bind("", "4711"), portal, execute, syncMsg)},
		{"prepared", bytesOf(t, parse("P_0", sql+"$1;"), syncMsg), bytesOf(t, bind("P_0", "4711"), portal, execute, syncMsg)},
	}
}

// prepare runs what goes before the transactions.
func (c *quietClient) prepare(tx quietTransaction) error {
	if tx.prepare == nil {
		return nil
	}
	return c.transaction(tx.prepare)
}
