package backend

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// discard is a Holder that wants nothing.
type discard struct{ recorder }

func (*discard) Forward([]byte)    {}
func (*discard) Ready(byte)        {}
func (*discard) Aborted(byte, any) {}

// busyServer has no connection, and statements of its own.
func busyServer() *Server {
	tr := NewTracked(nil)
	return &Server{tracked: tr, statements: NewStatements(), maxPrepared: func() int { return 10 }, Vars: make(Vars, len(tr.names)), tx: 'I', holder: &discard{}}
}

func encoded(t testing.TB, messages ...pgproto3.BackendMessage) (buf []byte) {
	t.Helper()
	for _, m := range messages {
		var err error
		if buf, err = m.Encode(buf); err != nil {
			t.Fatal(err)
		}
	}
	return buf
}

// BenchmarkReplies accounts for what a server sends: a buffer full of rows, of
// so many bytes each with their headers, and the short answers of pgbench's SELECT.
func BenchmarkReplies(b *testing.B) {
	for _, n := range []int{0, 160, 2890} {
		row := encoded(b, &pgproto3.DataRow{Values: [][]byte{make([]byte, n)}})
		buf := bytes.Repeat(row, 64<<10/len(row))
		b.Run(fmt.Sprintf("rows of %dB", len(row)), func(b *testing.B) {
			s := busyServer()
			s.Expect(wire.Query)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if rest, err := s.replies(buf); err != nil || len(rest) > 0 {
					b.Fatal(len(rest), err)
				}
			}
		})
	}

	shape := &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("abalance"), DataTypeOID: 23, DataTypeSize: 4, TypeModifier: -1}}}
	row := &pgproto3.DataRow{Values: [][]byte{[]byte("-12345")}}
	done := &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	for _, bench := range []struct {
		name    string
		expect  []byte
		replies []byte
	}{
		{"simple", []byte{wire.Query}, encoded(b, shape, row, done, ready)},
		{"prepared", []byte{wire.Bind, wire.Describe, wire.Execute, wire.Sync}, encoded(b, &pgproto3.BindComplete{}, shape, row, done, ready)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			s := busyServer()
			b.SetBytes(int64(len(bench.replies)))
			b.ReportAllocs()
			for b.Loop() {
				for _, kind := range bench.expect {
					s.Expect(kind)
				}
				if rest, err := s.replies(bench.replies); err != nil || len(rest) > 0 {
					b.Fatal(len(rest), err)
				}
			}
		})
	}
}

// BenchmarkEnsure is a Bind's question whether the server holds a statement,
// when it does, for the one used last and for one of many.
func BenchmarkEnsure(b *testing.B) {
	for _, n := range []int{1, 200} {
		b.Run(fmt.Sprintf("of %d", n), func(b *testing.B) {
			s := busyServer()
			s.maxPrepared = func() int { return n }
			var g evloop.Gather
			list := make([]*Statement, n)
			for i := range list {
				list[i], _ = s.statements.Acquire("", fmt.Appendf(nil, "select %d\x00\x00\x00", i), nil)
				s.Ensure(&g, list[i])
				if _, err := s.replies(wire.MsgParseComplete); err != nil {
					b.Fatal(err)
				}
			}
			g.Flush(nil)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Ensure(&g, list[i%n])
			}
			if g.Len() > 0 {
				b.Fatal("a statement was prepared again")
			}
		})
	}
}

// BenchmarkSetVars is what it costs here, beside a round trip, that a client
// with another application_name gets the server.
func BenchmarkSetVars(b *testing.B) {
	s := busyServer()
	names := [2]string{"first application", "second application"}
	var want [2]Vars
	var reported [2][]byte
	for i, name := range names {
		want[i] = make(Vars, len(s.Vars))
		want[i].Set(s.tracked, "application_name", name)
		reported[i] = encoded(b, &pgproto3.ParameterStatus{Name: "application_name", Value: name})[wire.HeaderLen:]
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if !s.Vars.Differ(want[i%2]) {
			b.Fatal("nothing to set")
		}
		s.Vars.appendSet(nil, s.tracked, want[i%2])
		s.parameterStatus(reported[i%2])
	}
}
