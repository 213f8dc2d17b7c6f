package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// saturationSuite has far more clients at work than there are servers, so that
// each transaction waits for its turn. What counts is that all wait alike.
//
// Where the kernel moves pgbench's threads and the pooler between few processors, the
// throughput goes up and down with whom it puts together, and p99 shows that. So
// there are the same cases with the two kept apart, to see the pooler alone; and one
// in which the processors have time to spare, because the servers are what limits.
var saturationSuite = suite{
	name:  "saturation",
	title: "1,000 clients on 20 servers (pgbench -S)",
	bases: []string{pgbouncerKind},
	figures: []figure{
		{key: "tps", title: "transactions/s", plot: true},
		{key: "cpu_us_per_tx", title: "pooler CPU µs/transaction", digits: 1, cost: true},
		{key: "p50_ms", title: "p50 ms", digits: 2, cost: true},
		{key: "p99_ms", title: "p99 ms", digits: 2, cost: true, plot: true},
		{key: "p99_to_p50", title: "p99 ÷ p50", digits: 2, cost: true},
		{key: "fair_p99_to_p50", title: "p99 ÷ p50 if all took turns", digits: 2, cost: true},
		{key: "least_to_most", title: "least ÷ most served client", digits: 2},
	},
	run: runSaturationSuite,
}

// slowQuery says of a case that a query takes that long at the server.
const slowQuery = "queries of 5 ms"

func runSaturationSuite(ctx context.Context, b *bench, result *SuiteResult) error {
	clients, names := 1000, []string{"simple", "prepared"}
	if canPlaceApart() {
		names = append(names, "simple, apart", "prepared, apart")
	}
	names = append(names, "simple, "+slowQuery)
	if b.options.smoke {
		clients, names = 40, names[len(names)-2:]
	}
	return b.eachVariant(ctx, false, func(variant string, targets []*target) error {
		for _, name := range names {
			mode, how, _ := strings.Cut(name, ", ")
			load := pgbenchRun{mode: mode, clients: clients, seconds: b.options.seconds, apart: how == "apart", sampling: 1}
			if how == slowQuery {
				load.script = "SELECT pg_sleep(0.005)\n"
			}
			samples, err := rounds(ctx, b, fmt.Sprintf("saturation %s %s", variant, name), targets, targetName,
				func(ctx context.Context, t *target, round int) (figures, error) {
					run := load
					if round == 0 {
						run.seconds = min(run.seconds, 3)
					}
					res, err := b.pgbenchLoad(ctx, run, t)
					if err != nil {
						return nil, err
					}
					f := saturationFigures(res.log, clients)
					f["cpu_us_per_tx"] = res.cpuMicros()
					return f, nil
				})
			if err != nil {
				return err
			}
			result.add(Case{Name: name, Variant: variant, Plot: how == "", Samples: samples})
		}
		return nil
	})
}

// saturationFigures looks at the middle of a run: the first fifth, with the
// burst in which all begin at once, and the last tenth, in which they end, are
// left out. Where all take turns, a transaction lasts until each other client
// has had one too: what that would have made of the same run tells how much of
// p99 ÷ p50 is a throughput that goes up and down, and no pooler's choice.
func saturationFigures(log []logLine, clients int) figures {
	first, last := span(log)
	from, to := first+(last-first)/5, last-(last-first)/10
	took := latencies(log, from, to)
	turns := turnTimes(log, clients, from, to)
	served := make([]int, clients)
	for _, l := range log {
		if l.end >= from && l.end < to && l.client < clients {
			served[l.client]++
		}
	}
	least, most := served[0], served[0]
	for _, n := range served {
		least, most = min(least, n), max(most, n)
	}
	p50, p99 := percentile(took, 0.5), percentile(took, 0.99)
	return figures{
		"tps":             float64(len(took)) / (float64(to-from) / 1e6),
		"p50_ms":          p50,
		"p99_ms":          p99,
		"p99_to_p50":      p99 / p50,
		"fair_p99_to_p50": percentile(turns, 0.99) / percentile(turns, 0.5),
		"least":           float64(least),
		"most":            float64(most),
		"least_to_most":   float64(least) / float64(most),
	}
}

// turnTimes returns how long it took, up to each transaction that ended between
// from and to, until as many others as there are clients had ended; sorted.
func turnTimes(log []logLine, clients int, from, to int64) []float64 {
	ends := make([]int64, len(log))
	for i, l := range log {
		ends[i] = l.end
	}
	slices.Sort(ends)
	var turns []float64
	for i := clients; i < len(ends); i++ {
		if ends[i] >= from && ends[i] < to {
			turns = append(turns, float64(ends[i]-ends[i-clients])/1000)
		}
	}
	slices.Sort(turns)
	return turns
}
