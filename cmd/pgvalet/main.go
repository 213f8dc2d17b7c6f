// Command pgvalet is a connection pooler for PostgreSQL: clients log in to it
// with a local password, and it lends them connections to a server that it
// opens itself, with RDS IAM tokens if told so.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
)

// version is set by the linker.
var version = "dev"

// usage is what --help prints.
const usage = `pgvalet is a connection pooler for PostgreSQL, made to take PgBouncer's place.

Usage:
  pgvalet [options] CONFIG        run with a configuration file (.toml)
  pgvalet check CONFIG            say whether a configuration is valid (exit 0) or not (exit 1)

Options:
  -q, --quiet       log to the log file only, not to the terminal
  -v, --verbose     log debugging lines too
  -V, --version     print the version
  -h, --help        print this help

Signals: TERM waits for clients to leave, INT for transactions to end, QUIT
stops at once; HUP reloads the configuration; USR1 pauses, USR2 resumes.
`

// exitError ends the program with a code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as parameters; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	err := command(args, stdout, stderr)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "pgvalet: "+err.Error())
	if e := (*exitError)(nil); errors.As(err, &e) {
		return e.code
	}
	return 1
}

// countFlag counts how often a flag is given.
type countFlag int

func (c *countFlag) String() string   { return fmt.Sprint(int(*c)) }
func (c *countFlag) Set(string) error { *c++; return nil }
func (c *countFlag) IsBoolFlag() bool { return true }

func command(args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "check" {
		return check(args[1:], stdout)
	}
	var quiet, printVersion bool
	var verbose countFlag
	fs := flag.NewFlagSet("pgvalet", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.BoolVar(&quiet, "q", false, "")
	fs.BoolVar(&quiet, "quiet", false, "")
	fs.Var(&verbose, "v", "")
	fs.Var(&verbose, "verbose", "")
	fs.BoolVar(&printVersion, "V", false, "")
	fs.BoolVar(&printVersion, "version", false, "")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return nil
	case err != nil:
		return fmt.Errorf("%w; see pgvalet --help", err)
	case printVersion:
		fmt.Fprintf(stdout, "pgvalet %s\n%s\n", version, goVersion())
		return nil
	case fs.NArg() == 0:
		return errors.New("no configuration file specified; see pgvalet --help")
	case fs.NArg() > 1:
		return fmt.Errorf("one configuration file expected, got %d arguments; see pgvalet --help", fs.NArg())
	}
	return serve(fs.Arg(0), int(verbose), quiet, stderr)
}

func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown Go version"
}

// check says whether a configuration and the files that it names can be used.
func check(args []string, stdout io.Writer) error {
	if len(args) != 1 || len(args[0]) == 0 || args[0][0] == '-' {
		return errors.New("usage: pgvalet check CONFIG")
	}
	g, err := load(args[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "configuration file %s is valid: %d databases, %d users in auth_file\n", args[0], len(g.config.Databases), g.userlist.Len())
	return nil
}
