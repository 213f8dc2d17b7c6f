package main

import (
	"context"
	"fmt"
	"io"
)

// suite is a set of cases with the same figures.
type suite struct {
	name    string
	title   string
	figures []figure
	bases   []string // the targets that ratios are to
	run     func(ctx context.Context, b *bench, add func(Case)) error
}

// suites returns all suites in the order they run.
func suites() []suite {
	return []suite{pgbenchSuite}
}

// suiteNamed returns the suite of that name.
func suiteNamed(name string) (suite, error) {
	for _, s := range suites() {
		if s.name == name {
			return s, nil
		}
	}
	return suite{}, fmt.Errorf("there is no suite %q", name)
}

// measure runs a suite and prints its table. What it has measured before an
// error is in the result.
func (s suite) measure(ctx context.Context, b *bench, out io.Writer) (SuiteResult, error) {
	result := SuiteResult{Name: s.name}
	err := s.run(ctx, b, func(c Case) { result.Cases = append(result.Cases, c) })
	if err != nil {
		err = fmt.Errorf("%s: %w", s.name, err)
		result.Error = err.Error()
	}
	fmt.Fprint(out, textTable(s, result))
	return result, err
}
