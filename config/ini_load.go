package config

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// parseINI reads PgBouncer's form of the configuration, in which everything
// means what it means to PgBouncer, the defaults included. It takes pgvalet's
// own settings too, which PgBouncer would refuse.
func (f *source) parseINI(c *Config, data []byte, readFile func(string) ([]byte, error)) {
	c.INI = true
	f.places = map[string]place{}
	l := &iniLoader{source: f, config: c}
	resetINI(c.table())
	r := &iniReader{
		readFile: readFile,
		section:  l.begin,
		key:      l.key,
		wrong:    func(at place, message string) { f.errs = append(f.errs, &Error{at.file, at.line, "", message}) },
	}
	r.read(f.file, data, 0)
	if !l.main {
		f.errs = append(f.errs, &Error{File: f.file, Message: "there is no section [pgbouncer]"})
	}
	for _, s := range c.table() {
		if key := (toml.Key{"pgbouncer", s.name}); f.has(key) {
			f.reviewed(key, s)
		}
	}
}

// resetINI sets PgBouncer's defaults.
func resetINI(table []setting) {
	reset(table)
	for _, s := range table {
		if s.pgbouncer == "" {
			continue
		}
		if err := s.setText(strings.Trim(s.pgbouncer, `"`)); err != nil {
			panic(fmt.Sprintf("PgBouncer's default of %s: %v", s.name, err))
		}
	}
}

// setText is set for the text of an .ini.
func (s setting) setText(text string) error {
	var v any = text
	if s.ini != nil {
		var err error
		if v, err = s.ini(text); err != nil {
			return err
		}
	}
	return s.set(v)
}

// iniLoader puts the lines of an .ini into a Config.
type iniLoader struct {
	*source
	config *Config
	main   bool   // there is a [pgbouncer]
	now    string // the section; "": none yet, or an unknown one
	known  bool   // now is not ""; or the unknown section was complained about
}

func (l *iniLoader) begin(at place, name string) {
	l.now, l.known = "", true
	switch name {
	case "databases", "users", "peers":
		l.now = name
	case "pgbouncer":
		l.now = name
		if l.main {
			// What stood in an earlier section of this name counts for nothing,
			// except where PgBouncer has no default to go back to.
			l.warn(at, "", "a second section [pgbouncer]: the settings of the first return to their defaults")
			for _, s := range l.config.table() {
				if !s.null {
					resetINI([]setting{s})
				}
			}
		}
		l.main = true
	case "pgvalet":
		l.refuseAt(at, toml.Key{name}, "is a section of TOML; in an .ini it is [pgbouncer], and a file in TOML has a name that ends in .toml")
	default:
		l.refuseAt(at, toml.Key{name}, "unknown section; there are [pgbouncer], [databases], [users] and [peers]")
	}
}

func (l *iniLoader) key(at place, name, text string) {
	key := toml.Key{l.now, name}
	if l.now != "" {
		l.places[key.String()] = at
	}
	switch l.now {
	case "pgbouncer":
		l.setting(at, key, text)
	case "databases":
		d := newDatabase(name)
		l.entry(at, key, text, d.table())
		if d.Name == "*" {
			l.config.AutoDB = d
		} else {
			l.config.Databases[d.Name] = d
		}
	case "users":
		u := newUser(name)
		l.entry(at, key, text, u.table())
		l.config.Users[u.Name] = u
	case "peers":
		id, ok := peerID(name)
		if !ok {
			l.refuseAt(at, key, badPeerID)
			return
		}
		p := newPeer(id)
		l.entry(at, key, text, p.table())
		l.config.Peers[p.ID] = p
	default:
		if !l.known {
			l.refuseAt(at, toml.Key{name}, "stands before the first section")
		}
	}
}

func (l *iniLoader) setting(at place, key toml.Key, text string) {
	table := l.config.table()
	i := slices.IndexFunc(table, func(s setting) bool { return s.name == key[1] })
	if i < 0 {
		l.refuseAt(at, key, "%s", l.unknown(key[1], table))
		return
	}
	if err := table[i].setText(text); err != nil {
		l.refuseAt(at, key, "%v", err)
	} else if table[i].path != nil {
		l.resolve(table[i])
	}
}

// entry gives what a connection string says to the settings of a table.
func (l *iniLoader) entry(at place, parent toml.Key, text string, table []setting) {
	pairs, problem := connectionString(text)
	if problem != "" {
		l.refuseAt(at, parent, "%s", problem)
		return
	}
	for _, p := range pairs {
		key := append(slices.Clone(parent), p.name)
		l.places[key.String()] = at
		i := slices.IndexFunc(table, func(s setting) bool { return s.name == p.name })
		if i < 0 {
			l.refuseAt(at, key, "%s", l.unknown(p.name, table))
			continue
		}
		if err := l.word(at, key, p.value, table[i]); err != nil {
			l.refuseAt(at, key, "%v", err)
			continue
		}
		l.reviewed(key, table[i])
	}
}

// word sets s to a value from a connection string.
func (l *iniLoader) word(at place, key toml.Key, text string, s setting) error {
	if s.ini == nil {
		return s.set(text)
	}
	n, whole, err := atoi(text)
	if err != nil {
		return err
	}
	if !whole {
		l.warn(at, l.keyName(key), fmt.Sprintf("%q is read as %d, as by PgBouncer", text, n))
	}
	_, isNumber := s.field.(*int)
	if isNumber && n < 0 && s.def() == "" || n == 0 && s.zeroInherits {
		s.reset()
		return nil
	}
	return s.set(n)
}

// refuseAt is refuse for what stands at a place that has no key of its own.
func (f *source) refuseAt(at place, key toml.Key, format string, args ...any) {
	f.refused[key.String()] = true
	f.errs = append(f.errs, &Error{at.file, at.line, f.keyName(key), fmt.Sprintf(format, args...)})
}

func (f *source) warn(at place, key, message string) {
	f.warnings = append(f.warnings, &Error{at.file, at.line, key, message})
}

const badPeerID = "a peer's name is its number, from 1 to 65535"

func peerID(name string) (id int, ok bool) {
	n, err := strconv.ParseUint(name, 10, 16)
	return int(n), err == nil && n > 0
}

// workingDir is where the relative paths of an .ini start.
func workingDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	return dir, nil
}
