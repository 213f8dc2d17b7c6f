package main

import (
	"context"
	"fmt"
)

// pgbenchSuite is pgbench's select-only script: one short transaction after
// another, the work that a pooler makes the most difference to.
var pgbenchSuite = suite{
	name:  "pgbench",
	title: "Short transactions (pgbench -S)",
	bases: []string{pgbouncerKind, directKind},
	figures: []figure{
		{key: "tps", title: "transactions/s", plot: true},
		{key: "cpu_us_per_tx", title: "pooler CPU µs/transaction", digits: 1, cost: true, plot: true},
		{key: "kernel_us_per_tx", title: "of it in the kernel", digits: 1, cost: true},
		{key: "machine_us_per_tx", title: "all processes' CPU µs/transaction", digits: 1, cost: true},
		{key: "p50_ms", title: "p50 ms", digits: 3, cost: true},
		{key: "p99_ms", title: "p99 ms", digits: 3, cost: true},
		{key: "p999_ms", title: "p99.9 ms", digits: 3, cost: true},
	},
	run: runPgbenchSuite,
}

func runPgbenchSuite(ctx context.Context, b *bench, result *SuiteResult) error {
	return b.eachVariant(ctx, true, func(variant string, targets []*target) error {
		return b.pgbenchCases(ctx, variant, targets, result)
	})
}

func (b *bench) pgbenchCases(ctx context.Context, variant string, targets []*target, result *SuiteResult) error {
	for _, mode := range b.options.modes {
		for _, clients := range b.options.clients {
			name := fmt.Sprintf("%s, %d clients", mode, clients)
			if clients == 1 {
				name = mode + ", 1 client"
			}
			samples, err := b.pgbenchRounds(ctx, fmt.Sprintf("pgbench %s %s", variant, name), targets, mode, clients)
			if err != nil {
				return err
			}
			result.add(Case{Name: name, Variant: variant, Plot: clients == 64, Samples: samples})
		}
	}
	return nil
}

// samplesWanted is how many latencies of the fastest target are logged in one
// run. The others have fewer, but thousands.
const samplesWanted = 50_000

func (b *bench) pgbenchRounds(ctx context.Context, label string, targets []*target, mode string, clients int) ([]Sample, error) {
	fastest := 0.0 // of the warm-up, in transactions per second
	return rounds(ctx, b, label, targets, targetName, func(ctx context.Context, t *target, round int) (figures, error) {
		run := pgbenchRun{mode: mode, clients: clients, seconds: b.options.seconds, sampling: 0.1}
		if round == 0 {
			run.seconds = min(run.seconds, 3)
		}
		// The same for every target, as logging costs CPU.
		if round > 0 && fastest > 0 {
			run.sampling = min(1, samplesWanted/(fastest*float64(run.seconds)))
		}
		res, err := b.pgbenchLoad(ctx, run, t)
		if err != nil {
			return nil, err
		}
		if round == 0 {
			fastest = max(fastest, res.tps)
		}
		return res.figures(t), nil
	})
}

// figures returns what a run tells of its target.
func (r *pgbenchResult) figures(t *target) figures {
	f := figures{"tps": r.tps}
	if t.proc != nil {
		f["cpu_us_per_tx"] = r.cpuMicros()
	}
	if w, ok := r.work(); ok {
		f["machine_us_per_tx"] = w.per(w.machine)
		if t.proc != nil {
			f["kernel_us_per_tx"] = w.per(w.kernel)
		}
	}
	if len(r.log) > 0 {
		first, last := span(r.log)
		took := latencies(r.log, first, last+1)
		f["latencies"] = float64(len(took))
		f["p50_ms"], f["p99_ms"], f["p999_ms"] = percentile(took, 0.5), percentile(took, 0.99), percentile(took, 0.999)
	}
	return f
}
