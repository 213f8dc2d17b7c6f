package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// floorSuite shows what the sockets cost by themselves: the poolers beside a relay
// that uses the same event loop, one server for each client, and looks at
// nothing. No pooler that receives and sends can do with less; that PostgreSQL
// has more processes to switch between is the relay's disadvantage.
var floorSuite = suite{
	name:  "floor",
	title: "The floor: a relay that only moves bytes",
	bases: []string{pgbouncerKind, relayKind},
	figures: []figure{
		{key: "tps", title: "transactions/s"},
		{key: "cpu_us_per_tx", title: "CPU µs/transaction", digits: 1, cost: true},
		{key: "kernel_us_per_tx", title: "of it in the kernel", digits: 1, cost: true},
		{key: "machine_us_per_tx", title: "all processes' CPU µs/transaction", digits: 1, cost: true},
	},
	run: runFloorSuite,
}

func runFloorSuite(ctx context.Context, b *bench, result *SuiteResult) error {
	return b.eachVariant(ctx, false, func(variant string, targets []*target) error {
		relay, err := b.startRelay(ctx, variant)
		if err != nil {
			return err
		}
		defer relay.stop()
		return b.floorCases(ctx, variant, append(targets, relay), result)
	})
}

func (b *bench) floorCases(ctx context.Context, variant string, targets []*target, result *SuiteResult) error {
	for _, mode := range b.options.modes {
		for _, clients := range b.options.clients {
			if clients > 100 {
				continue // the relay needs a server for each
			}
			name := fmt.Sprintf("%s, %d clients", mode, clients)
			samples, err := b.pgbenchRounds(ctx, fmt.Sprintf("floor %s %s", variant, name), targets, mode, clients)
			if err != nil {
				return err
			}
			result.add(Case{Name: name, Variant: variant, Samples: samples})
		}
	}
	return nil
}

// startRelay runs this program as a relay to PostgreSQL. The caller stops it.
func (s *stage) startRelay(ctx context.Context, variant string) (*target, error) {
	if s.programs[relayKind] == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		if err := s.install(relayKind, self); err != nil {
			return nil, err
		}
	}
	port, err := backendtest.FreePort()
	if err != nil {
		return nil, err
	}
	t := s.newTarget(relayKind, port, variant)
	cmd := exec.Command(s.programs[relayKind], relayCommand, variant, t.endpoint.addr, net.JoinHostPort("127.0.0.1", strconv.Itoa(s.pg.Port)))
	cmd.Dir, cmd.Env, cmd.Stderr = s.dir, s.environment(), os.Stderr
	if t.proc, err = startProcess(cmd, s.credential); err != nil {
		return nil, err
	}
	if err := t.ready(ctx); err != nil {
		t.stop()
		return nil, fmt.Errorf("start %s: %w", relayKind, err)
	}
	return t, nil
}
