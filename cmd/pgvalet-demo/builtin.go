package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// builtinLoad does what pgbench's select-only script does, where there is no
// pgbench.
var builtinLoad = load{name: "the built-in load", prepare: makeTable, run: runBuiltin}

func makeTable(ctx context.Context, e endpoint) error {
	conn, err := e.connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		"CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84))",
		fmt.Sprintf("INSERT INTO pgbench_accounts SELECT aid, (aid - 1) / 100000 + 1, 0, '' FROM generate_series(1, %d) AS aid", rows),
		"ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)",
		"VACUUM ANALYZE pgbench_accounts",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// loginsAtOnce bounds the clients that log in at the same time.
const loginsAtOnce = 20

func runBuiltin(ctx context.Context, e endpoint, report func(progress)) (result, error) {
	conns := make([]*pgx.Conn, clients)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				conn.Close(ctx)
			}
		}
	}()
	logins, loginCtx := errgroup.WithContext(ctx)
	logins.SetLimit(loginsAtOnce)
	for i := range conns {
		logins.Go(func() (err error) {
			conns[i], err = e.connect(loginCtx, database)
			return err
		})
	}
	if err := logins.Wait(); err != nil {
		return result{}, err
	}

	var c counts
	start := time.Now()
	var working sync.WaitGroup
	for _, conn := range conns {
		working.Go(func() { c.work(ctx, conn, start.Add(duration)) })
	}
	stopReports := make(chan struct{})
	var reporting sync.WaitGroup
	reporting.Go(func() { c.report(start, stopReports, report) })
	working.Wait()
	took := time.Since(start)
	close(stopReports)
	reporting.Wait()

	n := c.transactions.Load()
	return result{
		transactions: int(n),
		tps:          float64(n) / took.Seconds(),
		errors:       c.errors,
		firstError:   c.firstError,
	}, ctx.Err()
}

// counts are what all clients have done together.
type counts struct {
	transactions atomic.Int64

	mu         sync.Mutex // guards the rest
	errors     int
	firstError string
}

// work is one client, until the end or an error.
func (c *counts) work(ctx context.Context, conn *pgx.Conn, end time.Time) {
	for time.Now().Before(end) {
		var balance int
		err := conn.QueryRow(ctx, "SELECT abalance FROM pgbench_accounts WHERE aid = $1", 1+rand.IntN(rows)).Scan(&balance)
		if err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.errors++
			if c.firstError == "" {
				c.firstError = err.Error()
			}
			return
		}
		c.transactions.Add(1)
	}
}

// report reports progress every second until stop is closed.
func (c *counts) report(start time.Time, stop <-chan struct{}, report func(progress)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before, last := int64(0), start
	for {
		select {
		case now := <-tick.C:
			n := c.transactions.Load()
			report(progress{elapsed: now.Sub(start), tps: float64(n-before) / now.Sub(last).Seconds()})
			before, last = n, now
		case <-stop:
			return
		}
	}
}
