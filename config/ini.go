package config

import (
	"fmt"
	"strings"
)

// place is where something stands in a file.
type place struct {
	file string // as it was given to Load, or to %include
	line int
}

// iniReader walks through an .ini file and the files that it includes, in the
// grammar of PgBouncer: one key or [section] after another, a value is the rest
// of its line, and a line that begins with ; or # is a comment. What is wrong is
// reported, and the rest of that line skipped.
type iniReader struct {
	readFile func(string) ([]byte, error)
	section  func(at place, name string)
	key      func(at place, name, value string)
	wrong    func(at place, message string)
	tooDeep  bool // an include was one too many: nothing more is read
}

// maxIncludes is how deep files may include each other.
const maxIncludes = 10

// cSpaces is what isspace() holds for white space, beside the end of the line.
const cSpaces = " \t\v\f\r"

func (r *iniReader) read(file string, data []byte, depth int) {
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		at := place{file, number}
		line = strings.TrimSuffix(line, "\n")
		if strings.ContainsRune(line, 0) {
			r.wrong(at, "a NUL byte")
			continue
		}
		for line != "" && !r.tooDeep {
			line = r.item(at, strings.TrimLeft(line, cSpaces), depth)
		}
	}
}

// item reads what line, which does not begin with white space, begins with, and
// returns the rest of it.
func (r *iniReader) item(at place, line string, depth int) (rest string) {
	if name, ok := strings.CutPrefix(line, "%include"); ok && strings.TrimLeft(name, " \t") != name {
		r.include(at, strings.Trim(name, cSpaces), depth)
		return ""
	}
	switch {
	case line == "" || line[0] == '#' || line[0] == ';':
		return ""
	case line[0] == '[':
		name, rest, ok := strings.Cut(line[1:], "]")
		if !ok {
			r.wrong(at, "syntax error: a section without its ]")
			return ""
		}
		r.section(at, name)
		return rest
	}
	name, rest, problem := iniKey(line)
	if problem != "" {
		r.wrong(at, "syntax error: "+problem)
		return ""
	}
	r.key(at, name, strings.TrimLeft(strings.TrimRight(rest, cSpaces), " \t"))
	return ""
}

// iniKey splits "key = value" behind the equals sign.
func iniKey(line string) (name, rest, problem string) {
	if line[0] == '\'' {
		var ok bool
		if name, rest, ok = strings.Cut(line[1:], "'"); !ok {
			return "", "", "a name without its second '"
		}
	} else {
		n := 0
		for n < len(line) && isKeyByte(line[n]) {
			n++
		}
		name, rest = line[:n], line[n:]
	}
	rest = strings.TrimLeft(rest, " \t")
	switch {
	case name == "" && line[0] == '"':
		return "", "", "a name with special characters stands in single quotes"
	case name == "":
		return "", "", "expected a name, such as key = value"
	case rest == "" || rest[0] != '=':
		return "", "", "expected = behind the name"
	}
	return name, rest[1:], ""
}

func isKeyByte(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || strings.IndexByte("_.-*", c) >= 0
}

// include reads another file, whose name starts from the working directory.
func (r *iniReader) include(at place, file string, depth int) {
	if depth >= maxIncludes {
		r.tooDeep = true
		r.wrong(at, "include nesting level too deep")
		return
	}
	data, err := r.readFile(file)
	if err != nil {
		r.wrong(at, fmt.Sprintf("%%include: %v", err))
		return
	}
	r.read(file, data, depth+1)
}

// pair is one key=value of a connection string.
type pair struct{ name, value string }

// connectionString splits PgBouncer's connection strings: pairs with spaces
// between them, values with spaces in single quotes, and quotes in those doubled.
// The value after "name=" is the next word even if there is a space before it.
func connectionString(s string) (pairs []pair, problem string) {
	for {
		s = strings.TrimLeft(s, " ")
		if s == "" {
			return pairs, ""
		}
		n := strings.IndexAny(s, "= ")
		if n <= 0 {
			return nil, "expected name=value in the connection string"
		}
		name, rest := s[:n], strings.TrimLeft(s[n:], " ")
		rest, ok := strings.CutPrefix(rest, "=")
		if !ok {
			return nil, "expected = behind a name in the connection string"
		}
		rest = strings.TrimLeft(rest, " ")
		var value string
		if quoted, ok := strings.CutPrefix(rest, "'"); ok {
			if value, s, ok = unquoteSingle(quoted); !ok {
				return nil, "a value in the connection string has no second '"
			}
			if s != "" {
				s = s[1:] // whatever it is
			}
		} else {
			value, s, _ = strings.Cut(rest, " ")
		}
		if value == "" {
			return nil, "the connection string gives " + name + " no value"
		}
		pairs = append(pairs, pair{name, value})
	}
}

// unquoteSingle takes what follows an opening quote and returns the text up to
// the closing one, and what stands behind that.
func unquoteSingle(s string) (text, rest string, ok bool) {
	for i := 0; i < len(s); i++ {
		if s[i] != '\'' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			i++
			continue
		}
		return strings.ReplaceAll(s[:i], "''", "'"), s[i+1:], true
	}
	return "", "", false
}
