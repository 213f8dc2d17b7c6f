package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Where published results are, seen from the top of the module.
const (
	readmeFile = "bench/README.md"
	plotFile   = "bench/results/ratios.svg"
)

// The marks in the README between which the tables are.
const (
	resultsBegin = "<!-- results: written by bench -render -->"
	resultsEnd   = "<!-- end of results -->"
)

// renderFiles writes the tables of JSON files into the README, and the plot to
// svg, or else beside the published results.
func renderFiles(files []string, svg string) error {
	if svg == "" {
		svg = plotFile
	}
	var all []*Results
	for _, file := range files {
		r, err := readResults(file)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	if err := checkSuites(files, all); err != nil {
		return err
	}
	readme, err := os.ReadFile(readmeFile)
	if err != nil {
		return fmt.Errorf("start it at the top of the module: %w", err)
	}
	image, err := filepath.Rel(filepath.Dir(readmeFile), svg)
	if err != nil {
		return err
	}
	text, err := replaceResults(string(readme), fmt.Sprintf("![How many times better than PgBouncer](%s)\n\n", filepath.ToSlash(image))+markdown(files, all))
	if err != nil {
		return fmt.Errorf("%s: %w", readmeFile, err)
	}
	if err := os.MkdirAll(filepath.Dir(svg), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(svg, []byte(plot(all)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(readmeFile, []byte(text), 0o644)
}

// checkSuites refuses a suite that is in two files, or is not whole: there is
// one published figure for each thing.
func checkSuites(files []string, all []*Results) error {
	seen := make(map[string]string)
	for i, r := range all {
		for _, result := range r.Suites {
			if other, ok := seen[result.Name]; ok {
				return fmt.Errorf("the suite %s is in %s and in %s", result.Name, other, files[i])
			}
			seen[result.Name] = files[i]
			if result.Error != "" {
				return fmt.Errorf("%s: the suite %s is not complete: %s", files[i], result.Name, result.Error)
			}
			if _, err := suiteNamed(result.Name); err != nil {
				return fmt.Errorf("%s: %w", files[i], err)
			}
		}
	}
	return nil
}

// replaceResults puts results between the marks.
func replaceResults(readme, results string) (string, error) {
	before, rest, ok := strings.Cut(readme, resultsBegin)
	_, after, found := strings.Cut(rest, resultsEnd)
	if !ok || !found {
		return "", errors.New("the marks for the results are not there")
	}
	return before + resultsBegin + "\n\n" + results + "\n" + resultsEnd + after, nil
}

// markdown is the tables of all files.
func markdown(files []string, all []*Results) string {
	var b strings.Builder
	for i, r := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		name := filepath.Base(files[i])
		fmt.Fprintf(&b, "[%s](results/%s): %s, %s. Commit %s.\n", name, name, r.Date.Format(time.DateOnly), describe(r), r.Commit)
		for _, result := range r.Suites {
			if s, err := suiteNamed(result.Name); err == nil {
				b.WriteString(markdownTable(s, result))
			}
		}
	}
	return b.String()
}

// programTitles are the names of targets in prose.
var programTitles = map[string]string{
	otherKind: "other pgvalet", pgbouncerKind: "PgBouncer", directKind: "no pooler",
	besideKind: "no pooler, storm elsewhere", relayBesideKind: "relay, storm elsewhere",
}

func titleOf(target string) string {
	if title, ok := programTitles[target]; ok {
		return title
	}
	return target
}

func markdownTable(s suite, result SuiteResult) string {
	var b strings.Builder
	targets, bases := columns(s, result)
	fmt.Fprintf(&b, "\n### %s\n\n| | |", s.title)
	for _, name := range targets {
		fmt.Fprintf(&b, " %s |", titleOf(name))
	}
	for _, base := range bases {
		fmt.Fprintf(&b, " ÷ %s |", titleOf(base))
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---:|", len(targets)+len(bases)) + "\n")
	last := ""
	for _, r := range rows(s, result) {
		name := r.Case.title()
		if name == last {
			name = ""
		} else {
			last = name
		}
		fmt.Fprintf(&b, "| %s | %s |", name, r.figure.title)
		for _, target := range targets {
			fmt.Fprintf(&b, " %s |", r.markdownCell(target))
		}
		for _, base := range bases {
			if q, ok := r.ratios[base]; ok {
				fmt.Fprintf(&b, " **%s** <sub>%s</sub> |", decimal(q.ofMedians, 2), decimal(q.ofPairs, 2))
			} else {
				b.WriteString(" |")
			}
		}
		b.WriteByte('\n')
	}
	for _, note := range result.Notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	return b.String()
}

// title names a case with its variant.
func (c Case) title() string {
	if c.Variant == tlsVariant {
		return c.Name + ", TLS"
	}
	return c.Name
}

func (r row) markdownCell(target string) string {
	s, ok := r.values[target]
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s <sub>%s–%s</sub>", decimal(s.median, r.figure.digits), decimal(s.least, r.figure.digits), decimal(s.most, r.figure.digits))
}
