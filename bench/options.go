package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are the command line.
type options struct {
	pgvalet   string
	other     string // "" : none
	pgbouncer string // "" : not there
	suites    []string
	variants  []string
	modes     []string
	clients   []int
	idle      []int
	seconds   int
	rounds    int
	settle    time.Duration
	json      string
	svg       string
	smoke     bool
	render    []string // files to render, instead of a measurement
}

const usage = `bench measures pgvalet beside PgBouncer and PostgreSQL without a pooler.

Usage:
  bench [options]                   measure
  bench [-svg FILE] -render FILE…   write the tables of bench/README.md and the plot from results in JSON

Suites, all by default:
  pgbench      short transactions: transactions/s, CPU per transaction, latencies
  bulk         COPY out, COPY in and a wide SELECT: MB/s, CPU per GB
  idle         thousands of idle clients: resident memory, time to log all in
  crowd        thousands of clients that log in at once: time, peak memory
  storm        clients that log in, ask once and leave, beside steady ones
  saturation   1,000 clients on 20 servers: throughput, tail latency, fairness
  connect      a login for each transaction (pgbench -C)
  loops        pgvalet with 1, 2 and 4 event loops
  floor        the poolers beside a relay that only moves bytes

Options:
`

// parseOptions reads the command line. The error flag.ErrHelp says that help
// was printed.
func parseOptions(args []string, stderr io.Writer) (*options, error) {
	o := new(options)
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	list := func(to *[]string, name, value, text string, known ...string) {
		*to = strings.Split(value, ",")
		flags.Func(name, text+" (default "+value+")", func(given string) error {
			*to = strings.Split(given, ",")
			for _, word := range *to {
				if !slices.Contains(known, word) {
					return fmt.Errorf("%q is none of %s", word, strings.Join(known, ", "))
				}
			}
			return nil
		})
	}
	counts := func(to *[]int, name, value, text string) {
		set := func(given string) (err error) {
			*to, err = parseCounts(given)
			return err
		}
		if err := set(value); err != nil {
			panic(err)
		}
		flags.Func(name, text+" (default "+value+")", set)
	}
	var names []string
	for _, s := range suites() {
		names = append(names, s.name)
	}
	all := strings.Join(names, ",")
	list(&o.suites, "suites", all, "the suites to run, a comma-separated `list`", names...)
	list(&o.variants, "variants", "plain,tls", "without TLS, with TLS on both sides: a `list`", plainVariant, tlsVariant)
	list(&o.modes, "modes", "simple,extended,prepared", "query modes of the suite pgbench, a `list`", "simple", "extended", "prepared")
	counts(&o.clients, "clients", "1,8,64,500", "numbers of clients in the suite pgbench, a `list`")
	counts(&o.idle, "idle-clients", "3000,10000", "numbers of clients in the suites idle and crowd, a `list`")
	flags.IntVar(&o.seconds, "seconds", 10, "length of a run")
	flags.IntVar(&o.rounds, "rounds", 5, "runs of each target that count, after one that does not")
	flags.DurationVar(&o.settle, "settle", 10*time.Second, "how long memory must stay the same to be taken for settled")
	flags.StringVar(&o.pgvalet, "pgvalet", "bin/pgvalet", "the pgvalet `program`")
	flags.StringVar(&o.other, "other", "", "another build of pgvalet, a `program`, to measure beside it")
	flags.StringVar(&o.pgbouncer, "pgbouncer", "", "the PgBouncer `program` (default: $PGBOUNCER, else the one in PATH, else none)")
	flags.StringVar(&o.json, "json", "", "write everything that was measured to this `file`")
	flags.StringVar(&o.svg, "svg", "", "write the plot to this `file`")
	flags.BoolVar(&o.smoke, "smoke", false, "run every suite for a moment, to see that it works: the figures mean nothing")
	render := flags.Bool("render", false, "measure nothing, render the JSON files given as arguments")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if *render {
		o.render = flags.Args()
		if len(o.render) == 0 {
			return nil, errors.New("-render needs the names of JSON files")
		}
		return o, nil
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if o.smoke {
		o.shrink()
	}
	if slices.Contains(o.suites, idleSuite.name) && slices.Min(o.idle) <= loginWorkers {
		return nil, fmt.Errorf("-idle-clients start at %d in the suite idle", loginWorkers+1)
	}
	if o.seconds < 1 || o.rounds < 1 {
		return nil, errors.New("-seconds and -rounds start at 1")
	}
	return o, o.findPgbouncer()
}

// shrink makes a smoke test of it.
func (o *options) shrink() {
	o.rounds, o.seconds = 1, 1
	o.clients, o.idle = []int{8}, []int{100}
	o.modes = []string{"prepared"}
	o.settle = 500 * time.Millisecond
}

func (o *options) findPgbouncer() error {
	if o.pgbouncer == "" {
		o.pgbouncer = os.Getenv("PGBOUNCER")
	}
	if o.pgbouncer != "" {
		path, err := exec.LookPath(o.pgbouncer)
		if err != nil {
			return fmt.Errorf("PgBouncer: %w", err)
		}
		o.pgbouncer = path
		return nil
	}
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		o.pgbouncer = path
	}
	return nil
}

// parseCounts reads a list of numbers from 1.
func parseCounts(text string) ([]int, error) {
	var counts []int
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number from 1", word)
		}
		counts = append(counts, n)
	}
	return counts, nil
}

// mostDirect is the highest number of clients that PostgreSQL must take
// without a pooler.
func (o *options) mostDirect() int { return slices.Max(o.clients) }

// scale is that of pgbench's tables.
func (o *options) scale() int {
	if o.smoke {
		return 1
	}
	return 10
}
