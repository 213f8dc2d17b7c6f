package backend

import (
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// This file is how a server comes to hold the statements that clients prepare.

// Parse prepares st for the holder: the message is added to g unless the server
// holds the statement already. undo comes back in Holder.Aborted if nothing
// becomes of it.
func (s *Server) Parse(g *evloop.Gather, st *Statement, undo any) {
	if s.Holds(st) {
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

// Holds reports whether the server will hold st for what is sent next, as Ensure
// sees it.
func (s *Server) Holds(st *Statement) bool { return s.prepared.has(st, s.batch) }

// Ensure makes the server hold st before a Bind or Describe that needs it.
func (s *Server) Ensure(g *evloop.Gather, st *Statement) {
	if !s.Holds(st) {
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
	e.doubtful, e.version = false, st.version.Load()
	for most := s.maxPrepared(); s.prepared.listed >= most && s.prepared.oldest != nil; {
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
	g.SetBuffer(wire.AppendClose(g.Buffer(), e.stmt.Name))
	s.push(request{kind: wire.Close, action: internal, stmt: e.stmt})
}

// Doubt notes that what is sent next may make the server forget its prepared
// statements. Until that is known they are not relied on.
func (s *Server) Doubt() {
	for _, e := range s.prepared.byStmt {
		e.doubtful = true
	}
}

// doubtMeaning notes that a parameter has changed by what is under way. What was
// prepared in the same batch, or after it, may mean what nobody expects who has
// the same text and the parameters that the client was known to have then.
func (s *Server) doubtMeaning() {
	first := s.batch
	for i := range s.requests.len() {
		if s.requests.at(i).kind == wire.Sync {
			first--
		}
	}
	for _, e := range s.prepared.byStmt {
		if e.batch >= first {
			e.doubtful = true
		}
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

// stalePlan reports whether an ErrorResponse says that a table, or something else
// that a statement depends on, has changed so much since its Parse that the
// server refuses to run it. Only a new Parse helps.
func stalePlan(body []byte) bool {
	return string(wire.ErrorField(body, 'C')) == "0A000" && string(wire.ErrorField(body, 'R')) == "RevalidateCachedQuery"
}

// settle notes that a Parse or Close of st has been answered or ignored.
func (s *Server) settle(st *Statement) {
	e := s.prepared.byStmt[st]
	e.pending--
	switch {
	case e.pending > 0:
	case !e.there:
		s.prepared.remove(e)
		s.statements.Release(st)
	case !e.listed: // its Close was ignored
		s.prepared.list(e)
	}
}

// commandComplete looks for the commands that make a server prepare statements,
// or forget them.
func (s *Server) commandComplete(r *request, body []byte) {
	if len(body) == 0 || body[0] != 'D' && body[0] != 'P' {
		return
	}
	switch tag, _, _ := wire.CString(body); string(tag) {
	case "PREPARE":
		s.preparedSQL(r)
	case "DEALLOCATE":
		s.DoubtSQL()
	case "DISCARD ALL", "DEALLOCATE ALL":
		for _, e := range s.prepared.byStmt {
			e.there = false
			if e.pending == 0 {
				s.prepared.remove(e)
				s.statements.Release(e.stmt)
			}
		}
		s.unnamed = 0
		s.sql = sqlNames{}
		if s.holder != nil {
			s.holder.Deallocated()
		}
	}
}
