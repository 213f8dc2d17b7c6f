package frontend

import (
	"strings"

	"github.com/pgvalet/pgvalet/backend/wire"
)

// maxDeallocate bounds the queries that deallocate looks at: a name has up to 63
// bytes in SQL.
const maxDeallocate = 128

// deallocate answers a simple query of n bytes, of which m is here, that is
// nothing but DEALLOCATE of a statement which the client has prepared: some
// drivers do not know Close. PostgreSQL has one space of names for both ways to
// prepare; a server may know this one by another name, and keeps it for others.
// Whatever is not certain goes to the server: another form of the command, a
// name that is not the client's, a transaction that has failed, or that may fail
// by what is still under way. It returns how many bytes of m are done with, 0
// for none, and whether it must see more first, or wait.
func (s *session) deallocate(n int, m []byte) (used int, wait bool) {
	if n > maxDeallocate {
		return 0, false
	}
	if len(m) < n {
		return 0, true
	}
	name := deallocatedBy(m[wire.HeaderLen:])
	if name == "" {
		return 0, false
	}
	tx := byte('I')
	if s.srv != nil {
		tx = s.srv.TxStatus()
	}
	p, st := s.statement[name], s.sql[name]
	switch {
	case p == nil && st == nil:
		return 0, false
	case tx != 'I' && tx != 'T':
		return 0, p == nil && s.await()
	case p != nil:
		delete(s.statement, name)
		s.Closed(p)
	default:
		delete(s.sql, name)
	}
	b := wire.AppendCommandComplete(s.w.toClient.Buffer(), "DEALLOCATE")
	s.w.toClient.SetBuffer(wire.AppendReady(b, tx))
	return n, false
}

// deallocating is deallocate for the extended protocol. The client has prepared
// the command and is about to execute it; the server is given something to
// forget by this name. "" is no name.
func (s *session) deallocating(name string) {
	if name == "" {
		return
	}
	if p := s.statement[name]; p != nil {
		delete(s.statement, name)
		s.srv.Decoy(&s.w.toServer, name, p)
	} else if st := s.sql[name]; st != nil {
		delete(s.sql, name)
		s.srv.Decoy(&s.w.toServer, name, st)
	} else {
		s.srv.NoDecoy(&s.w.toServer, name)
	}
}

// deallocatedBy returns the name if the query that b begins with is nothing but
// DEALLOCATE of one.
func deallocatedBy(b []byte) (name string) {
	if len(b) == 0 || b[0]|0x20 != 'd' {
		return ""
	}
	sql, _, ok := wire.CString(b[:min(len(b), maxDeallocate)])
	if !ok || len(sql) < len("deallocate") || !strings.EqualFold(string(sql[:len("deallocate")]), "deallocate") {
		return ""
	}
	name, _ = deallocated(string(sql))
	return name
}

// deallocated takes the text of a query apart if it is DEALLOCATE [PREPARE] name.
func deallocated(sql string) (name string, ok bool) {
	sql = strings.TrimRight(sql, sqlSpace)
	sql = strings.TrimRight(strings.TrimSuffix(sql, ";"), sqlSpace)
	rest, ok := cutKeyword(sql, "deallocate")
	if !ok {
		return "", false
	}
	if r, ok := cutKeyword(rest, "prepare"); ok {
		rest = r
	}
	return identifier(rest)
}

// sqlSpace is what PostgreSQL's scanner takes for white space.
const sqlSpace = " \t\n\r\f\v"

// cutKeyword returns what follows the keyword and the white space behind it.
func cutKeyword(sql, word string) (rest string, ok bool) {
	if len(sql) <= len(word) || !strings.EqualFold(sql[:len(word)], word) {
		return "", false
	}
	rest = strings.TrimLeft(sql[len(word):], sqlSpace)
	if rest == "" || len(rest) == len(sql)-len(word) && rest[0] != '"' {
		return "", false
	}
	return rest, true
}

// identifier returns the name that sql is, quoted or not. Names that PostgreSQL
// would cut, and those with letters that are not ASCII, are not understood.
func identifier(sql string) (name string, ok bool) {
	if quoted, ok := strings.CutPrefix(sql, `"`); ok {
		quoted, ok = strings.CutSuffix(quoted, `"`)
		name = strings.ReplaceAll(quoted, `""`, `"`)
		if !ok || strings.Count(quoted, `"`) != 2*strings.Count(name, `"`) {
			return "", false
		}
	} else {
		for i := range len(sql) {
			c := sql[i] | 0x20
			if (c < 'a' || c > 'z') && sql[i] != '_' && (i == 0 || (sql[i] < '0' || sql[i] > '9') && sql[i] != '$') {
				return "", false
			}
		}
		name = strings.ToLower(sql)
		if name == "all" || name == "prepare" {
			return "", false
		}
	}
	if name == "" || len(name) > 63 || strings.ContainsFunc(name, func(r rune) bool { return r > 0x7e || r < ' ' }) {
		return "", false
	}
	return name, true
}
