package backend

import "github.com/pgvalet/pgvalet/backend/wire"

// This file is what a holder tells a server before it sends: for every message
// one call, in the order of the messages.

// Expect notes a request of the holder's that is sent as it is: Query, Parse
// (of an unnamed statement, or where names are not managed), Bind, Describe,
// Execute, Close, Sync, FunctionCall, CopyDone or CopyFail. Flush and CopyData
// have no answer and need no note.
func (s *Server) Expect(kind byte) { s.push(request{kind: kind}) }

// ExpectOf is Expect for a Bind or Describe of a statement for which Ensure has
// been called; nil is any other.
func (s *Server) ExpectOf(kind byte, st *Statement) { s.push(request{kind: kind, stmt: st}) }

func (s *Server) push(r request) {
	switch r.kind {
	case wire.Sync:
		if s.copy.reading() {
			s.copy.sync = true
			return // ignored by a server that reads CopyData
		}
		s.aborted = false
		s.batch++
	case wire.CopyDone, wire.CopyFail:
		r.kind = wire.CopyDone
		if s.copy.active() {
			s.copy.endSent()
		} else if s.aborted || s.requests.len() == 0 {
			return // late: there is no COPY to end
		}
	default:
		if s.aborted {
			if s.copy.inDoubt() {
				s.copy.spoil() // if a Sync was answered, this is too
			}
			s.drop(r)
			return
		}
		if s.copy.reading() && s.requests.len() > 0 && s.requests.at(0).kind == wire.Query {
			// The server takes it for the end of the COPY, by way of an error.
			s.copy.interrupted()
			s.drop(r)
			return
		}
		if r.kind == wire.Query {
			s.unnamed = 0 // a simple query destroys the unnamed statement
		}
	}
	s.tx = 0
	s.requests.push(r)
	if r.action == fake && s.requests.len() == 1 && s.left == 0 {
		s.answerSilent()
	}
}

// SetVars sends the tracked parameters that differ from want; the replies go to
// nobody. TakeFailure tells whether the server refused.
func (s *Server) SetVars(want Vars) {
	s.Stream.Write(s.Vars.appendSet(nil, s.tracked, want))
	s.unnamed = 0
	for _, kind := range [...]byte{wire.Parse, wire.Bind, wire.Execute, wire.Sync} {
		s.push(request{kind: kind, action: internal})
	}
}

// Query sends a query of our own; the replies go to nobody. TakeFailure tells
// whether it failed.
func (s *Server) Query(sql string) {
	s.Stream.Write(wire.AppendQuery(nil, sql))
	s.push(request{kind: wire.Query, action: internal})
}
