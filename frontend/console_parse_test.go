package frontend

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestScanStatement(t *testing.T) {
	for _, tt := range []struct {
		sql, text, tokens, rest string
		ok                      bool
	}{
		{"", "", "", "", true},
		{" ; x", "", "", " x", true},
		{"show pools;show stats;", "show pools", "show pools", "show stats;", true},
		{"PAUSE \"a;b\"\"c\" ; x", "PAUSE \"a;b\"\"c\"", "PAUSE \"a;b\"c\"", " x", true},
		{"SET a='x;''y'", "SET a='x;''y'", "SET a = 'x;'y'", "", true},
		{"a -- ; b\nc", "a -- ; b\nc", "a c", "", true},
		{"a/*/**/;*/b", "a/*/**/;*/b", "a b", "", true},
		{"-- ping", "-- ping", "", "", true},
		{"a-b", "a-b", "a - b", "", true},
		{"a \"b", "a \"b", "", "", false},
		{"a 'b''", "a 'b''", "", "", false},
		{"a /* /* */ b", "a /* /* */ b", "", "", false},
	} {
		text, tokens, rest, ok := scanStatement(tt.sql)
		var words []string
		for _, tok := range tokens {
			quote := map[tokenKind]string{tokenQuoted: `"`, tokenLiteral: "'"}[tok.kind]
			words = append(words, quote+tok.text+quote)
		}
		if got := strings.Join(words, " "); text != tt.text || got != tt.tokens || rest != tt.rest || ok != tt.ok {
			t.Errorf("%q: %q, tokens %q, rest %q, %v", tt.sql, text, got, rest, ok)
		}
	}
}

// Whatever a client sends, it is understood or refused with a proper message,
// and what follows a semicolon is never part of what stands before.
func FuzzConsoleParse(f *testing.F) {
	for _, s := range []string{
		"SHOW POOLS;", "set a to 'b''c'; -- x\n/* /* */ */ RELOAD", "PAUSE \"a\"\"b\"", "'", "\"", "/*", "SELECT version", "\xff'\xfe", "KILL_CLIENT 1;;",
	} {
		f.Add(s)
	}
	c := &Console{commands: consoleCommands()}
	f.Fuzz(func(t *testing.T, sql string) {
		list, err := c.parse(sql)
		if err != nil {
			if !utf8.ValidString(err.Error()) || !strings.HasPrefix(err.Error(), "invalid command '") {
				t.Errorf("%q: error %q", sql, err)
			}
			return
		}
		for _, st := range list {
			if st.command == nil || !strings.Contains(sql, st.text) {
				t.Errorf("%q: statement %+v", sql, st)
			}
			again, err := c.parse(st.text)
			if err != nil || len(again) != 1 || again[0].command != st.command || again[0].arg != st.arg || again[0].value != st.value {
				t.Errorf("%q: %q alone is %+v, %v", sql, st.text, again, err)
			}
		}
	})
}
