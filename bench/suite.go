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
	run     func(ctx context.Context, b *bench, result *SuiteResult) error
}

// allBases are the suite's, and another build of pgvalet.
func (s suite) allBases() []string { return append([]string{otherKind}, s.bases...) }

// suites returns all suites in the order they run.
func suites() []suite {
	return []suite{pgbenchSuite, bulkSuite, idleSuite, crowdSuite, stormSuite, saturationSuite, connectSuite, loopsSuite, floorSuite}
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
	err := s.run(ctx, b, &result)
	if err != nil {
		err = fmt.Errorf("%s: %w", s.name, err)
		result.Error = err.Error()
	}
	fmt.Fprint(out, textTable(s, result))
	return result, err
}

// eachVariant runs cases with a pooler of each kind, and PostgreSQL if it is
// wanted, for one variant after the other. The poolers are the suite's own.
func (b *bench) eachVariant(ctx context.Context, direct bool, cases func(variant string, targets []*target) error) error {
	for _, variant := range b.options.variants {
		targets, err := b.startAll(ctx, variant, direct)
		if err != nil {
			return err
		}
		err = cases(variant, targets)
		stopAll(targets)
		if err != nil {
			return err
		}
	}
	return nil
}
