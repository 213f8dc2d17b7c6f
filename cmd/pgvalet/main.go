// Command pgvalet is a connection pooler for PostgreSQL: clients log in to it
// with a local password, and it lends them connections to a server that it
// opens itself, with RDS IAM tokens if told so.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/spf13/pflag"

	"github.com/pgvalet/pgvalet/frontend"
)

// version is set by the linker.
var version = "dev"

// usage is what --help prints.
const usage = `pgvalet is a connection pooler for PostgreSQL, made to take PgBouncer's place.

Usage:
  pgvalet [options] CONFIG        run with a configuration file: TOML if its
                                  name ends in .toml, else PgBouncer's .ini
  pgvalet check CONFIG            say whether a configuration is valid (exit 0) or not (exit 1)
  pgvalet check --connect CONFIG  also log in to its databases, step by step, and say what fails (exit 2);
                                  --database NAME: only this one; --user NAME: where none is forced; --json
  pgvalet convert [-o FILE] INI   write PgBouncer's configuration as TOML
  pgvalet iam-policy CONFIG       print the least that IAM must allow, as JSON or with --terraform;
                                  --resource-id [DATABASE=]ID, --account N

Options:
  -d, --daemon      run in the background; needs pidfile, and logfile or syslog
  -q, --quiet       log to logfile and syslog only, not to the terminal
  -u, --user=NAME   become this user, when started as root
  -v, --verbose     log debugging lines too; twice: more of them
  -R, --reboot      start if no other process has the unix socket; taking over
                    the clients of one that has is not supported
  -V, --version     print the version
  -h, --help        print this help

Signals: TERM waits for clients to leave, INT for transactions to end, QUIT
stops at once; HUP reloads the configuration; USR1 pauses, USR2 resumes.
`

// exitCode ends the program with a code, when all has been said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// options are what the command line says.
type options struct {
	path          string
	daemon, quiet bool
	reboot        bool
	user          string
	verbose       int
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as parameters; it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	err := command(args, stdout, stderr)
	if err == nil {
		return 0
	}
	if c := exitCode(0); errors.As(err, &c) {
		return int(c)
	}
	fmt.Fprintln(stderr, "pgvalet: "+err.Error())
	return 1
}

func command(args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "check" {
		return check(args[1:], stdout)
	}
	if len(args) > 0 && args[0] == "convert" {
		return convert(args[1:], stdout, stderr)
	}
	if len(args) > 0 && args[0] == "iam-policy" {
		return iamPolicy(args[1:], stdout, stderr)
	}
	var o options
	var printVersion bool
	// As getopt reads them: -qd, -uNAME, and options behind the file.
	flags := pflag.NewFlagSet("pgvalet", pflag.ContinueOnError)
	flags.Usage = func() {}
	flags.BoolVarP(&o.daemon, "daemon", "d", false, "")
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "")
	flags.BoolVarP(&o.reboot, "reboot", "R", false, "")
	flags.StringVarP(&o.user, "user", "u", "", "")
	flags.CountVarP(&o.verbose, "verbose", "v", "")
	flags.BoolVarP(&printVersion, "version", "V", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return nil
	case err != nil:
		return fmt.Errorf("%w; see pgvalet --help", err)
	case printVersion:
		fmt.Fprintf(stdout, "%s\n%s\n", frontend.Version(version), goVersion())
		return nil
	case flags.NArg() == 0:
		return errors.New("no configuration file specified; see pgvalet --help")
	case flags.NArg() > 1:
		return fmt.Errorf("one configuration file expected, got %d arguments; see pgvalet --help", flags.NArg())
	}
	o.path = flags.Arg(0)
	if !o.daemon {
		return serve(o, nil, stderr)
	}
	if parent := parentPipe(); parent != nil {
		return serve(o, parent, stderr)
	}
	return startDaemon(args, stderr)
}

func goVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.GoVersion
	}
	return "unknown Go version"
}
