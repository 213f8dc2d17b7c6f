package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var updateFaults = flag.Bool("update-faults", false, "write the table of docs/iam-failures.md from this run")

const (
	faultPage  = "../../docs/iam-failures.md"
	faultBegin = "<!-- table: written by go test ./cmd/pgvalet -run TestFaults -update-faults -->\n"
	faultEnd   = "<!-- end of the table -->\n"
)

// text is the part of a row that does not differ from run to run.
func (o *outcome) text() string {
	recovery := o.recovery
	if recovery == "" {
		recovery = "by itself"
	}
	said := strings.ReplaceAll(o.said.Message, "|", `\|`)
	for before, name := range map[string]string{`user "`: "app_user", `role "`: "app_user", `database "`: "app"} { // not that of the test's own
		if i := strings.Index(said, before); i >= 0 {
			i += len(before)
			if j := strings.Index(said[i:], `"`); j >= 0 {
				said = said[:i] + name + said[i+j:]
			}
		}
	}
	said = strings.ReplaceAll(said, `host "127.0.0.1"`, `host "…"`)
	return fmt.Sprintf("| %s | %s | %s `%s` | %s | %s |", o.name, "`"+o.reason+"`", o.said.Code, said, o.said.Hint, recovery)
}

// checkFaultTable compares the page with this run, or writes it.
func checkFaultTable(t *testing.T, outcomes map[string]outcome) {
	page, err := os.ReadFile(filepath.FromSlash(faultPage))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), faultBegin)
	table, after, ok2 := strings.Cut(rest, faultEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", faultPage)
	}
	if *updateFaults {
		var b strings.Builder
		b.WriteString(before + faultBegin + "| Fault | Counted as | What the client gets | Hint | Recovery | Told after | Well again after |\n|---|---|---|---|---|---|---|\n")
		for _, f := range faults {
			o, ok := outcomes[f.name]
			if !ok {
				t.Fatalf("%s was not run", f.name)
			}
			fmt.Fprintf(&b, "%s %.1f s | %.1f s |\n", o.text(), o.took.Seconds(), o.recovers.Seconds())
		}
		b.WriteString(faultEnd + after)
		if err := os.WriteFile(filepath.FromSlash(faultPage), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, o := range outcomes {
		if !strings.Contains(table, o.text()+" ") {
			t.Errorf("%s does not have this row, -update-faults writes it: %s", faultPage, o.text())
		}
	}
	if n := strings.Count(table, "\n") - 2; n != len(faults) {
		t.Errorf("%s has %d rows, there are %d faults", faultPage, n, len(faults))
	}
}
