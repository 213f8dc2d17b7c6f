package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// crowdSuite is a fleet that comes all at once, as after a deployment.
var crowdSuite = suite{
	name:  "crowd",
	title: "Thousands of clients log in at the same moment",
	bases: []string{pgbouncerKind},
	figures: []figure{
		{key: "failed", title: "clients that failed", cost: true},
		{key: "login_s", title: "seconds until all others are served", digits: 2, cost: true, plot: true},
		{key: "login_p50_s", title: "p50 s", digits: 2, cost: true},
		{key: "login_p99_s", title: "p99 s", digits: 2, cost: true},
		{key: "cpu_us_per_login", title: "pooler CPU µs/login", cost: true},
		{key: "peak_mib", title: "resident MiB at most", digits: 1, cost: true, plot: true},
	},
	run: func(ctx context.Context, b *bench, result *SuiteResult) error {
		noted := make(map[string]bool) // cases and kinds of which a failure was
		return b.crowdCases(ctx, result, func(ctx context.Context, kind, variant string, count, round int) (figures, error) {
			f, failure, err := b.crowd(ctx, kind, variant, count)
			if err != nil || failure == nil {
				return f, err
			}
			if b.options.smoke {
				return nil, failure
			}
			what := fmt.Sprintf("%s, %s", variant, crowdName(count))
			if !noted[what+kind] {
				noted[what+kind] = true
				result.note("%s, round %d: a client of %s failed: %v", what, round, kind, failure)
			}
			return f, nil
		})
	},
}

// crowdBacklog is how many connections wait at the poolers' sockets to be
// accepted. Their defaults differ, and the kernel lets a client whose connection
// finds no room try again after a second.
const crowdBacklog = 4096

// filesBeside is how many open files a pooler or we need beside the clients.
const filesBeside = 200

// firstCrowd is how many clients the round that is thrown away has at most.
const firstCrowd = 200

// crowdName names a case.
func crowdName(count int) string { return decimal(float64(count), 0) + " clients" }

// crowdCases measures each pooler with each crowd, a case for each. measure is
// told the number of the round, 0 for the one that is thrown away.
func (b *bench) crowdCases(ctx context.Context, result *SuiteResult, measure func(ctx context.Context, kind, variant string, count, round int) (figures, error)) error {
	return b.eachCrowd(result, func(variant string, count int) error {
		name := crowdName(count)
		samples, err := rounds(ctx, b, result.Name+" "+variant+" "+name, b.poolers(), func(kind string) string { return kind },
			func(ctx context.Context, kind string, round int) (figures, error) {
				if round == 0 {
					return measure(ctx, kind, variant, min(count, firstCrowd), round)
				}
				return measure(ctx, kind, variant, count, round)
			})
		if err != nil {
			return err
		}
		result.add(Case{Name: name, Variant: variant, Plot: true, Samples: samples})
		return nil
	})
}

// eachCrowd runs cases with each number of clients that is asked for, in each
// variant, if it is possible here.
func (b *bench) eachCrowd(result *SuiteResult, run func(variant string, count int) error) error {
	limit, err := raiseFileLimit()
	if err != nil {
		return err
	}
	for _, variant := range b.options.variants {
		for _, count := range b.options.idle {
			switch {
			case count+filesBeside > limit:
				result.note("%s, %s: skipped, as the limit on open files is %s (ulimit -Hn)", variant, crowdName(count), decimal(float64(limit), 0))
			case count > maxClientConn-filesBeside:
				result.note("%s, %s: skipped, as max_client_conn is %s here", variant, crowdName(count), decimal(maxClientConn, 0))
			default:
				if err := run(variant, count); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// crowd measures a fresh pooler. A client is served when it has connected, logged
// in and run a query; it stays then. It fails when one of the three takes longer
// than clientPatience or is refused. One failure, if there is any, is returned.
func (b *bench) crowd(ctx context.Context, kind, variant string, count int) (_ figures, failure, err error) {
	t, err := b.startPooler(ctx, kind, kind, variant, setting{"listen_backlog", crowdBacklog})
	if err != nil {
		return nil, nil, err
	}
	clients := make([]*client, count)
	defer dismiss(t, clients)
	before, err := t.cpuOrNone()
	if err != nil {
		return nil, nil, err
	}
	served := make([]float64, count) // seconds from start; 0: it was not
	failures := make([]error, count)
	var start time.Time
	begin := make(chan struct{})
	var logins sync.WaitGroup
	for i := range clients {
		logins.Go(func() {
			<-begin
			c, err := t.endpoint.login(ctx)
			if err == nil {
				clients[i] = c
				err = c.query("SELECT 1")
			}
			if failures[i] = err; err == nil {
				served[i] = time.Since(start).Seconds()
			}
		})
	}
	start = time.Now()
	close(begin)
	logins.Wait()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	after, err := t.cpuOrNone()
	if err != nil {
		return nil, nil, err
	}
	peak, err := peakBytes(t.proc.PID())
	if err != nil {
		return nil, nil, err
	}
	if i := slices.IndexFunc(failures, func(err error) bool { return err != nil }); i >= 0 {
		failure = failures[i]
	}
	return crowdFigures(served, after-before, peak), failure, nil
}

// crowdFigures puts together what was seen. With nobody served there are no
// times.
func crowdFigures(served []float64, cpu time.Duration, peak int64) figures {
	count := len(served)
	served = slices.DeleteFunc(slices.Sorted(slices.Values(served)), func(s float64) bool { return s == 0 })
	n := len(served)
	f := figures{"failed": float64(count - n), "peak_mib": float64(peak) / (1 << 20)}
	if n > 0 {
		f["login_s"] = served[n-1]
		f["login_p50_s"] = percentile(served, 0.5)
		f["login_p99_s"] = percentile(served, 0.99)
		f["cpu_us_per_login"] = micros(cpu) / float64(n)
	}
	return f
}

// dismiss ends a pooler and then its clients: thousands of connections that we
// close first would keep their ports for a minute.
func dismiss(t *target, clients []*client) {
	t.stop()
	for _, c := range clients {
		if c != nil {
			c.drop()
		}
	}
}
