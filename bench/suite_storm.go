package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// stormSuite is a login storm, as a fleet of short-lived clients makes it:
// how many get in, and what those who are already there notice of it.
var stormSuite = suite{
	name:  "storm",
	title: "Login storm (TLS, SCRAM-SHA-256) beside 8 steady clients",
	bases: []string{pgbouncerKind, directKind},
	figures: []figure{
		{key: "logins_per_s", title: "logins/s", plot: true},
		{key: "login_p50_ms", title: "login p50 ms", digits: 1, cost: true},
		{key: "login_p99_ms", title: "login p99 ms", digits: 1, cost: true},
		{key: "cpu_us_per_login", title: "pooler CPU µs/login", cost: true, plot: true},
		{key: "steady_tps_before", title: "steady clients before: transactions/s"},
		{key: "steady_p50_ms_before", title: "before: p50 ms", digits: 3, cost: true},
		{key: "steady_p99_ms_before", title: "before: p99 ms", digits: 3, cost: true},
		{key: "steady_tps_during", title: "during: transactions/s"},
		{key: "steady_p50_ms_during", title: "during: p50 ms", digits: 3, cost: true},
		{key: "steady_p99_ms_during", title: "during: p99 ms", digits: 3, cost: true, plot: true},
		{key: "steady_p99_ratio", title: "p99 during ÷ before", digits: 1, cost: true},
	},
	run: runStormSuite,
}

const (
	stormWorkers  = 16
	steadyClients = 8
	steadyRate    = 1000 // transactions per second of all together
)

// runStormSuite measures over TLS only: without it a login is cheap. The last
// two targets are the floor: the storm is pgvalet's, the steady clients have no
// pooler at all, or a relay that the storm does not go through. What they notice
// is that processors are short.
func runStormSuite(ctx context.Context, b *bench, result *SuiteResult) error {
	targets, err := b.startAll(ctx, tlsVariant, true)
	if err != nil {
		return err
	}
	defer stopAll(targets)
	relay, err := b.startRelay(ctx, tlsVariant)
	if err != nil {
		return err
	}
	defer relay.stop()
	relay.name = relayBesideKind
	beside := b.direct(tlsVariant)
	beside.name = besideKind
	refuge := targets[0]
	rates := []int{0, steadyRate}
	if b.options.smoke {
		rates = rates[1:]
	}
	for _, rate := range rates {
		name := "steady clients as fast as they can"
		if rate > 0 {
			name = fmt.Sprintf("steady clients at %s transactions/s", decimal(float64(rate), 0))
		}
		samples, err := rounds(ctx, b, "storm "+name, append(slices.Clip(targets), beside, relay), targetName,
			func(ctx context.Context, t *target, round int) (figures, error) {
				s := storm{target: t, at: t, rate: rate, calm: max(1, b.options.seconds/2), length: b.options.seconds}
				if t == beside || t == relay {
					s.at = refuge
				}
				if round == 0 {
					s.calm, s.length = 1, min(s.length, 3)
				}
				return s.run(ctx, b.stage)
			})
		if err != nil {
			return err
		}
		result.add(Case{Name: name, Variant: tlsVariant, Plot: true, Samples: samples})
	}
	return nil
}

// storm is one login storm.
type storm struct {
	target       *target // of the steady clients
	at           *target // of the storm
	rate         int     // of the steady clients
	calm, length int     // seconds before the storm and of it
}

// moment is when a window begins or ends, and what was used up to then.
type moment struct {
	at        time.Time
	pooler    time.Duration // CPU
	generator time.Duration // CPU, ours
}

func (s storm) now() (moment, error) {
	pooler, err := s.target.cpuOrNone()
	if err != nil {
		return moment{}, err
	}
	generator, err := ownCPU()
	return moment{time.Now(), pooler, generator}, err
}

// ownCPU returns the CPU time that this process has used.
func ownCPU() (time.Duration, error) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0, fmt.Errorf("rusage: %w", err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), nil
}

// run has the steady clients in a process of their own, pgbench, whose log
// tells of each transaction when it ended. So nothing of the storm's
// generator is in their latencies but the CPU that it takes.
func (s storm) run(ctx context.Context, stage *stage) (figures, error) {
	started := make(chan struct{})
	// A second up to the first progress, and two for logins that end late.
	steady := pgbenchRun{
		mode: "simple", clients: steadyClients, seconds: 1 + s.calm + s.length + 2,
		rate: s.rate, sampling: 1, started: func() { close(started) },
	}
	var res *pgbenchResult
	var begin, middle, end moment
	var logins []float64
	work, ctx := errgroup.WithContext(ctx)
	ended := make(chan struct{})
	work.Go(func() (err error) {
		defer close(ended)
		res, err = steady.run(ctx, stage, s.target)
		return err
	})
	work.Go(func() (err error) {
		select {
		case <-started:
		case <-ended: // with an error
			return nil
		}
		if begin, err = s.now(); err != nil {
			return err
		}
		if err := pause(ctx, time.Duration(s.calm)*time.Second); err != nil {
			return err
		}
		if middle, err = s.now(); err != nil {
			return err
		}
		if logins, err = s.blow(ctx, middle.at.Add(time.Duration(s.length)*time.Second)); err != nil {
			return err
		}
		end, err = s.now()
		return err
	})
	if err := work.Wait(); err != nil {
		return nil, err
	}
	if end.at.IsZero() {
		return nil, errors.New("the steady clients have ended early")
	}
	return s.figures(res.log, begin, middle, end, logins), nil
}

// pause waits, for a length of time that is measured.
func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// blow lets the workers log in, ask once and leave until a time, and returns
// how long each login with its question took, in ms, sorted.
func (s storm) blow(ctx context.Context, until time.Time) ([]float64, error) {
	var mu sync.Mutex // guards all
	var all []float64
	workers, ctx := errgroup.WithContext(ctx)
	var stop atomic.Bool
	timer := time.AfterFunc(time.Until(until), func() { stop.Store(true) })
	defer timer.Stop()
	for range stormWorkers {
		workers.Go(func() error {
			var took []float64
			for !stop.Load() {
				start := time.Now()
				c, err := s.at.endpoint.login(ctx)
				if err != nil {
					return err
				}
				err = c.query("SELECT 1")
				took = append(took, time.Since(start).Seconds()*1000)
				c.close()
				if err != nil {
					return err
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			return nil
		})
	}
	err := workers.Wait()
	slices.Sort(all)
	return all, err
}

// figures puts together what was seen from both sides. A login's CPU time is
// what is left when the steady clients' transactions are taken off, at what
// they cost before the storm.
func (s storm) figures(log []logLine, begin, middle, end moment, logins []float64) figures {
	before := latencies(log, begin.at.UnixMicro(), middle.at.UnixMicro())
	during := latencies(log, middle.at.UnixMicro(), end.at.UnixMicro())
	calm, blown := middle.at.Sub(begin.at), end.at.Sub(middle.at)
	n := float64(len(logins))
	f := figures{
		"logins_per_s":           n / blown.Seconds(),
		"login_p50_ms":           percentile(logins, 0.5),
		"login_p99_ms":           percentile(logins, 0.99),
		"generator_us_per_login": micros(end.generator-middle.generator) / n,
		"steady_tps_before":      float64(len(before)) / calm.Seconds(),
		"steady_p50_ms_before":   percentile(before, 0.5),
		"steady_p99_ms_before":   percentile(before, 0.99),
		"steady_tps_during":      float64(len(during)) / blown.Seconds(),
		"steady_p50_ms_during":   percentile(during, 0.5),
		"steady_p99_ms_during":   percentile(during, 0.99),
	}
	f["steady_p99_ratio"] = f["steady_p99_ms_during"] / f["steady_p99_ms_before"]
	if s.target.proc != nil && s.at == s.target {
		each := micros(middle.pooler-begin.pooler) / float64(len(before))
		all := micros(end.pooler - middle.pooler)
		f["cpu_us_per_tx_before"] = each
		f["cpu_s_during"] = all / 1e6
		f["cpu_us_per_login"] = (all - each*float64(len(during))) / n
	}
	return f
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
