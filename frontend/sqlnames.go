package frontend

import (
	"strings"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// This file is the statements that clients prepare by SQL. PREPARE goes to the
// server as it is, under the client's own name, and is remembered; before an
// EXECUTE the server is told again what the name stands for, if it holds
// something else by it, or nothing.

const (
	// maxSQLStatement bounds the PREPARE commands that are remembered.
	maxSQLStatement = 64 << 10
	// maxSQLSearch is how much of a query is searched for EXECUTE.
	maxSQLSearch = 4 << 10
)

// sqlNames looks at a simple query of n bytes, of which m is here, for commands
// that name prepared statements. It returns how many bytes of m are done with, 0
// for none, and whether it must see more first, or wait. Clients that send no
// such command pay for a look at the first letter.
func (s *session) sqlNames(n int, m []byte) (used int, wait bool) {
	switch firstLetter(m[wire.HeaderLen:]) {
	case 0:
		return 0, len(m) < min(n, maxSQLSearch) // nothing of it is here yet
	case 'd':
		return s.deallocate(n, m)
	case 'p':
		return s.prepareSQL(n, m)
	case 'e':
		return 0, s.executeSQL(n, m)
	}
	return 0, s.sql != nil && s.executeSQL(n, m)
}

// firstLetter returns what the query begins with, behind white space, in lower
// case.
func firstLetter(sql []byte) byte {
	for _, c := range sql {
		if c > ' ' {
			return c | 0x20
		}
	}
	return 0
}

// prepareSQL takes a PREPARE command to the server, and remembers it.
func (s *session) prepareSQL(n int, m []byte) (used int, wait bool) {
	if len(m) < min(n, maxSQLStatement) {
		return 0, true
	}
	sql, whole := strings.CutSuffix(string(m[wire.HeaderLen:]), "\x00")
	name := preparedBy(sql)
	if name == "" {
		return 0, false
	}
	if !s.need() || s.srv.TxStatus() == 0 && s.await() || !s.agree(name) {
		return 0, true
	}
	s.asking()
	if whole && n <= maxSQLStatement && s.sql[name] == nil && len(s.sql) < s.w.sessions.config().MaxPreparedStatements {
		st := &backend.SQLStatement{Name: name, Vars: s.believes.key, Text: sql}
		if s.sql == nil {
			s.sql = make(map[string]*backend.SQLStatement)
		}
		s.sql[name] = st
		s.srv.ExpectSQL(st)
	} else {
		s.srv.Expect(wire.Query)
	}
	return s.begin(n, m), false
}

// executeSQL sees to it that the names which a query executes stand for what the
// client has prepared. It reports whether the query has to wait.
func (s *session) executeSQL(n int, m []byte) (wait bool) {
	if len(m) < min(n, maxSQLSearch) {
		return true
	}
	names := executedBy(m[wire.HeaderLen:min(len(m), maxSQLSearch)])
	return len(names) > 0 && (!s.need() || !s.agree(names...))
}

// agree has the server know the names as the client does. It reports false while
// that has to wait for answers. In the middle of a batch, where no answer comes
// by itself, the server knows nothing by them rather than what is another's.
func (s *session) agree(names ...string) bool {
	known := true
	for _, name := range names {
		known = known && s.srv.KnowsSQL(name, s.sql[name])
	}
	if known {
		return true
	}
	if s.srv.TxStatus() == 0 {
		if s.await() {
			return false
		}
		for _, name := range names {
			if !s.srv.KnowsSQL(name, s.sql[name]) {
				s.srv.NoDecoy(&s.w.toServer, name)
			}
		}
		return true
	}
	s.asking()
	for _, name := range names { // those that are known, too: they might be the ones to make room
		st := s.sql[name]
		if st != nil && st.Vars != s.believes.key {
			// The client has changed its parameters since. That is not what
			// others mean by the same text.
			now := *st
			now.Vars, st = s.believes.key, &now
		}
		s.srv.NameSQL(&s.w.toServer, name, st)
	}
	return true
}

// await has the message at hand looked at again when the server owes nothing. It
// reports false if that does not come by itself.
func (s *session) await() bool {
	if !s.srv.Between() {
		return false
	}
	s.state = sessionSyncing
	return true
}

// abortedSQL is Aborted for a statement that was prepared by SQL.
func (s *session) abortedSQL(kind byte, st *backend.SQLStatement) {
	switch {
	case kind == wire.Query && s.sql[st.Name] == st:
		delete(s.sql, st.Name)
	case kind == wire.Close && s.sql != nil && s.sql[st.Name] == nil:
		s.sql[st.Name] = st
	}
}

// preparedBy returns the name if the query begins with PREPARE name.
func preparedBy(sql string) (name string) {
	rest, ok := cutKeyword(strings.TrimLeft(sql, sqlSpace), "prepare")
	if !ok {
		return ""
	}
	name, ok = leadingIdentifier(rest)
	if !ok || name == "transaction" { // which begins the other PREPARE
		return ""
	}
	return name
}

// executedBy returns the names behind EXECUTE in a query, wherever it stands: in
// EXPLAIN, behind another command. One that is not meant does no harm.
func executedBy(sql []byte) (names []string) {
	const word = "execute"
	for i := 0; i+len(word) < len(sql); i++ {
		if sql[i]|0x20 != 'e' || i > 0 && inIdentifier(sql[i-1]) || !strings.EqualFold(string(sql[i:i+len(word)]), word) {
			continue
		}
		if rest, ok := cutKeyword(string(sql[i:min(len(sql), i+maxDeallocate)]), word); ok {
			if name, ok := leadingIdentifier(rest); ok {
				names = append(names, name)
			}
		}
	}
	return names
}

// leadingIdentifier returns the name that sql begins with.
func leadingIdentifier(sql string) (name string, ok bool) {
	end := 0
	if strings.HasPrefix(sql, `"`) {
		for end = 1; end < len(sql); end++ {
			if sql[end] != '"' {
				continue
			}
			if end++; end == len(sql) || sql[end] != '"' {
				break
			}
		}
	} else {
		for end < len(sql) && inIdentifier(sql[end]) {
			end++
		}
	}
	return identifier(sql[:end])
}

// inIdentifier reports whether c may be a part of a name that is not quoted.
func inIdentifier(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c >= 0x80
}
