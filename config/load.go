package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Load reads the file at path: TOML if its name ends in .toml, and else
// PgBouncer's form. Everything that is wrong with it is reported at once: the
// error joins one *Error for each mistake, in the order of the file.
//
// Load opens no other file than those that an .ini includes: certificates and
// auth_file are only paths here.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse is Load of a file whose contents are known. The path is for messages,
// and for resolving relative paths.
func Parse(path string, data []byte) (*Config, error) {
	return (&source{file: path}).parse(data)
}

func (f *source) parse(data []byte) (*Config, error) {
	path := f.file
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("path of the configuration: %w", err)
	}
	f.dir, f.keys, f.refused = filepath.Dir(abs), map[string]toml.Primitive{}, map[string]bool{}
	c := &Config{Path: abs, Databases: map[string]*Database{}, Users: map[string]*User{}, Peers: map[int]*Peer{}}
	if strings.EqualFold(filepath.Ext(path), ".toml") {
		err = f.parseTOML(c, data)
	} else if f.dir, err = workingDir(); err == nil {
		f.parseINI(c, data, os.ReadFile)
	}
	if err != nil {
		return nil, err
	}
	return f.finish(c)
}

// finish completes and checks what was read.
func (f *source) finish(c *Config) (*Config, error) {
	f.complete(c)
	f.check(c)
	if len(f.errs) > 0 {
		return nil, join(f.errs)
	}
	c.Warnings = f.warnings
	slices.SortStableFunc(c.Warnings, inFileOrder)
	return c, nil
}

func (f *source) parseTOML(c *Config, data []byte) error {
	var top map[string]toml.Primitive
	var err error
	f.meta, err = toml.Decode(string(data), &top)
	if err != nil {
		return f.syntaxError(data, err)
	}
	reset(c.table())
	for _, e := range f.entries(nil, top) {
		switch e.name() {
		case "pgvalet":
			f.read(e, c.table())
		case "databases":
			for _, e := range f.children(e) {
				db := newDatabase(e.name())
				f.read(e, db.table())
				if db.Name == "*" {
					c.AutoDB = db
				} else {
					c.Databases[db.Name] = db
				}
			}
		case "users":
			for _, e := range f.children(e) {
				u := newUser(e.name())
				f.read(e, u.table())
				c.Users[u.Name] = u
			}
		case "peers":
			for _, e := range f.children(e) {
				id, ok := peerID(e.name())
				if !ok {
					f.refuse(e.key, badPeerID)
					continue
				}
				p := newPeer(id)
				f.read(e, p.table())
				c.Peers[p.ID] = p
			}
		default:
			f.unknownSection(e)
		}
	}
	return nil
}

// source is a file that is being read.
type source struct {
	file string // as given to Load
	dir  string // absolute; where relative paths start
	meta toml.MetaData

	// By full name.
	keys    map[string]toml.Primitive // every key and table that was read from TOML
	places  map[string]place          // every key that was read from an .ini; else nil
	refused map[string]bool           // there is an error about it already

	errs, warnings []*Error
}

// entry is one key or table of the file.
type entry struct {
	key       toml.Key // in full
	value     any
	primitive toml.Primitive
}

func (e entry) name() string { return e.key[len(e.key)-1] }

// entries returns the entries of a table, sorted by name.
func (f *source) entries(parent toml.Key, table map[string]toml.Primitive) []entry {
	var all []entry
	for _, name := range slices.Sorted(maps.Keys(table)) {
		e := entry{key: append(slices.Clone(parent), name), primitive: table[name]}
		f.keys[e.key.String()] = e.primitive
		if err := f.meta.PrimitiveDecode(e.primitive, &e.value); err != nil {
			f.refuse(e.key, "%v", err)
			continue
		}
		all = append(all, e)
	}
	return all
}

// children returns the entries of e, which must be a table.
func (f *source) children(e entry) []entry {
	var table map[string]toml.Primitive
	if _, ok := e.value.(map[string]any); !ok {
		f.refuse(e.key, "must be a table: [%s]", e.key)
	} else if err := f.meta.PrimitiveDecode(e.primitive, &table); err != nil {
		f.refuse(e.key, "%v", err)
	}
	return f.entries(e.key, table)
}

// has reports whether the file holds the key.
func (f *source) has(key toml.Key) bool {
	_, inTOML := f.keys[key.String()]
	_, inINI := f.places[f.keyName(key)]
	return inTOML || inINI
}

// keyName is the full name of a key as messages write it. The checks call the
// main section [pgvalet], whatever the file does.
func (f *source) keyName(key toml.Key) string {
	if f.places != nil && len(key) > 0 && key[0] == "pgvalet" {
		key = append(toml.Key{"pgbouncer"}, key[1:]...)
	}
	return key.String()
}

// refuse records what is wrong with a key, whether the file holds it or not;
// then the line is that of its table.
func (f *source) refuse(key toml.Key, format string, args ...any) {
	f.refuseAt(f.find(key), key, format, args...)
}

// doubt is refuse for what PgBouncer takes without a word: in an .ini it is only
// a warning.
func (f *source) doubt(key toml.Key, format string, args ...any) {
	if f.places == nil {
		f.refuse(key, format, args...)
		return
	}
	f.warn(f.find(key), f.keyName(key), fmt.Sprintf(format, args...))
}

// find returns where the key stands, or the table that it belongs to.
func (f *source) find(key toml.Key) place {
	for k := key; len(k) > 0; k = k[:len(k)-1] {
		if at, ok := f.places[f.keyName(k)]; ok {
			return at
		}
		if p, ok := f.keys[k.String()]; ok {
			if n := f.line(p); n > 0 {
				return place{f.file, n}
			}
		}
	}
	return place{file: f.file}
}

// locate refuses every value: the TOML package tells the position of a
// key only in the error about it.
type locate struct{}

func (*locate) UnmarshalTOML(any) error { return errors.New("only to be located") }

// line returns the line of a key or table, and 0 if it has none. A table that
// only the keys in it make, such as a in [a.b], is where the first of them is.
func (f *source) line(p toml.Primitive) int {
	var at toml.ParseError
	var table map[string]toml.Primitive
	errors.As(f.meta.PrimitiveDecode(p, &locate{}), &at)
	first := at.Position.Line
	if first > 0 || f.meta.PrimitiveDecode(p, &table) != nil {
		return first
	}
	for _, inner := range table {
		if n := f.line(inner); n > 0 && (first == 0 || n < first) {
			first = n
		}
	}
	return first
}

// read gives the values of section e to the settings of its table.
func (f *source) read(e entry, table []setting) {
	for _, e := range f.children(e) {
		i := slices.IndexFunc(table, func(s setting) bool { return s.name == e.name() })
		if i < 0 {
			f.unknownKey(e, table)
			continue
		}
		if err := table[i].set(e.value); err != nil {
			f.refuse(e.key, "%v", err)
			continue
		}
		if table[i].path != nil {
			f.resolve(table[i])
		}
		f.reviewed(e.key, table[i])
	}
}

// reviewed says if the value that the file gives s has no effect.
func (f *source) reviewed(key toml.Key, s setting) {
	if s.noEffect != "" && s.get() != s.def() {
		f.warn(f.find(key), f.keyName(key), "has no effect: "+s.noEffect)
	}
}

// resolve makes a path absolute, and leaves alone what is none: nothing, the
// system's certificates, a socket in the abstract namespace.
func (f *source) resolve(s setting) {
	p := *s.path
	if p == "" || filepath.IsAbs(p) ||
		s.name == "server_tls_ca_file" && p == SystemCAs ||
		s.name == "unix_socket_dir" && p[0] == '@' {
		return
	}
	*s.path = filepath.Join(f.dir, p)
}

func (f *source) unknownSection(e entry) {
	switch {
	case e.name() == "pgbouncer":
		f.refuse(e.key, "unknown section; in TOML it is [pgvalet]")
	case slices.Contains(names((&Settings{}).table()), e.name()):
		f.refuse(e.key, "belongs in section [pgvalet]")
	default:
		f.refuse(e.key, "unknown section; there are [pgvalet], [databases.NAME], [users.NAME] and [peers.ID]")
	}
}

// unknownKey says as well as it can what was meant.
func (f *source) unknownKey(e entry, table []setting) {
	f.refuse(e.key, "%s", f.unknown(e.name(), table))
}

// unknown says what may be wrong with a name that is not in the table.
func (f *source) unknown(name string, table []setting) string {
	// What is right in another section is no typing error.
	for _, other := range []struct {
		toml, ini string
		table     []setting
	}{
		{"pgvalet", "pgbouncer", (&Settings{}).table()},
		{"databases.NAME", "databases", (&Database{}).table()},
		{"users.NAME", "users", (&User{}).table()},
		{"peers.ID", "peers", (&Peer{}).table()},
	} {
		if !slices.Contains(names(other.table), name) {
			continue
		}
		if f.places != nil {
			return "unknown key here; it belongs in [" + other.ini + "]"
		}
		return "unknown key here; it belongs in [" + other.toml + "]"
	}
	if n := nearest(name, names(table)); n != "" {
		return "unknown key; did you mean " + n + "?"
	}
	return "unknown key"
}

func names(table []setting) []string {
	all := make([]string, len(table))
	for i, s := range table {
		all[i] = s.name
	}
	return all
}

// syntaxError is the error for what is not TOML, or says one thing twice. A
// line with a password, or a mistyped one, is not repeated.
func (f *source) syntaxError(data []byte, err error) error {
	var pe toml.ParseError
	if !errors.As(err, &pe) {
		return &Error{File: f.file, Message: err.Error()}
	}
	e := &Error{File: f.file, Line: pe.Position.Line, Message: pe.Message}
	lines := strings.Split(string(data), "\n")
	if n := pe.Position.Line; n > 0 && n <= len(lines) && strings.Contains(strings.ToLower(lines[n-1]), "pass") {
		e.Message = "invalid TOML, not repeated here because the line holds a password"
	}
	return e
}

// Entries returns the entries of [databases], "*" too, in the order of their names.
func (c *Config) Entries() []*Database {
	all := slices.Collect(maps.Values(c.Databases))
	if c.AutoDB != nil {
		all = append(all, c.AutoDB)
	}
	slices.SortFunc(all, func(a, b *Database) int { return strings.Compare(a.Name, b.Name) })
	return all
}
