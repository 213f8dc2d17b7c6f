package backend

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pgvalet/pgvalet/backend/wire"
)

// StatementPrefix begins the name of every statement that pgvalet prepares on
// a server.
const StatementPrefix = "PGVALET_"

// Statement is one distinct prepared statement: the text of a query and the
// types of its parameters. Clients that prepare the same share it, whatever
// they call it, and so do the servers that hold it. It is immutable but for what
// is noted of it.
type Statement struct {
	Name  string // what servers know it by
	parse string // the complete Parse message, with Name
	vars  string // see statementKey
	refs  int    // guarded by Statements.mu
	valid []any  // whose servers have accepted it; guarded by Statements.mu

	version atomic.Uint32 // what servers hold from before the last change of it is of no use
}

// retire makes every server prepare s again before its next use.
func (s *Statement) retire() { s.version.Add(1) }

// statementKey is what makes two statements the same: all of the Parse message
// behind the name, and the session parameters by which PostgreSQL understands
// it. A literal with a date means what DateStyle and TimeZone say when it is
// parsed. It is the texts themselves, so no two can be mistaken for each other.
type statementKey struct {
	vars string // Vars.Key
	tail string
}

func (s *Statement) key() statementKey { return statementKey{s.vars, s.Tail()} }

// Vars is the Key of the parameters with which clients have prepared s.
func (s *Statement) Vars() string { return s.vars }

// Tail is all of the Parse message behind the name.
func (s *Statement) Tail() string { return s.parse[wire.HeaderLen+len(s.Name)+1:] }

// Statements are all the prepared statements of the whole process.
type Statements struct {
	mu   sync.Mutex // guards the fields below and every Statement.refs
	byID map[statementKey]*Statement
	next uint64
}

// NewStatements returns an empty set.
func NewStatements() *Statements {
	return &Statements{byID: make(map[statementKey]*Statement)}
}

// Acquire returns the statement for the tail of a Parse message (query text,
// terminator, parameter types) from a client whose parameters have the given
// Key, and whether a server of the given pool has accepted it before. The caller
// must Release it once.
func (ss *Statements) Acquire(vars string, tail []byte, pool any) (s *Statement, valid bool) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s = ss.byID[statementKey{vars, string(tail)}]; s == nil {
		ss.next++
		name := StatementPrefix + strconv.FormatUint(ss.next, 10)
		var b strings.Builder
		n := wire.HeaderLen + len(name) + 1 + len(tail)
		b.Grow(n)
		var hdr [wire.HeaderLen]byte
		hdr[0] = wire.Parse
		wire.PutLen(hdr[:], n)
		b.Write(hdr[:])
		b.WriteString(name)
		b.WriteByte(0)
		b.Write(tail)
		s = &Statement{Name: name, parse: b.String(), vars: vars}
		ss.byID[s.key()] = s
	}
	s.refs++
	return s, slices.Contains(s.valid, pool)
}

// accepted notes that a server of the pool has parsed s.
func (ss *Statements) accepted(s *Statement, pool any) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if !slices.Contains(s.valid, pool) {
		s.valid = append(s.valid, pool)
	}
}

// Hold takes one more reference.
func (ss *Statements) Hold(s *Statement) {
	ss.mu.Lock()
	s.refs++
	ss.mu.Unlock()
}

// Release gives a reference back; without references the statement is
// forgotten.
func (ss *Statements) Release(s *Statement) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if s.refs--; s.refs == 0 {
		delete(ss.byID, s.key())
	}
}

// Forget drops what is known of the statements of a pool that is gone.
func (ss *Statements) Forget(pool any) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.byID {
		s.valid = slices.DeleteFunc(s.valid, func(p any) bool { return p == pool })
	}
}

// Len is the number of distinct statements.
func (ss *Statements) Len() int {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return len(ss.byID)
}

// ValidParseTail reports whether tail can stand behind the name in a Parse
// message: a terminated query and as many types as it says.
func ValidParseTail(tail []byte) bool {
	_, types, ok := wire.CString(tail)
	return ok && len(types) >= 2 && len(types) == 2+4*int(binary.BigEndian.Uint16(types))
}

// prepared is what one server holds: the statements that it has confirmed and
// those about which something is under way.
type prepared struct {
	byStmt map[*Statement]*preparedEntry // each has a reference to its statement
	newest *preparedEntry                // the list of those that the server will hold, the least recently used last
	oldest *preparedEntry
	listed int // how many are in the list
}

type preparedEntry struct {
	stmt         *Statement
	there        bool   // as far as the server has answered
	doubtful     bool   // a command that is under way may make the server forget it, or has changed what it means
	listed       bool   // it will be there, if the server does all that it has been sent
	version      uint32 // the statement's, when it was sent
	pending      int    // Parse and Close messages without an answer
	batch        uint64 // of the last of them
	newer, older *preparedEntry
}

// sent notes a Parse or Close message.
func (e *preparedEntry) sent(batch uint64) {
	e.pending++
	e.batch = batch
}

func (p *prepared) list(e *preparedEntry) {
	e.listed = true
	p.listed++
	e.older = p.newest
	if p.newest != nil {
		p.newest.newer = e
	} else {
		p.oldest = e
	}
	p.newest = e
}

func (p *prepared) unlist(e *preparedEntry) {
	e.listed = false
	p.listed--
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		p.newest = e.older
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		p.oldest = e.newer
	}
	e.newer, e.older = nil, nil
}

// has reports whether a message that is sent next, in the given batch, will
// find s on the server; it counts as a use. What depends on an earlier batch
// cannot be relied on: that may fail, and this one not.
func (p *prepared) has(s *Statement, batch uint64) bool {
	e := p.byStmt[s]
	if e == nil || !e.listed || e.doubtful || e.version != s.version.Load() || e.pending > 0 && e.batch != batch {
		return false
	}
	if p.newest != e {
		p.unlist(e)
		p.list(e)
	}
	return true
}

func (p *prepared) add(s *Statement) *preparedEntry {
	if p.byStmt == nil {
		p.byStmt = make(map[*Statement]*preparedEntry)
	}
	e := &preparedEntry{stmt: s}
	p.byStmt[s] = e
	return e
}

func (p *prepared) remove(e *preparedEntry) {
	if e.listed {
		p.unlist(e)
	}
	delete(p.byStmt, e.stmt)
}
