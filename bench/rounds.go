package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// bench is one invocation at work.
type bench struct {
	*stage
	options *options
	out     io.Writer                // progress, a line for each run
	logins  map[string]time.Duration // how long those of pgbench took last; see pgbenchLoad
}

// poolers are the kinds of poolers that are there.
func (b *bench) poolers() []string {
	kinds := []string{pgvaletKind}
	for _, kind := range []string{otherKind, pgbouncerKind} {
		if b.programs[kind] != "" {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// startAll starts a pooler of each kind for one suite, and appends PostgreSQL
// itself if it is wanted. The caller stops them.
func (b *bench) startAll(ctx context.Context, variant string, direct bool) ([]*target, error) {
	var targets []*target
	for _, kind := range b.poolers() {
		t, err := b.startPooler(ctx, kind, kind, variant)
		if err != nil {
			stopAll(targets)
			return nil, err
		}
		targets = append(targets, t)
	}
	if direct {
		targets = append(targets, b.direct(variant))
	}
	return targets, nil
}

func stopAll(targets []*target) {
	for _, t := range targets {
		t.stop()
	}
}

// rounds measures in turns: in each round every target once, in an order that
// moves on from round to round. A first round is thrown away, unless it is
// only for a smoke test; measure is told its number, 0.
func rounds[T any](ctx context.Context, b *bench, label string, targets []T, name func(T) string,
	measure func(ctx context.Context, t T, round int) (figures, error),
) ([]Sample, error) {
	var samples []Sample
	first := 0
	if b.options.smoke {
		first = 1
	}
	for round := first; round <= b.options.rounds; round++ {
		for turn := range targets {
			t := targets[(turn+round)%len(targets)]
			got, err := measure(ctx, t, round)
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", label, name(t), err)
			}
			which := "warm-up"
			if round > 0 {
				which = fmt.Sprintf("%d/%d", round, b.options.rounds)
				samples = append(samples, Sample{Round: round, Turn: turn + 1, Target: name(t), Figures: got})
			}
			fmt.Fprintf(b.out, "%-36s %-7s %-10s %s\n", label, which, name(t), got)
		}
	}
	return samples, nil
}

// String lists the figures for a line of progress.
func (f figures) String() string {
	var words []string
	for _, key := range slices.Sorted(maps.Keys(f)) {
		words = append(words, key+" "+strconv.FormatFloat(f[key], 'g', 5, 64))
	}
	return strings.Join(words, "  ")
}

func targetName(t *target) string { return t.name }
