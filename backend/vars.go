package backend

import (
	"encoding/binary"
	"slices"
	"strconv"
	"strings"

	"github.com/pgvalet/pgvalet/backend/wire"
)

// Tracked are the session parameters that are carried from a client to
// whichever server it gets: the ones every server reports when they change.
// Immutable.
type Tracked struct {
	names []string // as the server spells them, or as configured
}

// alwaysTracked are the parameters that PgBouncer always tracks.
var alwaysTracked = [...]string{"client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"}

// applicationName is the position of a parameter that changes no query.
const applicationName = 4

// keywordVars is how many of alwaysTracked, from the first, have values that
// PostgreSQL understands in any case.
const keywordVars = 4

// NewTracked returns the usual parameters and extra ones
// (track_extra_parameters).
func NewTracked(extra []string) *Tracked {
	t := &Tracked{names: slices.Clip(alwaysTracked[:])}
	for _, e := range extra {
		if t.Index(e) < 0 {
			t.names = append(t.names, e)
		}
	}
	return t
}

// Index returns the position of a parameter, -1 if it is not tracked. Names
// are compared without case, as PostgreSQL does.
func (t *Tracked) Index(name string) int {
	for i, n := range t.names {
		if strings.EqualFold(n, name) {
			return i
		}
	}
	return -1
}

// Names are the tracked parameters; not to be changed.
func (t *Tracked) Names() []string { return t.names }

// Vars are the values of the tracked parameters, by position.
type Vars []Var

// Var is the value of one tracked parameter.
type Var struct {
	Value string
	Known bool
}

// Set notes the value of a parameter; it reports whether it is tracked.
func (v Vars) Set(t *Tracked, name, value string) bool {
	i := t.Index(name)
	if i < 0 {
		return false
	}
	v[i] = Var{value, true}
	return true
}

// Differ reports whether a server with the values of v must be told something
// before a client that expects want can use it.
func (v Vars) Differ(want Vars) bool {
	for i := range want {
		if want[i].Known && !sameVar(i, v[i], want[i]) {
			return true
		}
	}
	return false
}

// sameVar compares two values of parameter i. Those of the server's own
// keywords are compared without case ('utf8' and 'UTF8' are one encoding);
// names that users give are what they are.
func sameVar(i int, a, b Var) bool {
	return a.Known == b.Known && (a.Value == b.Value || i < keywordVars && strings.EqualFold(a.Value, b.Value))
}

// setSize is enough for a parameter or two.
const setSize = 256

// appendSet appends the messages that turn the values of v into those of want:
// Parse, Bind, Execute and Sync of one query. Values travel as parameters, so
// that no encoding can make them mean anything else, and set_config takes every
// kind of parameter, lists too, in the form in which servers report them.
func (v Vars) appendSet(dst []byte, t *Tracked, want Vars) []byte {
	dst = slices.Grow(dst, setSize)
	start := len(dst)
	dst = append(dst, wire.Parse, 0, 0, 0, 0, 0)
	sep, n := "select ", 0
	for i := range want {
		if want[i].Known && !sameVar(i, v[i], want[i]) {
			dst = append(dst, sep...)
			dst = append(dst, "pg_catalog.set_config($"...)
			dst = strconv.AppendInt(dst, int64(n+1), 10)
			dst = append(dst, ",$"...)
			dst = strconv.AppendInt(dst, int64(n+2), 10)
			dst = append(dst, ",false)"...)
			sep = ","
			n += 2
		}
	}
	dst = append(dst, 0, 0, 0)
	wire.PutLen(dst[start:], len(dst)-start)

	start = len(dst)
	dst = append(dst, wire.Bind, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	for i := range want {
		if want[i].Known && !sameVar(i, v[i], want[i]) {
			for _, s := range [...]string{t.names[i], want[i].Value} {
				dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
				dst = append(dst, s...)
			}
		}
	}
	dst = append(dst, 0, 0)
	wire.PutLen(dst[start:], len(dst)-start)

	dst = append(dst, wire.Execute, 0, 0, 0, 9, 0, 0, 0, 0, 0)
	return append(dst, wire.MsgSync...)
}

// SetText is what SetVars asks for, as PgBouncer puts it in its log.
func (v Vars) SetText(t *Tracked, want Vars) string {
	var b strings.Builder
	for i := range want {
		if want[i].Known && !sameVar(i, v[i], want[i]) {
			b.WriteString("SET " + t.names[i] + "='" + strings.ReplaceAll(want[i].Value, "'", "''") + "';")
		}
	}
	return b.String()
}

// Learn returns v with what o knows, and whether that is news; if it is not, the
// result is v itself, else a copy. What a server does not report stays as the
// client has set it.
func (v Vars) Learn(o Vars) (learned Vars, news bool) {
	for i := range o {
		if o[i].Known && v[i] != o[i] {
			if !news {
				v, news = slices.Clone(v), true
			}
			v[i] = o[i]
		}
	}
	return v, news
}

// Key stands for the values that a query's meaning may depend on.
func (v Vars) Key() string {
	var b strings.Builder
	for i := range v {
		if i != applicationName {
			b.WriteString(v[i].Value)
			b.WriteByte(0)
		}
	}
	return b.String()
}
