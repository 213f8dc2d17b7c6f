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
			backendtest.Expect(query(";")), backendtest.Send(empty, ready),
		}, true},
		{"answered late", backendtest.Script{
			backendtest.Expect(syncMsg), backendtest.Send(ready),
			backendtest.Expect(query(";")), backendtest.Send(ready, empty, ready),
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
