package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// What is measured. A pooler's kind is its program's name.
const (
	pgvaletKind   = "pgvalet"
	otherKind     = "other" // another build of pgvalet
	pgbouncerKind = "pgbouncer"
	directKind    = "direct" // PostgreSQL without a pooler
	relayKind     = "relay"  // this program: see relay.go

	// While pgvalet has the storm.
	besideKind      = "beside"       // PostgreSQL without a pooler
	relayBesideKind = "relay beside" // the relay
)

// targetOrder is the order of the targets in a table.
var targetOrder = []string{pgvaletKind, otherKind, pgbouncerKind, directKind, besideKind, relayBesideKind, relayKind, "1 loop", "2 loops", "4 loops"}

// The variants of a suite.
const (
	plainVariant = "plain"
	tlsVariant   = "tls" // on both sides of the pooler
)

// target is one of the things that a suite compares: a pooler, or PostgreSQL.
type target struct {
	name     string
	port     int
	variant  string
	endpoint endpoint
	proc     *backendtest.Process // nil for PostgreSQL
	logFile  string
}

// startPatience bounds a pooler's start up to its first answer.
const startPatience = 15 * time.Second

// direct is PostgreSQL itself.
func (s *stage) direct(variant string) *target { return s.newTarget(directKind, s.pg.Port, variant) }

func (s *stage) newTarget(name string, port int, variant string) *target {
	t := &target{name: name, port: port, variant: variant}
	t.endpoint = endpoint{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), database: databaseName, credentials: s.credentials}
	if variant == tlsVariant {
		t.endpoint.tls = clientTLS()
	}
	return t
}

// startPooler starts a pooler of its own for the caller, who stops it, and
// returns when a client has got an answer through it.
func (s *stage) startPooler(ctx context.Context, kind, name, variant string, extra ...setting) (*target, error) {
	port, err := backendtest.FreePort()
	if err != nil {
		return nil, err
	}
	s.started++
	config := fmt.Sprintf("%s-%d.conf", kind, s.started)
	pooler := append(append([]setting{{"listen_port", port}}, poolerSettings(variant)...), extra...)
	database := databaseSettings(s.pg.Port, s.credentials.password)
	text := pgbouncerConfig(pooler, database)
	if kind != pgbouncerKind {
		config = strings.TrimSuffix(config, ".conf") + ".toml"
		text = pgvaletConfig(pooler, database)
	}
	if err := s.write(config, text); err != nil {
		return nil, err
	}
	t := s.newTarget(name, port, variant)
	t.logFile = filepath.Join(s.dir, config+".log")
	log, err := os.Create(t.logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(s.programs[kind], config)
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = s.environment()
	if t.proc, err = startProcess(cmd, s.credential); err != nil {
		return nil, err
	}
	if err := t.ready(ctx); err != nil {
		t.stop()
		return nil, fmt.Errorf("start %s: %w%s", name, err, t.logTail())
	}
	return t, nil
}

// environment is what a pooler is started with: no GOGC, GOMAXPROCS or the like, as
// measured is what is shipped.
func (s *stage) environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C", "TZ=UTC"}
}

// ready returns when a client has got an answer.
func (t *target) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := t.endpoint.login(ctx)
		if err == nil {
			defer c.close()
			return c.query("SELECT 1")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) { // not listening yet
			return err
		}
		select {
		case <-tick.C:
		case <-t.proc.Done():
			return fmt.Errorf("it ended: %w", t.proc.Wait())
		case <-ctx.Done():
			return err
		}
	}
}

// stop ends the pooler; PostgreSQL stays.
func (t *target) stop() {
	if t.proc != nil {
		_ = t.proc.Stop(stopPatience, syscall.SIGQUIT, syscall.SIGTERM) // how it ended is of no interest
	}
}

// cpuOrNone returns the CPU time that the pooler has used so far, and 0 for
// PostgreSQL, whose many processes are not what is compared. It is an error if the
// pooler has ended.
func (t *target) cpuOrNone() (time.Duration, error) { return t.spent(cpuTime) }

// kernelOrNone is how much of cpuOrNone was spent in the kernel.
func (t *target) kernelOrNone() (time.Duration, error) { return t.spent(kernelTime) }

func (t *target) spent(clock func(pid int) (time.Duration, error)) (time.Duration, error) {
	if t.proc == nil {
		return 0, nil
	}
	select {
	case <-t.proc.Done():
		return 0, fmt.Errorf("%s has ended (%v)%s", t.name, t.proc.Wait(), t.logTail())
	default:
		return clock(t.proc.PID())
	}
}

// logTail returns the end of the pooler's log, to be put behind an error.
func (t *target) logTail() string {
	log, err := os.ReadFile(t.logFile)
	if err != nil || len(log) == 0 {
		return ""
	}
	const lines = 5
	all := strings.Split(strings.TrimSpace(string(log)), "\n")
	return "; its log ends: " + strings.Join(all[max(0, len(all)-lines):], " | ")
}
