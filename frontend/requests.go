package frontend

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// requests takes the client's messages in data to the server, as far as they go
// now, and returns the rest.
func (s *session) requests(data []byte) []byte {
	for len(data) > 0 && s.state == sessionOpen {
		if s.left > 0 {
			n := min(s.left, len(data))
			s.carry(data[:n])
			data = data[n:]
			continue
		}
		typ, n, ok := wire.Header(data)
		if !ok {
			break
		}
		if n < wire.HeaderLen || n > s.limits.maxPacket {
			s.fatal(badPacket(typ, n, s.limits.maxPacket))
			return nil
		}
		m := data[:min(n, len(data))]
		var used int
		if s.skip != skipNothing {
			used = s.skipRequest(typ, n, m)
		} else {
			used = s.request(typ, n, m)
		}
		if used == 0 {
			break
		}
		data = data[used:]
	}
	s.unnamed.keep()
	return data
}

// carry takes bytes of a message whose header has been dealt with.
func (s *session) carry(p []byte) {
	s.left -= len(p)
	if s.leftDrop {
		return
	}
	s.w.toServer.Add(p)
	s.unnamed.carry(p, s.left)
	s.srv.SetSendLeft(s.left)
	if s.left == 0 && s.srv.Outstanding() == 0 {
		// The server was done before the message was: the end of a COPY that
		// has failed. Settle decides again.
		s.flush()
		s.Settle()
	}
}

// begin carries a message of n bytes, of which m is here.
func (s *session) begin(n int, m []byte) int {
	s.left, s.leftDrop = n-len(m), false
	s.w.toServer.Add(m)
	s.srv.SetSendLeft(s.left)
	return len(m)
}

// drop reads past a message of n bytes, of which m is here.
func (s *session) drop(n int, m []byte) int {
	s.left, s.leftDrop = n-len(m), true
	return len(m)
}

// request deals with one message of n bytes, of which m is here. It returns how
// many bytes of m it is done with: 0 if it must see more of it, or has to wait,
// or has ended the session.
func (s *session) request(typ byte, n int, m []byte) int {
	switch typ {
	case wire.Query:
		if !s.need() {
			return 0
		}
		s.asking()
		s.forgetting(m[wire.HeaderLen:])
		s.srv.Expect(wire.Query)
		return s.begin(n, m)
	case wire.Parse:
		return s.parse(n, m)
	case wire.Bind:
		return s.bind(n, m)
	case wire.Describe, wire.Close:
		return s.describeOrClose(typ, n, m)
	case wire.Execute, wire.FunctionCall:
		if !s.need() {
			return 0
		}
		s.asking()
		s.srv.Expect(typ)
		return s.begin(n, m)
	case wire.Sync:
		if s.srv == nil { // nothing to wait for
			s.w.toClient.Add(wire.MsgReadyIdle)
			return s.drop(n, m)
		}
		s.asking()
		s.unnamed.synced()
		s.srv.Expect(wire.Sync)
		return s.begin(n, m)
	case wire.Flush:
		if s.srv == nil {
			return s.drop(n, m)
		}
		return s.begin(n, m)
	case wire.CopyData:
		if s.srv == nil { // late: the COPY has failed
			return s.drop(n, m)
		}
		return s.begin(n, m)
	case wire.CopyDone, wire.CopyFail:
		if s.srv == nil {
			return s.drop(n, m)
		}
		s.srv.Expect(typ)
		return s.begin(n, m)
	case wire.Terminate:
		s.goodbye = true
		s.flush()
		s.end("client close request")
		return 0
	}
	s.fatal(unknownPacket(typ))
	return 0
}

// asking notes when a query begins, for the statistics and query_timeout.
func (s *session) asking() {
	if s.srv.TxStatus() != 0 {
		s.requestAt = s.w.now()
		if s.srv.TxStatus() == 'I' {
			s.xactAt = s.requestAt
		}
	}
}

// preparedName is a client's name for a statement.
type preparedName struct {
	name  string
	stmt  *backend.Statement
	epoch int // how many commands that forget names had been sent before it
}

// forgetting looks for a query that makes the server forget its prepared
// statements. What the client prepares behind it is not to be forgotten when
// the command completes, nor to be taken for known by the server.
func (s *session) forgetting(sql []byte) {
	sql = bytes.TrimLeft(sql, " \t\r\n")
	for _, word := range [...]string{"discard", "deallocate"} {
		if len(sql) > len(word) && (sql[0]|0x20) == 'd' && strings.EqualFold(string(sql[:len(word)]), word) {
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
	if len(name) == 0 || !s.tracking {
		if !s.need() {
			return 0
		}
		s.asking()
		s.stats.ClientParses++
		s.forgetting(tail)
		if len(name) == 0 && s.sharing() {
			if s.unnamed == nil {
				s.unnamed = new(unnamedStatement)
			}
			s.unnamed.parsed(n, m)
			s.unnamed.number = s.w.sessions.unnamed.Add(1)
			s.srv.ParseUnnamed(s.unnamed.number, (*preparedName)(nil))
		} else {
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
	p := &preparedName{string(name), stmt, s.epoch}
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
	s.stats.Binds++
	to, rewrite := s.serverName(name)
	s.srv.Expect(wire.Bind)
	if len(name) == 0 {
		s.unnamed.bound()
	}
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
	if typ == wire.Close && body[0] == 'S' && s.tracking {
		if p := s.statement[string(name)]; p != nil {
			return s.closeStatement(p, n)
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
		to, rewrite := s.serverName(name)
		s.srv.Expect(typ)
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
		s.srv.Expect(typ)
	}
	return s.begin(n, m)
}

// closeStatement forgets a client's name. The server keeps the statement: others
// may use it.
func (s *session) closeStatement(p *preparedName, n int) int {
	if p != nil {
		delete(s.statement, p.name)
	}
	if s.srv == nil {
		s.Closed(p)
		s.w.toClient.Add(wire.MsgCloseComplete)
		return n
	}
	s.asking()
	s.srv.CloseLocal(p)
	return n
}

// serverName returns what the server calls the statement that the client calls
// name, and whether that is something else. The server will hold it by the time
// it is asked for it.
func (s *session) serverName(name []byte) (to string, rewrite bool) {
	if len(name) == 0 {
		return s.unnamedName()
	}
	if !s.tracking {
		return "", false
	}
	if p := s.statement[string(name)]; p != nil {
		s.srv.Ensure(&s.w.toServer, p.stmt)
		return p.stmt.Name, true
	}
	// The server says that there is no such statement, unless the client
	// prepared it by SQL. It must not reach somebody else's by guessing.
	if bytes.HasPrefix(name, []byte(backend.StatementPrefix)) {
		return strings.ToLower(string(name)), true
	}
	return "", false
}

// unnamedName is serverName for the unnamed statement, of which a server has
// only one: it may be another client's.
func (s *session) unnamedName() (to string, rewrite bool) {
	if !s.sharing() {
		return "", false
	}
	if u := s.unnamed; u != nil {
		if s.srv.HasUnnamed(u.number) {
			return "", false
		}
		u.keep()
		if len(u.kept) > 0 {
			s.srv.InjectUnnamed(&s.w.toServer, u.kept, u.number)
			return "", false
		}
	}
	return "unnamed statement of an earlier transaction", true // does not exist: 26000
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

// Aborted implements backend.Holder: the server has ignored a request.
func (s *session) Aborted(kind byte, undo any) {
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
	if p := undo.(*preparedName); p != nil {
		s.w.sessions.pools.Statements().Release(p.stmt)
	}
}

// Deallocated implements backend.Holder.
func (s *session) Deallocated() {
	for name, p := range s.statement {
		if p.epoch <= s.forgotten {
			s.w.sessions.pools.Statements().Release(p.stmt)
			delete(s.statement, name)
		}
	}
	s.forgotten = min(s.forgotten+1, s.epoch)
}

// unnamedStatement is what is known of the client's unnamed statement. Some
// drivers prepare it in one transaction and use it in the next, when another
// server may have the client: then its Parse message is needed again. Most use
// it at once, and nothing is copied. A client that has never prepared one has
// none, and what follows may be called all the same.
type unnamedStatement struct {
	number  uint64 // what servers that hold it know it by; 0: there is none
	seen    []byte // the Parse message, in the buffer that is being read; nil once it has been used
	kept    []byte // a copy
	copying bool   // the message is longer than a buffer: carry adds to kept
	long    bool   // … and nothing has used the statement in the batch of its Parse
}

// parsed notes a Parse message of n bytes, of which m is here.
func (u *unnamedStatement) parsed(n int, m []byte) {
	if cap(u.kept) > maxQueued {
		u.kept = nil
	}
	u.kept = u.kept[:0]
	u.seen, u.copying, u.long = m, false, false
	if len(m) < n {
		u.kept = append(u.kept, m...)
		u.seen, u.copying, u.long = nil, true, true
	}
}

// bound notes that a Bind has used the statement: at once, in the batch of its
// Parse, it is most likely the only one.
func (u *unnamedStatement) bound() {
	if u == nil {
		return
	}
	u.seen = nil
	if u.long {
		u.kept, u.long = nil, false
	}
}

// synced notes the end of a batch.
func (u *unnamedStatement) synced() {
	if u != nil {
		u.long = false
	}
}

// forget notes that there is no unnamed statement any more.
func (u *unnamedStatement) forget() {
	if u != nil {
		*u = unnamedStatement{}
	}
}

// carry takes more bytes of the message at hand, of which left are to come.
func (u *unnamedStatement) carry(p []byte, left int) {
	if u != nil && u.copying {
		u.kept = append(u.kept, p...)
		u.copying = left > 0
	}
}

// keep copies the message, if nothing has used it, before the buffer goes.
func (u *unnamedStatement) keep() {
	if u != nil && u.seen != nil {
		u.kept = append(u.kept[:0], u.seen...)
		u.seen = nil
	}
}
