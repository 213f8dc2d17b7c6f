// Command pgvalet-demo shows pgvalet at work on one machine: a real PostgreSQL,
// a stand-in for Amazon RDS that lets nobody in without an IAM token before it,
// pgvalet before that, and many clients over few servers. It says what it does,
// checks what it claims, and removes everything at the end.
//
// It is what "make demo" runs; KEEP=1 in the environment leaves it running.
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

	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/backend/backendtest/pgfetch"
)

func main() {
	o := options{keep: os.Getenv("KEEP") != "" && os.Getenv("KEEP") != "0"}
	flag.StringVar(&o.pgvalet, "pgvalet", "bin/pgvalet", "the `program` to show")
	flag.BoolVar(&o.builtin, "builtin", false, "use the built-in load even where pgbench is installed")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "pgvalet-demo: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	if err := demo(o, os.Stdout); err != nil {
		fmt.Printf("demo: %v\n", err)
		os.Exit(1)
	}
	fmt.Println("demo: OK")
}

func demo(o options, out io.Writer) error {
	// Before the signals are caught: a download cannot be interrupted otherwise.
	binDir, err := postgresBinaries(out)
	if err != nil {
		return err
	}
	forgetSettings()
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer release()
	// A write to a closed terminal or pipe must not kill the demo before it has
	// cleaned up; audience ends it instead.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return show(ctx, o, binDir, &audience{out: out, gone: cancel})
}

// causeOf returns why ctx ended, if it has: then that is why there is err.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// audience calls gone when nobody can read any more.
type audience struct {
	out  io.Writer
	gone func(cause error)
}

func (a *audience) Write(p []byte) (int, error) {
	n, err := a.out.Write(p)
	if err != nil {
		a.gone(err)
	}
	return n, err
}

// postgresBinaries returns a directory with initdb and postgres, downloaded if
// need be.
func postgresBinaries(out io.Writer) (string, error) {
	dir, err := backendtest.FindPostgres()
	if errors.Is(err, backendtest.ErrNoPostgres) {
		return pgfetch.FetchPostgres(context.Background(), "", out)
	}
	return dir, err
}

// forgetSettings removes what libpq, pgx and the AWS SDK would read from the
// environment: the demo must not depend on it, and never use real credentials.
func forgetSettings() {
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "PG") || strings.HasPrefix(e, "AWS_") {
			name, _, _ := strings.Cut(e, "=")
			os.Unsetenv(name)
		}
	}
}
