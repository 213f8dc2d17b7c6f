package frontend

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// answerTo is a script's part that takes a query and answers it.
func answerTo(sql string, replies ...pgproto3.BackendMessage) []backendtest.Step {
	return []backendtest.Step{backendtest.Expect(query(sql)), backendtest.Send(replies...)}
}

// TestOutOfStep has a server answer what it was not asked: whoever has it is
// told, it is closed, and what it says reaches nobody else.
func TestOutOfStep(t *testing.T) {
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	done := &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}
	row := &pgproto3.DataRow{Values: [][]byte{[]byte("somebody's")}}
	send := func(messages ...pgproto3.BackendMessage) backendtest.Step { return backendtest.Send(messages...) }
	tests := []struct {
		name    string
		send    []pgproto3.FrontendMessage
		replies backendtest.Step
		want    []string // before the error
	}{
		{"a reply to Bind for a query", []pgproto3.FrontendMessage{query("select 1")}, send(&pgproto3.BindComplete{}), nil},
		{"rows for a parse", []pgproto3.FrontendMessage{parse("", "x"), syncMsg}, send(row), nil},
		{"ready before the reply", []pgproto3.FrontendMessage{parse("", "x"), bind(""), execute, syncMsg}, send(&pgproto3.ParseComplete{}, ready), []string{"1"}},
		{"copy in both directions", []pgproto3.FrontendMessage{query("select 1")}, send(&pgproto3.CopyBothResponse{}), nil},
		{"a login", []pgproto3.FrontendMessage{query("select 1")}, send(&pgproto3.AuthenticationCleartextPassword{}), nil},
		{"a length that cannot be", []pgproto3.FrontendMessage{query("select 1")}, backendtest.SendBytes([]byte{'C', 0, 0, 0, 3}), nil},
		{"a message that does not exist", []pgproto3.FrontendMessage{query("select 1")}, backendtest.SendBytes([]byte{'?', 0, 0, 0, 4}), nil},
		{
			"a second ready",
			[]pgproto3.FrontendMessage{query("begin")},
			send(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")}, &pgproto3.ReadyForQuery{TxStatus: 'T'}, ready),
			[]string{"C BEGIN", "Z T"},
		},
		{"an endless tag", []pgproto3.FrontendMessage{query("select 1")}, backendtest.SendBytes([]byte{'C', 0x7f, 0, 0, 0, 'S'}), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			next := append(append(backendtest.Script{backendtest.Welcome()}, answerTo("select 'next'", row, done, ready)...), untilClosed)
			peer := backendtest.StartScript(t,
				backendtest.Script{backendtest.Welcome(), backendtest.Expect(tt.send...), tt.replies, untilClosed}, next)
			r := startRig(t, peer.Addr(), "")
			c, other := r.client(), r.client()
			c.send(tt.send...)
			c.want(append(tt.want, "FATAL 08006 server conn crashed?", "EOF")...)
			other.query("select 'next'")
			other.want("D somebody's", "C SELECT 1", "Z I")
		})
	}
}

// TestTooMuch has a server go on after its last reply. The rest belongs to
// nobody: the server is closed before anybody else has it.
func TestTooMuch(t *testing.T) {
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	done := &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}
	secret := &pgproto3.DataRow{Values: [][]byte{[]byte("secret")}}
	for _, together := range []bool{true, false} {
		script := backendtest.Script{backendtest.Welcome()}
		if together {
			script = append(script, answerTo("select 1", done, ready, secret, done, ready)...)
		} else {
			script = append(append(script, answerTo("select 1", done, ready)...), backendtest.Send(secret, done, ready))
		}
		peer := backendtest.StartScript(t, append(script, untilClosed),
			append(append(backendtest.Script{backendtest.Welcome()}, answerTo("select 2", done, ready)...), untilClosed))
		r := startRig(t, peer.Addr(), "")
		c, other := r.client(), r.client()
		c.query("select 1")
		if together {
			c.want("C SELECT 1", "Z I")
			if got := c.receive(); got != "FATAL 08006 server conn crashed?" && got != "TIMEOUT" {
				t.Errorf("%q", got)
			}
		} else {
			c.want("C SELECT 1", "Z I")
			r.await("the server is closed", func() bool { return r.servers() == 0 })
		}
		other.query("select 2")
		other.want("C SELECT 1", "Z I")
	}
}

// TestMadeUpReplyKeepsItsPlace has a reply come in two pieces, and a request
// that needs no server between them.
func TestMadeUpReplyKeepsItsPlace(t *testing.T) {
	long := strings.Repeat("n", 5000)
	description, err := (&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte(long), DataTypeOID: 25}}}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	half, asked := len(description)/2, make(chan struct{})
	known := &pgproto3.Parse{Name: "PGVALET_1", Query: "select 1"}
	peer := backendtest.StartScript(t, backendtest.Script{
		backendtest.Welcome(),
		backendtest.Expect(known, syncMsg), backendtest.Send(&pgproto3.ParseComplete{}, ready),
		backendtest.Expect(describe("PGVALET_1"), flush), backendtest.Send(&pgproto3.ParameterDescription{}), backendtest.SendBytes(description[:half]),
		backendtest.Await(asked), backendtest.SendBytes(description[half:]),
		backendtest.Expect(flush, syncMsg), backendtest.Send(ready), untilClosed,
	})
	r := startRig(t, peer.Addr(), "")
	c := r.client()
	c.send(parse("a", "select 1"), syncMsg)
	c.want("1", "Z I")
	c.send(describe("a"), flush)
	c.want("t")
	r.await("half of the reply", func() (half bool) {
		r.look(c, func(s *session) { half = s.srv.Outstanding() == 0 })
		return half
	})
	c.send(parse("b", "select 1"), flush)
	r.await("the request is there", func() (there bool) {
		r.look(c, func(s *session) { there = s.statement["b"] != nil })
		return there
	})
	close(asked)
	c.want("T", "1")
	c.send(syncMsg)
	c.want("Z I")
}

// TestUnaskedErrors: PostgreSQL ends an idle server, with a client or without.
func TestUnaskedErrors(t *testing.T) {
	r := newRig(t, "")
	c := r.client()
	pid := c.pid()
	r.awaitRest()
	admin(t, "select pg_terminate_backend("+pid+")")
	r.await("the server is gone", func() bool { return r.servers() == 0 })
	if p := c.pid(); p == pid {
		t.Error("it lives")
	}
	pid = c.pid()
	c.do("begin")
	admin(t, "select pg_terminate_backend("+pid+")")
	c.want("FATAL 57P01 terminating connection due to administrator command", "FATAL 08006 server conn crashed?", "EOF")
}
