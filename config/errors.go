package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Error is one thing that is wrong with a configuration file, or odd about it.
type Error struct {
	File    string // the path as it was given to Load, or included by an .ini
	Line    int    // 0: the file does not say what is wrong in any one line
	Key     string // in full, as TOML writes it: databases.app.port; empty: the file as a whole
	Message string
}

// oneLine keeps what is quoted from the file from ending the line.
var oneLine = strings.NewReplacer("\n", `\n`, "\r", `\r`)

// Error returns "file:line: key: message" on one line, without the parts that
// are unknown.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if e.Key != "" {
		b.WriteString(": " + e.Key)
	}
	b.WriteString(": " + oneLine.Replace(e.Message))
	return b.String()
}

// join puts errs in the order of the file, those without a line last.
func join(errs []*Error) error {
	slices.SortStableFunc(errs, inFileOrder)
	all := make([]error, len(errs))
	for i, e := range errs {
		all[i] = e
	}
	return errors.Join(all...)
}

// inFileOrder compares the files of two errors and then the lines, none being
// the last.
func inFileOrder(a, b *Error) int {
	// As unsigned numbers, 0-1 is the largest.
	return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(uint(a.Line)-1, uint(b.Line)-1))
}
