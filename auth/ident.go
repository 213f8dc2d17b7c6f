package auth

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Ident is the content of an auth_ident_file: its maps by their names. A nil
// Ident has none.
type Ident struct {
	maps map[string]*IdentMap
}

// IdentMap says which system users, or names in certificates, may log in as
// which users.
type IdentMap struct {
	Name  string
	lines []identLine
}

type identLine struct {
	system string
	user   string
	all    bool // any user
}

// Allows reports whether somebody who is known under one of the names may log
// in as user.
func (m *IdentMap) Allows(names []string, user string) bool {
	return slices.ContainsFunc(m.lines, func(l identLine) bool {
		return (l.all || l.user == user) && slices.Contains(names, l.system)
	})
}

// LoadIdent reads the file at path with ParseIdent.
func LoadIdent(path string) (*Ident, []*LineError, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	i, bad := ParseIdent(data, path)
	return i, bad, nil
}

// ParseIdent reads PgBouncer's auth_ident_file grammar, one entry on a line:
//
//	map-name system-name user|all
//
// with names in double quotes or without, and comments from "#". Lines that it
// cannot use are left out and returned, each as an error that begins with name,
// which is the file's, and the line. That is safe: an entry can only let
// somebody in. PostgreSQL's regular expressions and groups are such lines.
func ParseIdent(data []byte, name string) (*Ident, []*LineError) {
	i := &Ident{maps: make(map[string]*IdentMap)}
	var bad []*LineError
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		if problem := i.parse(line); problem != "" {
			bad = append(bad, &LineError{File: name, Line: number, Message: problem})
		}
	}
	return i, bad
}

func (i *Ident) parse(line string) (problem string) {
	w := readWords(line)
	if w.kind == wordEnd {
		return ""
	}
	if !w.name() {
		return "expected the name of a map, found " + w.found()
	}
	mapName := w.text
	w.next()
	if !w.name() {
		return "expected the name of a system user, found " + w.found()
	}
	if w.kind == wordPlain && w.text[0] == '/' {
		return "regular expressions are not supported"
	}
	l := identLine{system: w.text}
	w.next()
	switch {
	case !w.name():
		return "expected the name of a user, found " + w.found()
	case w.is("all"):
		l.all = true
	case w.kind == wordPlain && (w.text[0] == '/' || w.text[0] == '+'):
		return "regular expressions and groups are not supported"
	default:
		l.user = w.text
	}
	w.next()
	if w.kind != wordEnd {
		return fmt.Sprintf("nothing is expected after the name of the user, found %s", w.found())
	}
	m := i.maps[mapName]
	if m == nil {
		m = &IdentMap{Name: mapName}
		i.maps[mapName] = m
	}
	m.lines = append(m.lines, l)
	return ""
}

// Map returns the map with this name, nil if there is none.
func (i *Ident) Map(name string) *IdentMap {
	if i == nil {
		return nil
	}
	return i.maps[name]
}
