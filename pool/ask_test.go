package pool

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// FuzzReadAnswer checks that an answer fits its description, whatever a server
// sends.
func FuzzReadAnswer(f *testing.F) {
	encode := func(messages ...pgproto3.BackendMessage) (b []byte) {
		for _, m := range messages {
			b, _ = m.Encode(b)
		}
		return b
	}
	row := &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a")}, {Name: []byte("b")}}}
	f.Add(encode(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, row, &pgproto3.DataRow{Values: [][]byte{[]byte("x"), nil}},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'}))
	f.Add(encode(&pgproto3.ErrorResponse{Code: "42601", Message: "syntax error"}))
	f.Add(encode(row, &pgproto3.DataRow{Values: [][]byte{nil}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := readAnswer(b)
		if (a == nil) != (err != nil) {
			t.Fatalf("%v and %v", a, err)
		}
		if err != nil {
			return
		}
		for _, row := range a.Rows {
			if len(row) != a.Columns {
				t.Errorf("a row of %d values under %d columns", len(row), a.Columns)
			}
		}
	})
}
