package main

import "context"

// connectSuite is what an application without a pool of its own does: a
// connection for each transaction.
var connectSuite = suite{
	name:  "connect",
	title: "A login for each transaction (pgbench -S -C, 8 clients)",
	bases: []string{pgbouncerKind, directKind},
	figures: []figure{
		{key: "connections_per_s", title: "connections/s", plot: true},
		{key: "cpu_us_per_connection", title: "pooler CPU µs/connection", cost: true, plot: true},
	},
	run: runConnectSuite,
}

func runConnectSuite(ctx context.Context, b *bench, result *SuiteResult) error {
	return b.eachVariant(ctx, true, func(variant string, targets []*target) error {
		samples, err := rounds(ctx, b, "connect "+variant, targets, targetName,
			func(ctx context.Context, t *target, round int) (figures, error) {
				run := pgbenchRun{mode: "simple", clients: 8, seconds: b.options.seconds, connect: true}
				if round == 0 {
					run.seconds = min(run.seconds, 3)
				}
				res, err := b.pgbenchLoad(ctx, run, t)
				if err != nil {
					return nil, err
				}
				f := figures{"connections_per_s": res.tps}
				if t.proc != nil {
					f["cpu_us_per_connection"] = res.cpuMicros()
				}
				return f, nil
			})
		if err != nil {
			return err
		}
		result.add(Case{Name: "8 clients", Variant: variant, Plot: true, Samples: samples})
		return nil
	})
}
