package auth

import (
	"fmt"
	"strings"
)

// LineError is what is wrong with one line of an HBA or ident file.
type LineError struct {
	File    string
	Line    int
	Message string

	// Rejects tells that the line seems to keep somebody out. To ignore it
	// would let them in.
	Rejects bool
}

// Error returns "file:line: message".
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message) }

// wordKind is what a line of an HBA or ident file is made of.
type wordKind uint8

const (
	wordEnd   wordKind = iota // of the line, or the beginning of a comment
	wordPlain                 // may be a keyword
	wordQuoted
	wordComma
	wordBroken // a quote that nothing closes
)

// words reads a line word by word. Words end at white space, and at "#", a
// comma or a double quote, which mean something only outside of quotes; a quote
// inside quotes is doubled.
type words struct {
	kind wordKind // of the word that was read last
	text string
	rest string // what stands behind it
}

func readWords(line string) *words {
	w := &words{rest: line}
	w.next()
	return w
}

const blanks = " \t\r\n\v\f"

func (w *words) next() {
	s := strings.TrimLeft(w.rest, blanks)
	w.text = ""
	switch {
	case s == "" || s[0] == '#':
		w.kind, w.rest = wordEnd, ""
	case s[0] == ',':
		w.kind, w.rest = wordComma, s[1:]
	case s[0] == '"':
		text, rest, ok := unquote(s[1:])
		if !ok {
			w.kind, w.rest = wordBroken, ""
			return
		}
		w.kind, w.text, w.rest = wordQuoted, text, rest
	default:
		end := strings.IndexAny(s, blanks+`,#"`)
		if end < 0 {
			end = len(s)
		}
		w.kind, w.text, w.rest = wordPlain, s[:end], s[end:]
	}
}

// is reports whether the word is a keyword, which stands without quotes.
func (w *words) is(keyword string) bool { return w.kind == wordPlain && w.text == keyword }

// name reports whether the word can be a name.
func (w *words) name() bool {
	return (w.kind == wordPlain || w.kind == wordQuoted) && w.text != ""
}

// found says what there is where something else was expected.
func (w *words) found() string {
	switch w.kind {
	case wordEnd:
		return "the end of the line"
	case wordComma:
		return "a comma"
	case wordBroken:
		return "a quote that nothing closes"
	}
	return fmt.Sprintf("%q", w.text)
}
