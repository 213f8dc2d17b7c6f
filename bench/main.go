package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		os.Exit(1)
	}
}

// run is main with its surroundings as parameters: tables go to stdout,
// progress to stderr.
func run(args []string, stdout, stderr io.Writer) error {
	if len(args) == 4 && args[0] == relayCommand {
		return runRelay(args[1], args[2], args[3])
	}
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	if o.render != nil {
		return renderFiles(o.render, o.svg)
	}
	forgetSettings()
	if _, err := raiseFileLimit(); err != nil {
		return err
	}
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer release()
	return measure(ctx, o, args, stdout, stderr)
}

// measure runs the suites. A suite that fails does not keep the others from
// running, but makes an error in the end.
func measure(ctx context.Context, o *options, args []string, stdout, stderr io.Writer) (err error) {
	results := &Results{
		Date: time.Now().UTC().Truncate(time.Second), Command: args, Commit: commit(ctx),
		Machine: describeMachine(), Programs: make(map[string]string), Settings: make(map[string]string),
		Rounds: o.rounds, Seconds: o.seconds,
	}
	s, err := setStage(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.describe(ctx, o, results); err != nil {
		return err
	}
	fmt.Fprint(stdout, header(results))

	b := &bench{stage: s, options: o, out: stderr, logins: make(map[string]time.Duration)}
	var failed []error
	for _, name := range o.suites {
		suite, err := suiteNamed(name)
		if err != nil {
			return err
		}
		result, err := suite.measure(ctx, b, stdout)
		results.Suites = append(results.Suites, result)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			fmt.Fprintln(stderr, "bench: "+err.Error())
			failed = append(failed, err)
		}
		// After each suite: hours of measuring should not be lost.
		if o.json != "" {
			if err := results.write(o.json); err != nil {
				return err
			}
		}
	}
	if o.svg != "" {
		if err := os.WriteFile(o.svg, []byte(plot([]*Results{results})), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// describe installs the poolers, and records what is measured.
func (s *stage) describe(ctx context.Context, o *options, r *Results) error {
	if err := s.describePgvalet(ctx, pgvaletKind, o.pgvalet, r); err != nil {
		return err
	}
	if o.other != "" {
		if err := s.describePgvalet(ctx, otherKind, o.other, r); err != nil {
			return err
		}
	}
	if o.pgbouncer != "" {
		version, err := versionOf(ctx, o.pgbouncer, "--version")
		if err != nil {
			return fmt.Errorf("%s --version: %w", o.pgbouncer, err)
		}
		if err := s.install(pgbouncerKind, o.pgbouncer); err != nil {
			return err
		}
		r.Programs[pgbouncerKind] = strings.TrimPrefix(version, "PgBouncer ")
	}
	version, err := versionOf(ctx, s.pgbench, "--version")
	if err != nil {
		return fmt.Errorf("%s --version: %w", s.pgbench, err)
	}
	r.Programs["pgbench"] = strings.TrimPrefix(version, "pgbench (PostgreSQL) ")
	r.Programs["postgresql"] = s.pg.Version
	for _, variant := range []string{plainVariant, tlsVariant} {
		var lines []string
		for _, setting := range poolerSettings(variant) {
			lines = append(lines, fmt.Sprintf("%s=%v", setting.name, setting.value))
		}
		r.Settings["poolers, "+variant] = strings.Join(lines, " ")
	}
	var lines []string
	for name, value := range postgresSettings(o) {
		lines = append(lines, name+"="+value)
	}
	r.Settings["postgresql"] = strings.Join(sorted(lines), " ")
	return nil
}

// describePgvalet does it for one build of pgvalet.
func (s *stage) describePgvalet(ctx context.Context, kind, program string, r *Results) error {
	version, err := versionOf(ctx, program, "-V")
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is not there; make build makes it", program)
	}
	if err != nil {
		return fmt.Errorf("%s -V: %w", program, err)
	}
	_, version, _ = strings.Cut(version, "pgvalet ") // PgBouncer's version comes first, for tools that look for that
	r.Programs[kind] = strings.TrimSuffix(version, ")")
	return s.install(kind, program)
}

// forgetSettings removes what libpq and pgx would read from the environment:
// a benchmark must not depend on it.
func forgetSettings() {
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "PG") && !strings.HasPrefix(e, "PGBOUNCER=") {
			name, _, _ := strings.Cut(e, "=")
			os.Unsetenv(name)
		}
	}
}
