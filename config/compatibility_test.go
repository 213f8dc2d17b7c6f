package config

import (
	"os"
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
