package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every setting of PgBouncer is in the tables, every other one says what it is,
// and docs/compatibility.md shows them all.
func TestCompatibility(t *testing.T) {
	tables := map[string][]setting{
		"pgbouncer": new(Settings).table(), "databases": new(Database).table(), "users": new(User).table(), "peers": new(Peer).table(),
	}
	mentioned := map[string]bool{}
	for section, table := range tables {
		theirs := pgbouncerEntries[section]
		if section == "pgbouncer" {
			theirs = pgbouncerSettings
		}
		for _, name := range theirs {
			if !slices.Contains(names(table), name) {
				t.Errorf("[%s]: %s of PgBouncer is missing", section, name)
			}
		}
		for _, s := range table {
			mentioned[s.name] = true
			if ours := strings.HasPrefix(compared[s.name], "pgvalet's own: "); ours == slices.Contains(theirs, s.name) {
				t.Errorf("[%s]: %s is compared as %q, which is wrong", section, s.name, compared[s.name])
			}
		}
	}
	for name := range compared {
		if !mentioned[name] {
			t.Errorf("%s is no setting", name)
		}
	}

	const path = "../docs/compatibility.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	console, err := os.ReadFile("../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	want, err := Compatibility(page, console)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, path, string(want))

	known := strings.Join(slices.Concat(pgbouncerCommands, ownCommands), ",") + ","
	for row := range strings.Lines(string(console)) {
		command, ok := strings.CutPrefix(row, "| `")
		if !ok || command == strings.ToLower(command) {
			continue
		}
		command, _, _ = strings.Cut(command, "`")
		for len(command) > 0 && !strings.Contains(known, command+",") {
			command = command[:max(0, strings.LastIndexByte(command, ' '))]
		}
		if command == "" {
			t.Errorf("a command of the console is not compared: %s", row)
		}
	}
}

// TestBehaviour: each row about behaviour in docs/compatibility.md names the tests
// that prove it, which exist, or says why there is none.
func TestBehaviour(t *testing.T) {
	page, err := os.ReadFile("../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err = filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(code, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| What | Compared with PgBouncer | Tests |\n|---|---|---|\n")
	table, _, ok := strings.Cut(table, "\n\n")
	if !ok {
		t.Fatal("there is no table")
	}
	named := regexp.MustCompile("`(Test\\w+)`")
	for row := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(row, "| \n"), " | ")
		if len(cells) != 3 {
			t.Errorf("%d cells, not 3: %s", len(cells), row)
			continue
		}
		names := named.FindAllStringSubmatch(cells[2], -1)
		if len(names) == 0 && !strings.HasPrefix(cells[2], "none: ") {
			t.Errorf("%s: neither a test nor \"none: \" and a reason", cells[0])
		}
		for _, m := range names {
			if !tests[m[1]] {
				t.Errorf("%s: there is no %s", cells[0], m[1])
			}
		}
	}
}
