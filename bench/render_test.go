package main

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("not as in %s (go test ./bench -update writes it):\n%s", path, got)
	}
}

// exampleResults has what tables must cope with: a figure that one target
// lacks, a better and a worse one, a case that is not in the plot, a note.
func exampleResults() *Results {
	sample := func(round int, target string, f figures) Sample {
		return Sample{Round: round, Turn: 1, Target: target, Figures: f}
	}
	return &Results{
		Date: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Command: []string{"-rounds", "2"}, Commit: "0123456789ab",
		Machine:  Machine{CPU: "Some CPU", Cores: 2, Kernel: "Linux 6.1", MemoryMiB: 8000},
		Programs: map[string]string{pgvaletKind: "1.0", pgbouncerKind: "1.25.2", "postgresql": "15.18", "pgbench": "15.18"},
		Rounds:   2, Seconds: 10,
		Suites: []SuiteResult{
			{Name: "pgbench", Cases: []Case{
				{Name: "prepared, 64 clients", Variant: plainVariant, Plot: true, Samples: []Sample{
					sample(1, pgvaletKind, figures{"tps": 50_000, "cpu_us_per_tx": 10, "p50_ms": 0.5}),
					sample(1, pgbouncerKind, figures{"tps": 40_000, "cpu_us_per_tx": 8, "p50_ms": 0.75}),
					sample(1, directKind, figures{"tps": 90_000, "p50_ms": 0.25}),
					sample(2, pgbouncerKind, figures{"tps": 42_000, "cpu_us_per_tx": 8, "p50_ms": 0.7}),
					sample(2, directKind, figures{"tps": 91_000, "p50_ms": 0.25}),
					sample(2, pgvaletKind, figures{"tps": 51_000, "cpu_us_per_tx": 12, "p50_ms": 0.5}),
				}},
				{Name: "prepared, 1 client", Variant: tlsVariant, Samples: []Sample{
					sample(1, pgvaletKind, figures{"tps": 1000}),
					sample(1, pgbouncerKind, figures{"tps": 1000}),
				}},
			}},
			{Name: "idle", Notes: []string{"10,000 idle clients were skipped: the limit on open files is 1,024 (ulimit -Hn)"}, Cases: []Case{
				{Name: "3,000 clients", Variant: tlsVariant, Plot: true, Samples: []Sample{
					sample(1, pgvaletKind, figures{"bytes_per_client": 9000, "login_s": 4}),
					sample(1, pgbouncerKind, figures{"bytes_per_client": 16500, "login_s": 8}),
				}},
			}},
			{Name: "loops", Cases: []Case{
				{Name: "prepared, 64 clients", Variant: plainVariant, Samples: []Sample{
					sample(1, "1 loop", figures{"tps": 50_000, "cpu_us_per_tx": 10}),
					sample(1, "2 loops", figures{"tps": 40_000, "cpu_us_per_tx": 19}),
				}},
			}},
		},
	}
}

func TestMarkdown(t *testing.T) {
	golden(t, "results.md", markdown([]string{"somewhere/2026.json"}, []*Results{exampleResults()}))
}

func TestPlot(t *testing.T) {
	svg := plot([]*Results{exampleResults()})
	golden(t, "ratios.svg", svg)
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestTextTable(t *testing.T) {
	r := exampleResults()
	r.Suites[1].Error = "idle: nobody answers"
	text := header(r)
	for _, result := range r.Suites {
		s, err := suiteNamed(result.Name)
		if err != nil {
			t.Fatal(err)
		}
		text += textTable(s, result)
	}
	golden(t, "results.txt", text)
}

func TestWithoutPgbouncer(t *testing.T) {
	r := exampleResults()
	delete(r.Programs, pgbouncerKind)
	r.Suites = r.Suites[:1]
	var ours []Sample
	for _, s := range r.Suites[0].Cases[0].Samples {
		if s.Target != pgbouncerKind {
			ours = append(ours, s)
		}
	}
	r.Suites[0].Cases = r.Suites[0].Cases[:1]
	r.Suites[0].Cases[0].Samples = ours
	if text := header(r) + textTable(pgbenchSuite, r.Suites[0]); !strings.Contains(text, "PgBouncer is not there") || strings.Contains(text, "÷ pgbouncer") || !strings.Contains(text, "÷ direct") {
		t.Error(text)
	}
}

// What is rendered is what was written.
func TestResultsSurviveJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	r := exampleResults()
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	back, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{path}
	if got, want := markdown(files, []*Results{back}), markdown(files, []*Results{r}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestCheckSuites(t *testing.T) {
	two := []*Results{exampleResults(), exampleResults()}
	if err := checkSuites([]string{"a", "b"}, two); err == nil || err.Error() != "the suite pgbench is in a and in b" {
		t.Error(err)
	}
	one := two[:1]
	if err := checkSuites([]string{"a"}, one); err != nil {
		t.Error(err)
	}
	one[0].Suites[0].Error = "half"
	if err := checkSuites([]string{"a"}, one); err == nil {
		t.Error("a suite that is not complete")
	}
	one[0].Suites[0] = SuiteResult{Name: "other"}
	if err := checkSuites([]string{"a"}, one); err == nil {
		t.Error("a suite that is not known")
	}
}

func TestReplaceResults(t *testing.T) {
	got, err := replaceResults("a\n"+resultsBegin+"\nold\n"+resultsEnd+"\nb\n", "new\n")
	if want := "a\n" + resultsBegin + "\n\nnew\n\n" + resultsEnd + "\nb\n"; err != nil || got != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	again, err := replaceResults(got, "new\n")
	if err != nil || again != got {
		t.Errorf("the second time: %q, %v", again, err)
	}
	if _, err := replaceResults("no marks", "new"); err == nil {
		t.Error("without marks")
	}
}

// The README has the marks.
func TestReadmeTakesResults(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replaceResults(string(readme), "x"); err != nil {
		t.Error(err)
	}
}

func TestDecimal(t *testing.T) {
	for _, tt := range []struct {
		value  float64
		digits int
		want   string
	}{
		{0, 0, "0"},
		{999.6, 0, "1,000"},
		{1234567.891, 1, "1,234,567.9"},
		{-1234, 0, "-1,234"},
		{0.0005, 3, "0.001"},
	} {
		if got := decimal(tt.value, tt.digits); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.value, got, tt.want)
		}
	}
}
