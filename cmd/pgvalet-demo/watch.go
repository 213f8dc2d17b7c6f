package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sample is what there is at one moment, or at most over time.
type sample struct {
	clients  int // of pgvalet, by its console
	servers  int // of pgvalet, by its console
	backends int // of PostgreSQL for pgvalet, by pg_stat_activity
}

// samplePeriod is how often samples are taken.
const samplePeriod = 100 * time.Millisecond

// watch takes samples on a goroutine of its own, from startWatch to stop.
type watch struct {
	console *pgx.Conn // to pgvalet's admin console
	direct  *pgx.Conn // to PostgreSQL, past pgvalet and the stand-in
	stopped chan struct{}
	done    chan error // how the goroutine ended

	mu        sync.Mutex // guards now and peak
	now, peak sample
}

// startWatch begins to take samples. They end early with ctx.
func (s *stage) startWatch(ctx context.Context) (*watch, error) {
	w := &watch{stopped: make(chan struct{}), done: make(chan error, 1)}
	var err error
	if w.console, err = s.endpoint.connect(ctx, console); err != nil {
		return nil, fmt.Errorf("admin console: %w", err)
	}
	if w.direct, err = s.pg.Connect(ctx, database, s.pg.Superuser); err != nil {
		w.console.Close(ctx)
		return nil, err
	}
	go func() {
		err := w.run(ctx)
		w.console.Close(ctx)
		w.direct.Close(ctx)
		w.done <- err
	}()
	return w, nil
}

// current returns the last sample.
func (w *watch) current() sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// stop ends the watch and returns the most that there was of each.
func (w *watch) stop() (sample, error) {
	close(w.stopped)
	err := <-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.peak, err
}

func (w *watch) run(ctx context.Context) error {
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	for {
		now, err := w.take(ctx)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.now = now
		w.peak.clients = max(w.peak.clients, now.clients)
		w.peak.servers = max(w.peak.servers, now.servers)
		w.peak.backends = max(w.peak.backends, now.backends)
		w.mu.Unlock()
		select {
		case <-tick.C:
		case <-w.stopped:
			return nil
		}
	}
}

func (w *watch) take(ctx context.Context) (now sample, err error) {
	// The console knows the simple query protocol only.
	results, err := w.console.PgConn().Exec(ctx, "SHOW POOLS").ReadAll()
	if err != nil {
		return sample{}, fmt.Errorf("SHOW POOLS: %w", err)
	}
	for _, r := range results {
		c, s, err := countPools(r)
		if err != nil {
			return sample{}, err
		}
		now.clients += c
		now.servers += s
	}
	err = w.direct.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", serverUser).Scan(&now.backends)
	return now, err
}

// countPools adds up the clients and the servers of the demo's database in the
// answer to SHOW POOLS. Every client and every server is in one of the columns
// that are counted.
func countPools(r *pgconn.Result) (clients, servers int, err error) {
	column := make(map[string]int)
	for i, f := range r.FieldDescriptions {
		column[f.Name] = i
	}
	for _, row := range r.Rows {
		sum := func(names ...string) (total int) {
			for _, name := range names {
				i, ok := column[name]
				if !ok {
					err = fmt.Errorf("SHOW POOLS has no column %s", name)
					return 0
				}
				n, convErr := strconv.Atoi(string(row[i]))
				if convErr != nil {
					err = fmt.Errorf("SHOW POOLS: %s: %w", name, convErr)
				}
				total += n
			}
			return total
		}
		if i, ok := column["database"]; !ok || string(row[i]) != database {
			continue
		}
		clients += sum("cl_active", "cl_waiting")
		servers += sum("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login")
	}
	return clients, servers, err
}
