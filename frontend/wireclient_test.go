package frontend

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// wireClient is a client whose every message the test decides.
type wireClient struct {
	t      testing.TB
	conn   net.Conn
	front  *pgproto3.Frontend
	key    *pgproto3.BackendKeyData
	params map[string]string
}

// client logs in, with start-up parameters in pairs.
func (r *rig) client(params ...string) *wireClient {
	r.t.Helper()
	return r.clientOn(r.dial(), pgproto3.ProtocolVersion30, params...)
}

func (r *rig) dial() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(testTimeout)); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

func (r *rig) clientOn(conn net.Conn, version uint32, params ...string) *wireClient {
	r.t.Helper()
	c := &wireClient{t: r.t, conn: conn, front: pgproto3.NewFrontend(conn, conn), params: make(map[string]string)}
	m := map[string]string{"user": "postgres", "database": "app"}
	for i := 0; i < len(params); i += 2 {
		m[params[i]] = params[i+1]
	}
	c.send(&pgproto3.StartupMessage{ProtocolVersion: version, Parameters: m})
	for {
		msg, err := c.front.Receive()
		if err != nil {
			r.t.Fatal(err)
		}
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			r.t.Fatalf("login: %s %s", msg.Code, msg.Message)
		case *pgproto3.ParameterStatus:
			c.params[msg.Name] = msg.Value
		case *pgproto3.BackendKeyData:
			key := *msg
			c.key = &key
		case *pgproto3.ReadyForQuery:
			return c
		}
	}
}

// bytesOf encodes messages.
func bytesOf(t testing.TB, messages ...pgproto3.FrontendMessage) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// send sends messages with one write.
func (c *wireClient) send(messages ...pgproto3.FrontendMessage) {
	c.t.Helper()
	c.write(bytesOf(c.t, messages...))
}

func (c *wireClient) write(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func (c *wireClient) query(sql string) { c.t.Helper(); c.send(query(sql)) }

// receive returns the next message in one line: its type, and what matters of
// it. The end of the connection is "EOF".
func (c *wireClient) receive() string {
	m, err := c.front.Receive()
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "TIMEOUT"
		}
		return "EOF"
	}
	switch m := m.(type) {
	case *pgproto3.ParseComplete:
		return "1"
	case *pgproto3.BindComplete:
		return "2"
	case *pgproto3.CloseComplete:
		return "3"
	case *pgproto3.NoData:
		return "n"
	case *pgproto3.ParameterDescription:
		return "t"
	case *pgproto3.RowDescription:
		return "T"
	case *pgproto3.DataRow:
		return "D " + joinRow(m.Values)
	case *pgproto3.CommandComplete:
		return "C " + string(m.CommandTag)
	case *pgproto3.EmptyQueryResponse:
		return "I"
	case *pgproto3.PortalSuspended:
		return "s"
	case *pgproto3.ReadyForQuery:
		return "Z " + string(m.TxStatus)
	case *pgproto3.ErrorResponse:
		return m.Severity + " " + m.Code + " " + m.Message
	case *pgproto3.NoticeResponse:
		return "N " + m.Message
	case *pgproto3.NotificationResponse:
		return "A " + m.Channel + " " + m.Payload
	case *pgproto3.ParameterStatus:
		c.params[m.Name] = m.Value
		return "S " + m.Name + "=" + m.Value
	case *pgproto3.CopyInResponse:
		return "G"
	case *pgproto3.CopyOutResponse:
		return "H"
	case *pgproto3.CopyData:
		return "d " + strings.TrimSuffix(string(m.Data), "\n")
	case *pgproto3.CopyDone:
		return "c"
	case *pgproto3.FunctionCallResponse:
		return "V " + string(m.Result)
	}
	return fmt.Sprintf("%T", m)
}

func joinRow(values [][]byte) string {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte('|')
		}
		if v == nil {
			b.WriteString("NULL")
		} else if len(v) > 100 {
			fmt.Fprintf(&b, "%s…%d", v[:10], len(v))
		} else {
			b.Write(v)
		}
	}
	return b.String()
}

// want receives as many messages as there are lines. A line that ends in an
// ellipsis is only a beginning.
func (c *wireClient) want(lines ...string) {
	c.t.Helper()
	for i, want := range lines {
		got := c.receive()
		start, open := strings.CutSuffix(want, "…")
		if got != want && !(open && strings.HasPrefix(got, start)) {
			c.t.Fatalf("message %d is %q, not %q (of … %q …)", i+1, got, want, lines[max(0, i-5):min(len(lines), i+5)])
		}
	}
}

// until receives up to and with the first message that begins with end.
func (c *wireClient) until(end string) []string {
	c.t.Helper()
	var lines []string
	for {
		l := c.receive()
		lines = append(lines, l)
		if strings.HasPrefix(l, end) {
			return lines
		}
		if l == "EOF" || l == "TIMEOUT" {
			c.t.Fatalf("%s before %q: %q", l, end, lines)
		}
	}
}

// row runs a query that gives one row, and returns it.
func (c *wireClient) row(sql string) string {
	c.t.Helper()
	c.query(sql)
	for _, l := range c.until("Z") {
		if row, ok := strings.CutPrefix(l, "D "); ok {
			return row
		}
		if strings.HasPrefix(l, "ERROR") || strings.HasPrefix(l, "FATAL") {
			c.t.Fatalf("%s: %s", sql, l)
		}
	}
	return ""
}

// do runs a query and returns its replies.
func (c *wireClient) do(sql string) []string {
	c.t.Helper()
	c.query(sql)
	return c.until("Z")
}

// pid is the process of the server that the client gets.
func (c *wireClient) pid() string { c.t.Helper(); return c.row("select pg_backend_pid()") }

// close hangs up without a word; reset does it rudely.
func (c *wireClient) close() { c.conn.Close() }

func (c *wireClient) reset() {
	_ = c.conn.(*net.TCPConn).SetLinger(0)
	c.conn.Close()
}

// Short names for the messages of the extended protocol.

func query(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }

func parse(name, sql string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: sql} }

func bind(name string, args ...string) *pgproto3.Bind {
	b := &pgproto3.Bind{PreparedStatement: name}
	for _, a := range args {
		b.Parameters = append(b.Parameters, []byte(a))
	}
	return b
}

func describe(name string) *pgproto3.Describe { return &pgproto3.Describe{ObjectType: 'S', Name: name} }

func closeStatement(name string) *pgproto3.Close { return &pgproto3.Close{ObjectType: 'S', Name: name} }

func copyData(s string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(s)} }

var (
	execute  = &pgproto3.Execute{}
	syncMsg  = &pgproto3.Sync{}
	flush    = &pgproto3.Flush{}
	copyDone = &pgproto3.CopyDone{}
)
