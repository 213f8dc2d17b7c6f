package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// startPatience bounds pgvalet's start and its first query, stopPatience
	// each step of its end.
	startPatience = 10 * time.Second
	stopPatience  = 5 * time.Second
)

// pgvalet is the program at work. One goroutine waits for it, and closes ended.
type pgvalet struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // how it ended; to be read after ended
}

// startPgvalet starts the program with the stage's configuration and access
// key, and returns when a client can log in.
func (s *stage) startPgvalet(ctx context.Context, program string, out io.Writer) (*pgvalet, error) {
	version, err := exec.CommandContext(ctx, program, "-V").Output()
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there; make build makes it", program)
	}
	if err != nil {
		return nil, fmt.Errorf("%s -V: %w", program, err)
	}
	name, _, _ := strings.Cut(string(version), "\n")
	toml, err := os.ReadFile(s.configFile())
	if err != nil {
		return nil, err
	}
	step(out, "configuration", "%s\n\n%s\n", s.configFile(), indent(string(toml)))

	v := &pgvalet{cmd: exec.Command(program, s.configFile()), ended: make(chan struct{})}
	log, err := os.Create(s.logFile())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	v.cmd.Stdout, v.cmd.Stderr = log, log
	v.cmd.Env = append(os.Environ(),
		"HOME="+s.dir, // no ~/.aws
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_REGION="+s.rds.Region(),
		"AWS_ACCESS_KEY_ID="+s.key.ID,
		"AWS_SECRET_ACCESS_KEY="+s.key.Secret,
		"AWS_SESSION_TOKEN="+s.key.SessionToken)
	v.cmd.SysProcAttr = ownGroup()
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(v.ended)
		v.err = v.cmd.Wait()
	}()
	if err := v.ready(ctx, s.endpoint); err != nil {
		v.kill()
		return nil, err
	}
	step(out, "pgvalet", "%s from %s, process %d, on 127.0.0.1:%d", strings.TrimPrefix(name, "pgvalet "), program, v.cmd.Process.Pid, s.endpoint.port)
	return v, nil
}

// ownGroup keeps a terminal's Ctrl-C from the child, which the demo stops in
// its turn.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// ready returns when a client can log in to pgvalet.
func (v *pgvalet) ready(ctx context.Context, e endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := e.connect(ctx, database)
		if err == nil {
			return conn.Close(ctx)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) { // not listening yet
			return fmt.Errorf("log in to pgvalet: %w", err)
		}
		select {
		case <-tick.C:
		case <-v.ended:
			return v.endOr(nil)
		case <-ctx.Done():
			return fmt.Errorf("log in to pgvalet: %w", err)
		}
	}
}

// endOr returns that the program, which nobody stopped, has ended; else err.
func (v *pgvalet) endOr(err error) error {
	select {
	case <-v.ended:
		if v.err == nil {
			return errors.New("pgvalet ended by itself")
		}
		return fmt.Errorf("pgvalet ended by itself: %w", v.err)
	default:
		return err
	}
}

// stop sends SIGTERM, on which pgvalet waits for its clients to leave, and
// returns how long its end took. It is an error if it does not end in time or
// not well. With force a client may still be there: a second SIGTERM ends
// pgvalet at once.
func (v *pgvalet) stop(force bool) (time.Duration, error) {
	if err := v.endOr(nil); err != nil {
		return 0, err
	}
	start := time.Now()
	attempts := 1
	if force {
		attempts = 2
	}
	for range attempts {
		if err := v.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return 0, err
		}
		timer := time.NewTimer(stopPatience)
		select {
		case <-v.ended:
			timer.Stop()
			if v.err != nil {
				return 0, fmt.Errorf("pgvalet after SIGTERM: %w", v.err)
			}
			return time.Since(start), nil
		case <-timer.C:
		}
	}
	return 0, fmt.Errorf("pgvalet runs on after SIGTERM, for %v", stopPatience)
}

// kill ends the program if it still runs.
func (v *pgvalet) kill() {
	_ = v.cmd.Process.Kill() // an error says that it has ended
	<-v.ended
}
