package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// loadPatience bounds the load with its preparation and its logins, which take
// a second or two on a machine with nothing else to do.
const loadPatience = duration + time.Minute

// load is work for pgvalet: clients that look up single rows, each as fast as
// it gets answers.
type load struct {
	name    string
	prepare func(ctx context.Context, e endpoint) error // makes the table, through pgvalet
	run     func(ctx context.Context, e endpoint, progress func(progress)) (result, error)
}

// progress is how it goes, about once in a second.
type progress struct {
	elapsed time.Duration // since the load began
	tps     float64       // transactions per second since the last progress
}

// result is what the clients have seen. Errors are the clients' that did not
// get to the end; the first says what one of them was told.
type result struct {
	transactions int
	tps          float64
	errors       int
	firstError   string
}

// measure runs a load and watches it.
func (s *stage) measure(ctx context.Context, load load, out io.Writer) (*report, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, loadPatience, fmt.Errorf("the load did not end within %v", loadPatience))
	defer cancel()
	start := time.Now()
	if err := load.prepare(ctx, s.endpoint); err != nil {
		return nil, causeOf(ctx, fmt.Errorf("%s: %w", load.name, err))
	}
	step(out, "table", "%s rows made through pgvalet by %s, in %.1f s", grouped(rows), load.name, time.Since(start).Seconds())

	w, err := s.startWatch(ctx)
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	step(out, "load", "%s, %d clients over TLS, %d servers, %.0f s\n", load.name, clients, servers, duration.Seconds())
	res, err := load.run(ctx, s.endpoint, func(p progress) {
		now := w.current()
		fmt.Fprintf(out, "%14.1f s %9s transactions/s   clients %4d   servers %3d\n",
			p.elapsed.Seconds(), grouped(int(p.tps)), now.clients, now.servers)
	})
	peak, watchErr := w.stop()
	if err != nil {
		return nil, causeOf(ctx, fmt.Errorf("%s: %w", load.name, err))
	}
	if watchErr != nil {
		return nil, causeOf(ctx, watchErr)
	}
	return &report{result: res, peak: peak, rds: s.rds.Stats()}, nil
}

// findLoad chooses pgbench, if it is there and wanted.
func findLoad(binDir string, builtin bool) load {
	if path := backendtest.FindPgbench(binDir); path != "" && !builtin {
		return pgbench(path)
	}
	return builtinLoad
}
