package backend

import (
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// This file is what a holder tells a server before it sends: for every message
// one call, in the order of the messages.

// Expect notes a request of the holder's that is sent as it is: Query, Parse
// (of an unnamed statement, or where names are not managed), Bind, Describe,
// Execute, Close, Sync, FunctionCall, CopyDone or CopyFail. Flush and CopyData
// have no answer and need no note.
func (s *Server) Expect(kind byte) { s.push(request{kind: kind}) }

func (s *Server) push(r request) {
	switch r.kind {
	case wire.Sync:
		if s.copyIn && !s.copyDone {
			s.copySync = true
			return // ignored by a server that reads CopyData
		}
		s.aborted = false
		s.batch++
	case wire.CopyDone, wire.CopyFail:
		r.kind = wire.CopyDone
		if s.copyIn {
			s.copyDone = true
		} else if s.aborted || s.requests.len() == 0 {
			return // late: there is no COPY to end
		}
	default:
		if s.aborted {
			s.spoiled = s.spoiled || s.inDoubt // if a Sync was answered, this is too
			s.drop(r)
			return
		}
		if s.copyIn && !s.copyDone && s.requests.len() > 0 && s.requests.at(0).kind == wire.Query {
			// The server takes it for the end of the COPY, by way of an error.
			s.copyDone, s.copyElse = true, true
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

// Parse prepares st for the holder: the message is added to g unless the server
// holds the statement already. undo comes back in Holder.Aborted if nothing
// becomes of it.
func (s *Server) Parse(g *evloop.Gather, st *Statement, undo any) {
	if s.prepared.has(st, s.batch) {
		s.push(request{kind: wire.Parse, action: fake, undo: undo})
		return
	}
	s.sendParse(g, st, forward, undo)
}

// ParseAgain prepares st although the server holds it, for a client that uses a
// name twice: the server's refusal (42P05) is the answer it deserves.
func (s *Server) ParseAgain(g *evloop.Gather, st *Statement) {
	s.Ensure(g, st)
	g.AddString(st.parse)
	s.push(request{kind: wire.Parse})
}

// Ensure makes the server hold st before a Bind or Describe that needs it.
func (s *Server) Ensure(g *evloop.Gather, st *Statement) {
	if !s.prepared.has(st, s.batch) {
		s.sendParse(g, st, inject, nil)
	}
}

func (s *Server) sendParse(g *evloop.Gather, st *Statement, act action, undo any) {
	if s.aborted {
		// The server will not look at it: it must not be remembered.
		s.drop(request{kind: wire.Parse, undo: undo})
		return
	}
	e := s.prepared.byStmt[st]
	if e == nil {
		s.statements.Hold(st)
		e = s.prepared.add(st)
	} else if e.listed || e.pending > 0 && e.batch != s.batch {
		// What becomes of an earlier batch, or of a command that forgets, is
		// not known yet: the statement may be there or not. PostgreSQL closes
		// in either case.
		s.close(g, e)
	}
	e.doubtful = false
	for s.prepared.listed >= s.maxPrepared && s.prepared.oldest != nil {
		s.close(g, s.prepared.oldest)
	}
	s.prepared.list(e)
	e.sent(s.batch)
	g.AddString(st.parse)
	s.parses++
	s.push(request{kind: wire.Parse, action: act, stmt: st, undo: undo})
}

// close has the server forget a statement.
func (s *Server) close(g *evloop.Gather, e *preparedEntry) {
	if e.listed {
		s.prepared.unlist(e)
	}
	e.sent(s.batch)
	b := g.Buffer()
	start := len(b)
	b = append(b, wire.Close, 0, 0, 0, 0, 'S')
	b = append(b, e.stmt.Name...)
	b = append(b, 0)
	wire.PutLen(b[start:], len(b)-start)
	g.SetBuffer(b)
	s.push(request{kind: wire.Close, action: internal, stmt: e.stmt})
}

// Doubt notes that what is sent next may make the server forget its prepared
// statements. Until that is known they are not relied on.
func (s *Server) Doubt() {
	for _, e := range s.prepared.byStmt {
		e.doubtful = true
	}
}

// CloseLocal answers a client's Close of a statement that the server keeps for
// others.
func (s *Server) CloseLocal(undo any) {
	s.push(request{kind: wire.Close, action: fake, undo: undo})
}

// HasUnnamed reports whether the server will hold the unnamed statement with this
// number for what is sent next. It does not while that depends on an earlier
// batch: if that fails, it is another one that is there.
func (s *Server) HasUnnamed(number uint64) bool {
	return number != 0 && s.unnamed == number && (s.unnamedPending == 0 || s.unnamedBatch == s.batch)
}

// ParseUnnamed notes a Parse message for the unnamed statement, which is sent as
// it is. The number, not 0, is this message's own: a client has a statement
// elsewhere that is newer than the one it left here. undo comes back in
// Holder.Aborted if nothing becomes of it, nor of a later one.
func (s *Server) ParseUnnamed(number uint64, undo any) { s.parseUnnamed(number, forward, undo) }

func (s *Server) parseUnnamed(number uint64, act action, undo any) {
	s.unnamed, s.unnamedBatch = number, s.batch
	s.unnamedPending++
	s.push(request{kind: wire.Parse, action: act, unnamed: true, undo: undo})
}

// CloseUnnamed notes a Close message for the unnamed statement, which is sent as
// it is.
func (s *Server) CloseUnnamed() {
	s.unnamed = 0
	s.push(request{kind: wire.Close})
}

// InjectUnnamed adds a Parse message for the unnamed statement that its client
// sent in an earlier transaction, with the number that it had then.
func (s *Server) InjectUnnamed(g *evloop.Gather, parse []byte, number uint64) {
	b := g.Buffer()
	g.SetBuffer(append(b, parse...))
	s.parseUnnamed(number, inject, nil)
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

// Abandon takes the server from a holder that is gone: nobody sees the replies
// to what is outstanding. It has the server come to a ReadyForQuery, and reports
// whether it can get there at all: not with half a message sent.
func (s *Server) Abandon() bool {
	if s.sendLeft > 0 || s.spoiled {
		return false
	}
	for i := range s.requests.len() {
		r := s.requests.at(i)
		if r.undo != nil && r.kind == wire.Close {
			s.holder.Closed(r.undo)
		}
		r.undo = nil
		if r.action != fake {
			r.action = internal
		}
	}
	s.leftForward = false
	s.finish()
	return true
}

// finish sends what brings the server to a ReadyForQuery: the end of a COPY, a
// Sync. A batch that has not been ended by its sender must come to nothing, but
// a Sync commits it: an error goes before.
func (s *Server) finish() {
	copying, ended := s.CopyIn(), s.tx != 0
	if n := s.requests.len(); n > 0 && !copying {
		switch s.requests.at(n - 1).kind {
		case wire.Sync, wire.Query, wire.FunctionCall:
			ended = true
		}
	}
	ended = ended && !s.aborted
	var b []byte
	switch {
	case copying:
		b = wire.AppendCopyFail(b, "client disconnected")
		s.push(request{kind: wire.CopyFail, action: internal})
	case !ended && !s.aborted:
		b = append(b, msgBindNothing...)
		s.push(request{kind: wire.Bind, action: internal})
	}
	if !ended {
		b = append(b, wire.MsgSync...)
		s.push(request{kind: wire.Sync, action: internal})
	}
	if len(b) > 0 {
		s.Stream.Write(b)
	}
}

// msgBindNothing is a Bind of a statement that does not exist: its name tells
// whoever reads the server's log why.
var msgBindNothing = []byte("B\x00\x00\x00\x1f\x00client disconnected\x00\x00\x00\x00\x00\x00\x00")
