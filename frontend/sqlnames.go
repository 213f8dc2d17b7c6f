package frontend

import (
	"slices"
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
	// maxSQLSearch is how much of a query is searched for names.
	maxSQLSearch = 4 << 10
)

// sqlNames looks at a simple query of n bytes, of which m is here, for commands
// that name prepared statements. It returns how many bytes of m are done with, 0
// for none, and whether it must see more first, or wait. Where nobody sends such
// commands, a query costs a look at its first letter.
func (s *session) sqlNames(n int, m []byte) (used int, wait bool) {
	first := firstLetter(m[wire.HeaderLen:])
	switch first {
	case 0:
		return 0, len(m) < min(n, maxSQLSearch) // nothing of it is here yet
	case 'd':
		used, wait = s.deallocate(n, m)
	case 'p':
		used, wait = s.prepareSQL(n, m)
	}
	if used > 0 || wait {
		return used, wait
	}
	if !s.need() {
		return 0, true
	}
	return 0, (first == 'e' || s.sql != nil || s.srv.HoldsSQL()) && s.executeSQL(n, m)
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
	executed, changed := namedBy(m[wire.HeaderLen:min(len(m), maxSQLSearch)])
	if !s.need() || s.srv.TxStatus() == 0 && s.await() || !s.agree(slices.Concat([]string{name}, executed, changed)...) {
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
	if len(changed) > 1 { // what stands behind this PREPARE
		s.hidden(changed[1:])
	}
	return s.begin(n, m), false
}

// executeSQL sees to it that the names in a query stand for what the client has
// prepared. It reports whether the query has to wait.
func (s *session) executeSQL(n int, m []byte) (wait bool) {
	if len(m) < min(n, maxSQLSearch) {
		return true
	}
	executed, changed := namedBy(m[wire.HeaderLen:min(len(m), maxSQLSearch)])
	if len(executed)+len(changed) == 0 {
		return false
	}
	failed := s.srv.TxStatus() == 'E' // the server refuses to change anything
	if !s.agree(append(executed, changed...)...) {
		return true
	}
	if !failed {
		s.hidden(changed)
	}
	return false
}

// hidden forgets names that a query prepares or deallocates behind something else.
// What it does to them is known to the server only: there they stand for it as
// long as the client has that server.
func (s *session) hidden(names []string) {
	for _, name := range names {
		delete(s.sql, name)
		s.srv.HiddenSQL(name)
	}
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

// namedBy returns the names behind EXECUTE in a query, and those behind PREPARE
// and DEALLOCATE, wherever that stands: in EXPLAIN, behind another command. One
// that is not meant does little harm.
func namedBy(sql []byte) (executed, changed []string) {
	for i, c := range sql {
		var word string
		switch c | 0x20 {
		case 'e':
			word = "execute"
		case 'p':
			word = "prepare"
		case 'd':
			word = "deallocate"
		default:
			continue
		}
		if i+len(word) >= len(sql) || i > 0 && inIdentifier(sql[i-1]) || !strings.EqualFold(string(sql[i:i+len(word)]), word) {
			continue
		}
		rest, ok := cutKeyword(string(sql[i:min(len(sql), i+maxDeallocate)]), word)
		if !ok {
			continue
		}
		name, ok := leadingIdentifier(rest)
		switch {
		case !ok || word == "prepare" && name == "transaction" || word == "deallocate" && name == "prepare":
		case word == "execute":
			executed = append(executed, name)
		default:
			changed = append(changed, name)
		}
	}
	return executed, changed
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
