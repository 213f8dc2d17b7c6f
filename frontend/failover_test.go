package frontend

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// TestReadOnlyAfterFailover: a server that refuses to write, and says that it is
// in recovery, is replaced; one that was only told to be read-only is not.
func TestReadOnlyAfterFailover(t *testing.T) {
	const insert, probe = "insert into t values (1)", "BEGIN READ WRITE; COMMIT"
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	welcome := func(standby string) []backendtest.Step {
		return []backendtest.Step{
			backendtest.ExpectStartup(nil),
			backendtest.Send(
				&pgproto3.AuthenticationOk{},
				&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
				&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: standby},
				ready,
			),
		}
	}
	refuse := backendtest.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "25006", Message: "cannot execute INSERT in a read-only transaction"}, ready)
	inRecovery := backendtest.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "0A000", Message: "cannot set transaction read-write mode during recovery"}, ready)
	writable := backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")}, &pgproto3.CommandComplete{CommandTag: []byte("COMMIT")}, ready)
	done := backendtest.Send(&pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")}, ready)

	for _, tt := range []struct {
		name     string
		first    []backendtest.Step // of the server that refuses
		replaced bool
	}{
		{"in recovery", append(welcome("off"), backendtest.Expect(query(insert)), refuse, backendtest.Expect(query(probe)), inRecovery), true},
		{"only told to", append(welcome("off"), backendtest.Expect(query(insert)), refuse, backendtest.Expect(query(probe)), writable, backendtest.Expect(query(insert)), done), false},
		{"a reader from the start", append(welcome("on"), backendtest.Expect(query(insert)), refuse, backendtest.Expect(query(insert)), done), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scripts := []backendtest.Script{tt.first}
			if tt.replaced {
				scripts = []backendtest.Script{
					append(tt.first, backendtest.Expect(&pgproto3.Terminate{})),
					append(welcome("off"), backendtest.Expect(query(insert)), done),
				}
			}
			r := startRig(t, backendtest.StartScript(t, scripts...).Addr(), "")
			c := r.client()
			c.send(query(insert))
			c.want("ERROR 25006 cannot execute INSERT in a read-only transaction", "Z I")
			c.send(query(insert))
			c.want("C INSERT 0 1", "Z I")
		})
	}
}
