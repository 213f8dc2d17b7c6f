package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

type options struct {
	pgvalet string // path of the program
	builtin bool   // no pgbench
	keep    bool   // leave it running until interrupted
}

// What is shown: so many clients share so few servers, for so long.
const (
	clients  = 200
	servers  = 10
	duration = 10 * time.Second
)

// step prints one line of what was found, started or checked.
func step(out io.Writer, name, format string, args ...any) {
	fmt.Fprintf(out, "%-14s %s\n", name, fmt.Sprintf(format, args...))
}

// show runs the demo from beginning to end. Whatever it started has ended
// when it returns.
func show(ctx context.Context, o options, binDir string, out io.Writer) (err error) {
	// Not os.TempDir: its name is too long for a unix socket on macOS.
	dir, err := os.MkdirTemp("/tmp", "pgvalet-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	s, err := setStage(ctx, binDir, dir, out)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer func() { err = errors.Join(err, s.close()) }()

	defer func() {
		if err == nil || errors.Is(err, context.Cause(ctx)) {
			return
		}
		if log, logErr := os.ReadFile(s.logFile()); logErr == nil { // else it was not started
			fmt.Fprintf(out, "\nThe end of pgvalet's log:\n\n%s\n\n", indent(lastLines(string(log), 20)))
		}
	}()
	v, err := s.startPgvalet(ctx, o.pgvalet, out)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer v.kill()

	if err := s.act(ctx, o, v, out); err != nil {
		return err
	}
	took, err := v.stop(o.keep)
	if err != nil {
		return err
	}
	step(out, "shutdown", "pgvalet ended well, %.1f s after SIGTERM", took.Seconds())
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		return err
	}
	lines, err := searchLog(log, s.secrets())
	if err != nil {
		return err
	}
	step(out, "log", "%d lines, no token, password or key in them", lines)
	return nil
}

// act is the demo while everything is up. The error says what was not as
// promised.
func (s *stage) act(ctx context.Context, o options, v *pgvalet, out io.Writer) error {
	r, err := s.perform(ctx, o, out)
	if err != nil {
		return v.endOr(causeOf(ctx, err))
	}
	fmt.Fprintf(out, "\n%s\n", r)
	err = v.endOr(r.check())
	if !o.keep {
		return err
	}
	if err != nil {
		fmt.Fprintf(out, "Not as it should be: %v\n\n", err)
	}
	s.printHints(out)
	select {
	case <-ctx.Done():
		fmt.Fprintln(out)
	case <-v.ended:
	}
	return v.endOr(err)
}

// perform sends queries through pgvalet and measures.
func (s *stage) perform(ctx context.Context, o options, out io.Writer) (*report, error) {
	if err := s.firstQuery(ctx, out); err != nil {
		return nil, err
	}
	return s.measure(ctx, findLoad(s.pg.BinDir, o.builtin), out)
}

// firstQuery runs a query through pgvalet and says what came of it.
func (s *stage) firstQuery(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	conn, err := s.endpoint.connect(ctx, database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var role string
	if err := conn.QueryRow(ctx, "SELECT current_user").Scan(&role); err != nil {
		return fmt.Errorf("the first query: %w", err)
	}
	step(out, "first query", "%s, let in with a password, is %s in PostgreSQL, let in with an IAM token", s.endpoint.user, role)
	return nil
}

// printHints says what to try while the demo is left running.
func (s *stage) printHints(out io.Writer) {
	fmt.Fprintf(out, `pgvalet is left running. To try it:

  export PGPASSWORD=%s
  psql '%s'
  psql '%s' -c 'SHOW POOLS'

Its configuration and log are in %s. Ctrl-C ends and removes everything.
`, s.endpoint.password, s.endpoint.conninfo(database), s.endpoint.conninfo(console), s.dir)
}
