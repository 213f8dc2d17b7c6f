package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"golang.org/x/sync/errgroup"
)

// idleSuite is what a client costs that does nothing.
var idleSuite = suite{
	name:  "idle",
	title: "Idle clients",
	bases: []string{pgbouncerKind},
	figures: []figure{
		{key: "bytes_per_client", title: "resident bytes/client", cost: true, plot: true},
		{key: "resident_mib", title: "resident MiB in all", digits: 1, cost: true},
		{key: "peak_mib", title: "resident MiB at most", digits: 1, cost: true},
		{key: "login_s", title: "seconds to log all in", digits: 2, cost: true, plot: true},
	},
	run: func(ctx context.Context, b *bench, result *SuiteResult) error {
		return b.crowdCases(ctx, result, func(ctx context.Context, kind, variant string, count, _ int) (figures, error) {
			return b.idle(ctx, kind, variant, count)
		})
	},
}

// loginWorkers log in at the same time.
const loginWorkers = 16

// idle measures a fresh pooler, as what earlier clients have left behind in
// memory must not count. The first few clients, with whom the servers come,
// are not counted.
func (b *bench) idle(ctx context.Context, kind, variant string, count int) (_ figures, err error) {
	t, err := b.startPooler(ctx, kind, kind, variant)
	if err != nil {
		return nil, err
	}
	clients := make([]*client, count)
	defer dismiss(t, clients)
	if err := t.loginAll(ctx, clients[:loginWorkers]); err != nil {
		return nil, err
	}
	before, err := b.settled(ctx, t)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := t.loginAll(ctx, clients[loginWorkers:]); err != nil {
		return nil, err
	}
	took := time.Since(start)
	after, err := b.settled(ctx, t)
	if err != nil {
		return nil, err
	}
	peak, err := peakBytes(t.proc.PID())
	if err != nil {
		return nil, err
	}
	if err := clients[0].query("SELECT 1"); err != nil {
		return nil, fmt.Errorf("an idle client: %w", err)
	}
	if err := clients[count-1].query("SELECT 1"); err != nil {
		return nil, fmt.Errorf("an idle client: %w", err)
	}
	return figures{
		"bytes_per_client":    float64(after-before) / float64(count-loginWorkers),
		"resident_mib_before": float64(before) / (1 << 20),
		"resident_mib":        float64(after) / (1 << 20),
		"peak_mib":            float64(peak) / (1 << 20),
		"login_s":             took.Seconds(),
	}, nil
}

// loginAll fills clients with ones that have run a query.
func (t *target) loginAll(ctx context.Context, clients []*client) error {
	logins, loginCtx := errgroup.WithContext(ctx)
	logins.SetLimit(loginWorkers)
	for i := range clients {
		logins.Go(func() error {
			if loginCtx.Err() != nil {
				return loginCtx.Err()
			}
			// Not loginCtx, which ends with the logins and would end the client.
			c, err := t.endpoint.login(ctx)
			if err != nil {
				return err
			}
			clients[i] = c
			return c.query("SELECT 1")
		})
	}
	return logins.Wait()
}

const (
	settlePatience = 3 * time.Minute
	settlePoll     = 200 * time.Millisecond
	settleShare    = 0.01 // a change below is none
)

// settled returns the pooler's resident memory once it has not changed for
// the time that -settle says.
func (b *bench) settled(ctx context.Context, t *target) (int64, error) {
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	start := time.Now()
	since, last := start, int64(0)
	for {
		if _, err := t.cpuOrNone(); err != nil { // it has ended
			return 0, err
		}
		now, err := residentBytes(t.proc.PID())
		if err != nil {
			return 0, err
		}
		if math.Abs(float64(now-last)) > settleShare*float64(last) {
			since, last = time.Now(), now
		}
		if time.Since(since) >= b.options.settle {
			return now, nil
		}
		if time.Since(start) > settlePatience {
			return 0, fmt.Errorf("memory of %s does not settle", t.name)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}
