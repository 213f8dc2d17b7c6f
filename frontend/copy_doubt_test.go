package frontend

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// TestCopyCancelledBeforeItsSync: a client sends Sync behind the Execute of a
// COPY, as libpq does. A server that reads the COPY ignores it, but one that is
// cancelled before it has begun to read answers it. Nobody can know which,
// until the next answer: a server with one ReadyForQuery too many must not
// reach the next client.
func TestCopyCancelledBeforeItsSync(t *testing.T) {
	const sql = "copy t from stdin"
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	failed := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "57014", Message: "canceling statement due to user request"}
	one := &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}
	begin := backendtest.Script{
		backendtest.Welcome(),
		backendtest.Expect(parse("", sql), bind(""), execute, syncMsg),
		backendtest.Send(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.CopyInResponse{}, failed),
	}
	next := backendtest.Script{backendtest.Expect(query("select 1")), backendtest.Send(one, ready)}
	empty := &pgproto3.EmptyQueryResponse{}
	for _, test := range []struct {
		name     string
		answered backendtest.Script
		second   bool // the client sends another Sync
	}{
		{"answered", backendtest.Script{backendtest.Send(ready)}, false},
		{"ignored", backendtest.Script{
			backendtest.Expect(syncMsg), backendtest.Send(ready),
			backendtest.Expect(query("")), backendtest.Send(empty, ready),
		}, true},
		{"answered late", backendtest.Script{
			backendtest.Expect(syncMsg), backendtest.Send(ready),
			backendtest.Expect(query("")), backendtest.Send(ready, empty, ready),
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			script := append(append(append(backendtest.Script{}, begin...), test.answered...), next...)
			r := startRig(t, backendtest.StartScript(t, script).Addr(), "")
			c, other := r.client(), r.client()
			c.send(parse("", sql), bind(""), execute, syncMsg)
			c.want("1", "2", "G", "ERROR 57014 canceling statement due to user request")
			if test.second {
				c.send(syncMsg)
			}
			c.want("Z I")
			other.query("select 1")
			other.want("C SELECT 1", "Z I")
		})
	}
}

// TestSimpleCopyWithSyncAhead: the ReadyForQuery of a failed simple query is its
// own, whatever becomes of a Sync behind it.
func TestSimpleCopyWithSyncAhead(t *testing.T) {
	const sql = "copy t from stdin"
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	failed := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "22012", Message: "division by zero"}
	one := &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}
	for _, late := range [][]pgproto3.BackendMessage{nil, {ready}} { // the Sync was ignored, was answered
		script := backendtest.Script{
			backendtest.Welcome(), backendtest.Expect(query(sql), syncMsg),
			backendtest.Send(&pgproto3.CopyInResponse{}, failed, ready),
			backendtest.Expect(query("")), backendtest.Send(append(late, &pgproto3.EmptyQueryResponse{}, ready)...),
			backendtest.Expect(query("select 1")), backendtest.Send(one, ready),
		}
		r := startRig(t, backendtest.StartScript(t, script).Addr(), "")
		c, other := r.client(), r.client()
		c.send(query(sql), syncMsg)
		c.want("G", "ERROR 22012 division by zero", "Z I")
		other.query("select 1")
		other.want("C SELECT 1", "Z I")
	}
}

// TestRequestsBehindCopyThatFails: a COPY may fail before the server reads what
// the client has sent behind it, as one into a view does. Then that is answered
// and not a part of the COPY: the next client must not get the answer.
func TestRequestsBehindCopyThatFails(t *testing.T) {
	const sql = "copy a_view from stdin"
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	failed := &pgproto3.ErrorResponse{Severity: "ERROR", Code: "42809", Message: "cannot copy to view"}
	done := func(tag string) *pgproto3.CommandComplete {
		return &pgproto3.CommandComplete{CommandTag: []byte(tag)}
	}
	for name, test := range map[string]struct {
		sent    []pgproto3.FrontendMessage
		replies []pgproto3.BackendMessage
		want    []string
	}{
		"simple": {
			[]pgproto3.FrontendMessage{query(sql), query("select 'mine'")},
			[]pgproto3.BackendMessage{&pgproto3.CopyInResponse{}, failed, ready, done("SELECT 1"), ready},
			[]string{"G"},
		},
		"extended": {
			[]pgproto3.FrontendMessage{parse("", sql), bind(""), execute, syncMsg, query("select 'mine'")},
			[]pgproto3.BackendMessage{&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.CopyInResponse{}, failed, ready, done("SELECT 1"), ready},
			[]string{"1", "2", "G"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			first := backendtest.Script{backendtest.Welcome(), backendtest.Expect(test.sent...), backendtest.Send(test.replies...)}
			second := backendtest.Script{backendtest.Welcome(), backendtest.Expect(query("select 2")), backendtest.Send(done("SELECT 2"), ready)}
			r := startRig(t, backendtest.StartScript(t, first, second).Addr(), "")
			c, other := r.client(), r.client()
			c.send(test.sent...)
			c.want(append(test.want, "ERROR 42809 cannot copy to view", "FATAL 08006 server conn crashed?", "EOF")...)
			other.query("select 2")
			other.want("C SELECT 2", "Z I")
		})
	}
}
