package backend

import (
	"bytes"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// recorder is a Holder that notes what it is told.
type recorder struct {
	forwarded []byte
	events    []byte
}

func (r *recorder) Forward(p []byte)         { r.forwarded = append(r.forwarded, p...) }
func (r *recorder) Ready(tx byte)            { r.events = append(r.events, 'Z', tx) }
func (r *recorder) Aborted(kind byte, _ any) { r.events = append(r.events, 'a', kind) }
func (r *recorder) Closed(any)               { r.events = append(r.events, 'c') }
func (r *recorder) Deallocated()             { r.events = append(r.events, 'd') }
func (r *recorder) Settle()                  {}
func (r *recorder) Sent()                    {}
func (r *recorder) Lost(error)               {}

// play gives a server without a connection the requests and then the replies,
// in pieces of the given sizes, and returns what its holder was told.
func play(t *testing.T, requests, replies []byte, pieces []int) (*recorder, *Server, error) {
	ss := NewStatements()
	tr := NewTracked(nil)
	r := &recorder{}
	s := &Server{tracked: tr, statements: ss, maxPrepared: func() int { return 3 }, Vars: make(Vars, len(tr.names)), tx: 'I', holder: r}
	var g evloop.Gather
	for _, b := range requests {
		st, _ := ss.Acquire("", []byte{'s', 'a' + b%5, 0, 0, 0}, nil)
		switch b >> 4 {
		case 0:
			s.Expect(wire.Query)
		case 1:
			s.Expect(wire.Parse)
		case 2:
			s.Expect(wire.Bind)
		case 3:
			s.Expect(wire.Describe)
		case 4:
			s.Expect(wire.Execute)
		case 5:
			s.Expect(wire.Close)
		case 6, 7:
			s.Expect(wire.Sync)
		case 8:
			s.Expect(wire.FunctionCall)
		case 9:
			s.Expect(wire.CopyDone)
		case 10, 11:
			s.Parse(&g, st, &b)
		case 12:
			s.Ensure(&g, st)
		case 13:
			s.CloseLocal(&b)
		default:
			s.Expect(wire.Execute)
		}
		ss.Release(st)
	}
	var kept []byte
	for len(replies) > 0 {
		n := len(replies)
		if len(pieces) > 0 {
			n, pieces = min(n, max(1, pieces[0])), pieces[1:]
		}
		data := append(bytes.Clone(kept), replies[:n]...)
		replies = replies[n:]
		rest, err := s.replies(data)
		if err != nil {
			return r, s, err
		}
		kept = bytes.Clone(rest)
	}
	for st := range s.prepared.byStmt {
		if st.refs < 1 {
			t.Errorf("the server holds statement %q, which is forgotten", st.Name)
		}
	}
	listed := 0
	for _, e := range s.prepared.byStmt {
		if e.listed {
			listed++
		}
	}
	if n := len(listPrepared(s)); n != listed || n != s.prepared.listed {
		t.Errorf("%d statements are to be listed, %d are counted, %d are in the list", listed, s.prepared.listed, n)
	}
	return r, s, nil
}

func listPrepared(s *Server) (list []*Statement) {
	for e := s.prepared.newest; e != nil; e = e.older {
		list = append(list, e.stmt)
	}
	return list
}

// FuzzReplies holds that replies may come in any pieces without a difference,
// and that nothing a server sends makes its Server panic or forward bytes that
// did not come from it or belong to a reply that it makes up.
func FuzzReplies(f *testing.F) {
	enc := func(msgs ...pgproto3.BackendMessage) (b []byte) {
		for _, m := range msgs {
			var err error
			if b, err = m.Encode(b); err != nil {
				f.Fatal(err)
			}
		}
		return b
	}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	done := &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}
	row := &pgproto3.DataRow{Values: [][]byte{[]byte("x")}}
	f.Add([]byte{0x00}, enc(&pgproto3.RowDescription{}, row, done, ready), 7)
	f.Add([]byte{0xa0, 0x20, 0x30, 0x40, 0x60}, enc(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.NoData{}, done, ready), 3)
	f.Add([]byte{0xa0, 0xa0, 0x20, 0x60, 0xa0, 0x60}, enc(&pgproto3.ParseComplete{}, &pgproto3.ErrorResponse{Code: "42601"}, ready, ready), 11)
	f.Add([]byte{0x40, 0x60, 0x90, 0x60}, enc(&pgproto3.CopyInResponse{}, done, ready), 5)
	f.Add([]byte{0x00, 0x00}, enc(&pgproto3.CopyInResponse{}, &pgproto3.ErrorResponse{Code: "08P01"}, ready), 6)
	f.Add([]byte{0xa0, 0xa1, 0xa2, 0xa3, 0x60}, enc(&pgproto3.ParseComplete{}, &pgproto3.CloseComplete{}), 1)
	f.Add([]byte{0x00}, enc(&pgproto3.CommandComplete{CommandTag: []byte("DISCARD ALL")}, ready), 9)
	f.Add([]byte{0x00}, []byte("S\x00\x00\x00\x03"), 2)
	f.Fuzz(func(t *testing.T, requests, replies []byte, cut int) {
		if len(requests) > 64 {
			return
		}
		whole, s1, err1 := play(t, requests, replies, nil)
		cut = 1 + (cut&0x7fff)%97
		pieces := make([]int, len(replies)/cut+1)
		for i := range pieces {
			pieces[i] = cut
		}
		parts, s2, err2 := play(t, requests, replies, pieces)
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("whole: %v; in pieces of %d: %v", err1, cut, err2)
		}
		if err1 != nil {
			if !errors.Is(err1, errOutOfStep) && !errors.Is(err1, errReplyTooLong) {
				t.Fatalf("unexpected error %v", err1)
			}
			return
		}
		if !bytes.Equal(whole.forwarded, parts.forwarded) || !bytes.Equal(whole.events, parts.events) {
			t.Fatalf("whole: %q %q; in pieces of %d: %q %q", whole.forwarded, whole.events, cut, parts.forwarded, parts.events)
		}
		if s1.tx != s2.tx || s1.requests.len() != s2.requests.len() || s1.aborted != s2.aborted || s1.copy != s2.copy {
			t.Fatalf("whole: %c %d %v %v; in pieces: %c %d %v %v", s1.tx, s1.requests.len(), s1.aborted, s1.copy, s2.tx, s2.requests.len(), s2.aborted, s2.copy)
		}
	})
}
