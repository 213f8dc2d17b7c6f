package main

import (
	"context"
	"fmt"
)

// loopsSuite is pgvalet alone, with different numbers of event loops.
var loopsSuite = suite{
	name:  "loops",
	title: "Event loops (pgvalet, pgbench -S -M prepared)",
	figures: []figure{
		{key: "tps", title: "transactions/s"},
		{key: "cpu_us_per_tx", title: "CPU µs/transaction", digits: 1, cost: true},
		{key: "p50_ms", title: "p50 ms", digits: 3, cost: true},
		{key: "p99_ms", title: "p99 ms", digits: 3, cost: true},
	},
	run: runLoopsSuite,
}

func runLoopsSuite(ctx context.Context, b *bench, result *SuiteResult) error {
	for _, variant := range b.options.variants {
		clients := 64
		if b.options.smoke {
			clients = 8
		}
		samples, err := b.loopsRounds(ctx, variant, clients)
		if err != nil {
			return err
		}
		result.add(Case{Name: fmt.Sprintf("prepared, %d clients", clients), Variant: variant, Samples: samples})
	}
	return nil
}

func (b *bench) loopsRounds(ctx context.Context, variant string, clients int) ([]Sample, error) {
	var targets []*target
	defer func() { stopAll(targets) }()
	for _, loops := range []int{1, 2, 4} {
		name := fmt.Sprintf("%d loops", loops)
		if loops == 1 {
			name = "1 loop"
		}
		t, err := b.startPooler(ctx, pgvaletKind, name, variant, setting{"event_loops", loops})
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	return b.pgbenchRounds(ctx, "loops "+variant, targets, "prepared", clients)
}
