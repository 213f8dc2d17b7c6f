package backend

import (
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// This file is how a server comes to hold the statements that clients prepare by
// SQL. They keep the names that the clients give them: what a name stands for
// changes with the client that is about to use it.

// SQLStatement is what a client has prepared with a PREPARE command. It is
// immutable, and as good as another that is equal.
type SQLStatement struct {
	Name string
	Vars string // see statementKey
	Text string // of the command
}

// sqlNames is what is known of the statements that were prepared by SQL.
type sqlNames struct {
	byName map[string]*SQLStatement // nil: there may be something by that name
	stray  bool                     // … and by any other name, too
	own    bool                     // … which is the present holder's
}

// HoldsSQL reports whether there may be statements that were prepared by SQL.
func (s *Server) HoldsSQL() bool { return s.sql.stray || len(s.sql.byName) > 0 }

// KnowsSQL reports whether the name stands for want on the server, or for
// nothing if want is nil, or for what only the server knows that the holder has
// done. It also says no when there are too many names.
func (s *Server) KnowsSQL(name string, want *SQLStatement) bool {
	have, known := s.sql.byName[name]
	if want == nil {
		return !known && (s.sql.own || !s.sql.stray && len(s.sql.byName) < s.maxPrepared())
	}
	return have != nil && *have == *want
}

// Between reports whether the next message begins something of its own: all that
// has been sent comes to a ReadyForQuery without more.
func (s *Server) Between() bool {
	if s.aborted || s.copy.reading() || s.copy.inDoubt() {
		return false
	}
	n := s.requests.len()
	for n > 0 && s.requests.at(n-1).kind == wire.CopyDone {
		n--
	}
	return n == 0 || s.requests.at(n-1).ends()
}

// NameSQL makes the name stand for want, or for nothing, on a server that owes
// nothing. Nobody sees the replies. If the command is refused, which it was not
// when the client sent it, the name stands for nothing.
func (s *Server) NameSQL(g *evloop.Gather, name string, want *SQLStatement) {
	b := g.Buffer()
	for other := range s.sql.byName {
		if len(s.sql.byName) < s.maxPrepared() {
			break
		}
		if other != name {
			b = s.closeSQL(b, other)
		}
	}
	b = s.closeSQL(b, name)
	if want != nil {
		// Not as a simple query: this takes one command only, so that nothing
		// that stood behind the PREPARE is done again.
		b = wire.AppendParse(b, "", want.Text)
		b = append(b, msgRun...)
		s.unnamed = 0
		s.push(request{kind: wire.Parse, action: quiet})
		s.push(request{kind: wire.Bind, action: quiet})
		s.push(request{kind: wire.Execute, action: quiet, undo: want})
	}
	g.SetBuffer(append(b, wire.MsgSync...))
	s.push(request{kind: wire.Sync, action: quiet})
}

// msgRun is a Bind and an Execute of the unnamed statement, without parameters.
var msgRun = []byte("B\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00E\x00\x00\x00\x09\x00\x00\x00\x00\x00")

// closeSQL has the server forget a name. PostgreSQL does not mind if there is
// nothing by it.
func (s *Server) closeSQL(b []byte, name string) []byte {
	delete(s.sql.byName, name)
	s.push(request{kind: wire.Close, action: quiet})
	return wire.AppendClose(b, name)
}

// ExpectSQL notes a simple query with the command that prepares st, which is
// sent as it is. st comes back in Holder.Aborted if the server refuses.
func (s *Server) ExpectSQL(st *SQLStatement) { s.push(request{kind: wire.Query, undo: st}) }

// Decoy has the server hold an empty statement by a name that only the client
// knows, for the DEALLOCATE of it that comes next. undo comes back in
// Holder.Closed if the server has got so far, else in Holder.Aborted.
func (s *Server) Decoy(g *evloop.Gather, name string, undo any) {
	b := wire.AppendClose(g.Buffer(), name)
	g.SetBuffer(wire.AppendParse(b, name, ""))
	s.push(request{kind: wire.Close, action: inject, undo: undo})
	s.push(request{kind: wire.Parse, action: inject})
	s.HiddenSQL(name) // if the DEALLOCATE does not come
}

// NoDecoy has the server hold nothing by a name, in the middle of a batch: the
// client does not know it, or the server cannot be told now.
func (s *Server) NoDecoy(g *evloop.Gather, name string) {
	if s.KnowsSQL(name, nil) {
		return
	}
	g.SetBuffer(wire.AppendClose(g.Buffer(), name))
	s.push(request{kind: wire.Close, action: inject})
	s.DoubtSQL()
}

// preparedSQL notes that r has prepared a statement by SQL.
func (s *Server) preparedSQL(r *request) {
	st, ok := r.undo.(*SQLStatement)
	if !ok {
		s.sql.stray, s.sql.own = true, true // it was hidden behind something else
		return
	}
	if s.sql.byName == nil {
		s.sql.byName = make(map[string]*SQLStatement)
	}
	s.sql.byName[st.Name] = st
	r.undo = nil
}

// HiddenSQL notes that the holder is about to change what a name stands for, in a
// way that only the server knows.
func (s *Server) HiddenSQL(name string) {
	delete(s.sql.byName, name)
	s.sql.stray = true
	for i := range s.requests.len() {
		r := s.requests.at(i)
		if st, ok := r.undo.(*SQLStatement); ok && st.Name == name && r.kind != wire.Close {
			r.undo = nil // what it prepares does not last
		}
	}
}

// StraySQL notes that the server may get statements by names that nobody manages.
func (s *Server) StraySQL() { s.sql.stray = true }

// DoubtSQL notes that names may stand for nothing by now.
func (s *Server) DoubtSQL() {
	for name := range s.sql.byName {
		s.sql.byName[name] = nil
	}
}
