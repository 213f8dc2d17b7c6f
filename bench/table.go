package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// header says what was measured, and where.
func header(r *Results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s\n", r.Date.Format(time.DateOnly), describe(r))
	if _, ok := r.Programs[pgbouncerKind]; !ok {
		b.WriteString("PgBouncer is not there (-pgbouncer, $PGBOUNCER, PATH): going on without it.\n")
	}
	return b.String()
}

// describe returns programs and machine in one line.
func describe(r *Results) string {
	programs := []string{"pgvalet " + r.Programs[pgvaletKind]}
	if version, ok := r.Programs[otherKind]; ok {
		programs = append(programs, "other pgvalet "+version)
	}
	if version, ok := r.Programs[pgbouncerKind]; ok {
		programs = append(programs, "PgBouncer "+version)
	}
	programs = append(programs, "PostgreSQL "+r.Programs["postgresql"])
	return fmt.Sprintf("%s; %s, %d cores, %s, %d MiB; %d rounds of %d s",
		strings.Join(programs, ", "), r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.MemoryMiB, r.Rounds, r.Seconds)
}

// row is one figure of one case.
type row struct {
	Case   Case
	figure figure
	values map[string]summary // by target
	ratios map[string]ratio   // of the first target to others, by their names
}

// rows returns what a suite's table has in it: the figures that there are.
func rows(s suite, result SuiteResult) []row {
	var all []row
	for _, c := range result.Cases {
		targets := c.targets()
		for _, f := range s.figures {
			r := row{Case: c, figure: f, values: make(map[string]summary), ratios: make(map[string]ratio)}
			for _, name := range targets {
				if values := valuesOf(c.Samples, f.key, name); values != nil {
					r.values[name] = summarize(values)
				}
			}
			if len(r.values) == 0 {
				continue
			}
			for _, base := range s.allBases() {
				if _, ok := r.values[base]; ok && base != targets[0] {
					r.ratios[base] = compare(c.Samples, f.key, targets[0], base)
				}
			}
			all = append(all, r)
		}
	}
	return all
}

// columns returns the targets and bases that any row has.
func columns(s suite, result SuiteResult) (targets, bases []string) {
	for _, name := range targetOrder {
		if slices.ContainsFunc(result.Cases, func(c Case) bool { return slices.Contains(c.targets(), name) }) {
			targets = append(targets, name)
		}
	}
	for _, base := range s.allBases() {
		if slices.Contains(targets, base) && base != targets[0] {
			bases = append(bases, base)
		}
	}
	return targets, bases
}

// textTable is a suite's result for a terminal: medians with the least and the
// most of all rounds, then ratios of medians with those of pairs.
func textTable(s suite, result SuiteResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s: %s\n\n", s.name, s.title)
	targets, bases := columns(s, result)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "variant\tcase\tfigure")
	for _, name := range targets {
		fmt.Fprintf(w, "\t%s", name)
	}
	for _, base := range bases {
		fmt.Fprintf(w, "\t÷ %s (pairs)", base)
	}
	fmt.Fprintln(w)
	for _, r := range rows(s, result) {
		fmt.Fprintf(w, "%s\t%s\t%s", r.Case.Variant, r.Case.Name, r.figure.title)
		for _, name := range targets {
			fmt.Fprintf(w, "\t%s", r.cell(name))
		}
		for _, base := range bases {
			fmt.Fprintf(w, "\t%s", r.ratioCell(base))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	for _, note := range result.Notes {
		fmt.Fprintf(&b, "Note: %s\n", note)
	}
	if result.Error != "" {
		fmt.Fprintf(&b, "Not complete: %s\n", result.Error)
	}
	return b.String()
}

func (r row) cell(target string) string {
	s, ok := r.values[target]
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%s [%s–%s]", decimal(s.median, r.figure.digits), decimal(s.least, r.figure.digits), decimal(s.most, r.figure.digits))
}

func (r row) ratioCell(base string) string {
	q, ok := r.ratios[base]
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%s (%s)", decimal(q.ofMedians, 2), decimal(q.ofPairs, 2))
}

// decimal writes a number with thousands separated.
func decimal(value float64, digits int) string {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return "–"
	}
	whole, fraction, _ := strings.Cut(strconv.FormatFloat(math.Abs(value), 'f', digits, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if value < 0 {
		return "-" + whole
	}
	return whole
}

func sorted(words []string) []string {
	slices.Sort(words)
	return words
}
