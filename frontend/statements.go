package frontend

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// This file is the client's prepared statements: the messages that name one, and
// what becomes of the names.

// preparedName is a client's name for a statement.
type preparedName struct {
	name        string
	stmt        *backend.Statement
	epoch       uint32 // how many commands that forget names had been sent before it
	deallocates string // the name in it, if the query is DEALLOCATE of one
}

// forgetting looks for a query that makes the server forget its prepared
// statements. What the client prepares behind it is not to be forgotten when
// the command completes, nor to be taken for known by the server.
func (s *session) forgetting(sql []byte) {
	sql = bytes.TrimLeft(sql, " \t\r\n")
	for _, word := range [...]string{"discard", "deallocate"} {
		if len(sql) > len(word) && (sql[0]|0x20) == 'd' && strings.EqualFold(string(sql[:len(word)]), word) {
			if s.srv.TxStatus() != 0 {
				s.forgotten = s.epoch // those before it are over, done or refused
			}
			s.epoch++
			s.srv.Doubt()
		}
	}
}

func (s *session) parse(n int, m []byte) int {
	name, tail, ok := wire.CString(m[wire.HeaderLen:])
	if !ok {
		if len(m) < n {
			return 0
		}
		s.fatal(brokenPacket("Parse"))
		return 0
	}
	if len(name) == 0 || !s.tracking() {
		if !s.need() {
			return 0
		}
		s.asking()
		s.forgetting(tail)
		if len(name) == 0 && s.sharing() {
			if s.unnamed == nil {
				s.unnamed = new(unnamedStatement)
			}
			s.unnamed.parsed(n, m)
			if s.tracking() {
				s.unnamed.deallocates = deallocatedBy(tail)
			}
			s.unnamed.number = s.w.sessions.unnamed.Add(1)
			s.srv.ParseUnnamed(s.unnamed.number, (*preparedName)(nil))
		} else {
			if s.sharing() {
				s.srv.StraySQL() // names may be managed some day
			}
			s.srv.Expect(wire.Parse)
		}
		return s.begin(n, m)
	}
	if len(m) < n {
		return 0 // it must be seen whole
	}
	if !backend.ValidParseTail(tail) {
		s.fatal(brokenPacket("Parse"))
		return 0
	}
	if old := s.statement[string(name)]; old != nil && s.srv != nil && s.srv.Outstanding() > 0 {
		// Whether the name is taken is not known yet: the Parse that took it
		// may fail. This one counts.
		delete(s.statement, old.name)
		s.w.sessions.pools.Statements().Release(old.stmt)
	} else if old != nil {
		if !s.need() {
			return 0
		}
		s.asking()
		s.stats.ClientParses++
		if s.w.sessions.config().LogPoolerErrors {
			s.log().Info("prepared statement '" + printable(old.name) + "' was already prepared")
		}
		s.present(old)
		s.srv.ParseAgain(&s.w.toServer, old.stmt)
		return n
	}
	stmt, valid := s.w.sessions.pools.Statements().Acquire(s.believes.key, tail, s.pool)
	// A statement that a server of the pool has accepted before will do. Not to
	// wait for a server now is more than a saving: a program may wait for this
	// answer before it ends the transactions for which others hold theirs.
	if s.srv == nil && !valid && !s.need() {
		s.w.sessions.pools.Statements().Release(stmt)
		return 0
	}
	s.stats.ClientParses++
	p := &preparedName{string(name), stmt, s.epoch, deallocatedBy(tail)}
	if s.statement == nil {
		s.statement = make(map[string]*preparedName)
	}
	s.statement[p.name] = p
	if s.srv == nil {
		s.w.toClient.Add(wire.MsgParseComplete)
		return n
	}
	s.asking()
	s.srv.Parse(&s.w.toServer, stmt, p)
	return n
}

func (s *session) bind(n int, m []byte) int {
	_, rest, ok := wire.CString(m[wire.HeaderLen:])
	name, tail, ok2 := wire.CString(rest)
	if !ok || !ok2 {
		if len(m) < n {
			return 0
		}
		s.fatal(brokenPacket("Bind"))
		return 0
	}
	if !s.need() {
		return 0
	}
	s.asking()
	to, p, rewrite, wait := s.serverName(name)
	if wait {
		return 0
	}
	var stmt *backend.Statement
	if p != nil {
		s.stats.Binds++
		stmt = p.stmt
		s.deallocating(p.deallocates)
	}
	if len(name) == 0 && s.unnamed != nil {
		s.unnamed.bound()
		s.deallocating(s.unnamed.deallocates)
	}
	s.srv.ExpectOf(wire.Bind, stmt)
	if !rewrite {
		return s.begin(n, m)
	}
	head := m[:len(m)-len(rest)]
	s.renamed(n+len(to)-len(name), head, to)
	s.left, s.leftDrop = n-len(m), false
	s.w.toServer.Add(tail)
	s.srv.SetSendLeft(s.left)
	return len(m)
}

func (s *session) describeOrClose(typ byte, n int, m []byte) int {
	if len(m) < n {
		return 0
	}
	body := m[wire.HeaderLen:]
	var name, tail []byte
	ok := len(body) > 1
	if ok {
		name, tail, ok = wire.CString(body[1:])
	}
	if !ok || len(tail) > 0 {
		s.fatal(brokenPacket(map[byte]string{wire.Describe: "Describe", wire.Close: "Close"}[typ]))
		return 0
	}
	if typ == wire.Close && body[0] == 'S' && s.tracking() {
		if p := s.statement[string(name)]; p != nil {
			delete(s.statement, p.name)
			return s.closeStatement(p, n)
		}
		if st := s.sql[string(name)]; st != nil {
			delete(s.sql, st.Name)
			return s.closeStatement(st, n)
		}
		if bytes.HasPrefix(name, []byte(backend.StatementPrefix)) {
			return s.closeStatement(nil, n) // not the client's to close
		}
	}
	if !s.need() {
		return 0
	}
	s.asking()
	if typ == wire.Describe && body[0] == 'S' {
		to, p, rewrite, wait := s.serverName(name)
		if wait {
			return 0
		}
		var stmt *backend.Statement
		if p != nil {
			stmt = p.stmt
		}
		s.srv.ExpectOf(typ, stmt)
		if rewrite {
			s.renamed(n+len(to)-len(name), m[:wire.HeaderLen+1], to)
			return n
		}
		return s.begin(n, m)
	}
	if typ == wire.Close && body[0] == 'S' && len(name) == 0 {
		s.srv.CloseUnnamed()
		s.unnamed.forget()
	} else {
		if typ == wire.Close && body[0] == 'S' {
			s.srv.DoubtSQL()
		}
		s.srv.Expect(typ)
	}
	return s.begin(n, m)
}

// closeStatement answers the Close of a name that the client has no more, unless
// it comes to nothing. The server keeps the statement: others may use it.
func (s *session) closeStatement(undo any, n int) int {
	if s.srv == nil {
		s.Closed(undo)
		s.w.toClient.Add(wire.MsgCloseComplete)
		return n
	}
	s.asking()
	s.srv.CloseLocal(undo)
	return n
}

// serverName returns what the server calls the statement that the client calls
// name, and whether that is something else. The server will hold it by the time
// it is asked for it. p is nil for one that has no name, or is not known. wait
// means that the message has to wait for answers.
func (s *session) serverName(name []byte) (to string, p *preparedName, rewrite, wait bool) {
	if len(name) == 0 {
		to, rewrite = s.unnamedName()
		return to, nil, rewrite, false
	}
	if !s.tracking() {
		return "", nil, false, false
	}
	if p := s.statement[string(name)]; p != nil {
		s.present(p)
		s.srv.Ensure(&s.w.toServer, p.stmt)
		return p.stmt.Name, p, true, false
	}
	// The server says that there is no such statement, unless the client
	// prepared it by SQL. It must not reach somebody else's by guessing.
	wait = !s.agree(string(name))
	if bytes.HasPrefix(name, []byte(backend.StatementPrefix)) {
		return strings.ToLower(string(name)), nil, true, wait
	}
	return "", nil, false, wait
}

// present has p stand for what its query means by now, if the server must be told
// it again and the client has changed its parameters since: that is not what
// others mean by the same text.
func (s *session) present(p *preparedName) {
	if p.stmt.Vars() == s.believes.key || s.srv.Holds(p.stmt) {
		return
	}
	old := p.stmt
	p.stmt, _ = s.w.sessions.pools.Statements().Acquire(s.believes.key, []byte(old.Tail()), s.pool)
	s.w.sessions.pools.Statements().Release(old)
}

// renamed adds a message of n bytes that begins with head, in which to takes
// the place of a statement's name.
func (s *session) renamed(n int, head []byte, to string) {
	b := s.w.toServer.Buffer()
	start := len(b)
	b = append(b, head...)
	binary.BigEndian.PutUint32(b[start+1:], uint32(n-1))
	b = append(b, to...)
	b = append(b, 0)
	s.w.toServer.SetBuffer(b)
}

// Aborted implements backend.Holder: the server has refused or ignored a request.
func (s *session) Aborted(kind byte, undo any) {
	if st, ok := undo.(*backend.SQLStatement); ok {
		s.abortedSQL(kind, st)
		return
	}
	p := undo.(*preparedName)
	switch {
	case p == nil:
		if kind == wire.Parse {
			s.unnamed.forget()
		}
	case kind == wire.Parse && s.statement[p.name] == p:
		delete(s.statement, p.name)
		s.w.sessions.pools.Statements().Release(p.stmt)
	case kind == wire.Close && s.statement != nil && s.statement[p.name] == nil:
		s.statement[p.name] = p
	case kind == wire.Close:
		s.w.sessions.pools.Statements().Release(p.stmt)
	}
}

// Closed implements backend.Holder: a name has been forgotten for good.
func (s *session) Closed(undo any) {
	if p, _ := undo.(*preparedName); p != nil {
		s.w.sessions.pools.Statements().Release(p.stmt)
	}
}

// Deallocated implements backend.Holder.
func (s *session) Deallocated() {
	s.sql = nil
	for name, p := range s.statement {
		if int32(p.epoch-s.forgotten) <= 0 {
			s.w.sessions.pools.Statements().Release(p.stmt)
			delete(s.statement, name)
		}
	}
	if s.forgotten != s.epoch {
		s.forgotten++
	}
}
