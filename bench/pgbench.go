package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// pgbenchRun is one run of pgbench.
type pgbenchRun struct {
	script   string // what a transaction is; "": that of pgbench -S
	mode     string // simple, extended or prepared
	clients  int
	seconds  int           // at work, after the logins
	logins   time.Duration // how long they are expected to take
	connect  bool          // log in for each transaction
	rate     int           // transactions per second that are begun; 0: as many as can be
	apart    bool          // pgbench and the pooler have processors of their own: see placeApart
	sampling float64       // share of the transactions that is logged; 0: no log
	started  func()        // if set, called when the clients have been at work for a second
}

// args returns pgbench's arguments. What it needs files for is in dir.
func (r pgbenchRun) args(dir string) []string {
	// pgbench's clock begins to run before the logins.
	length := r.seconds + int(math.Round(r.logins.Seconds()))
	args := []string{"-n"}
	if r.script == "" {
		args = append(args, "-S")
	} else {
		args = append(args, "-f", filepath.Join(dir, scriptName))
	}
	args = append(args,
		"-M", r.mode, "-P", "1", "-T", strconv.Itoa(length),
		"-c", strconv.Itoa(r.clients), "-j", strconv.Itoa(min(r.clients, 2)))
	if r.connect {
		args = append(args, "-C")
	}
	if r.rate > 0 {
		args = append(args, "-R", strconv.Itoa(r.rate))
	}
	if r.sampling > 0 {
		args = append(args, "-l", "--log-prefix="+filepath.Join(dir, "log"))
	}
	if r.sampling > 0 && r.sampling < 1 {
		args = append(args, "--sampling-rate="+strconv.FormatFloat(r.sampling, 'f', 6, 64))
	}
	return args
}

// scriptName is the file that a run's script is put into.
const scriptName = "script.sql"

// pgbenchResult is what a run has given.
type pgbenchResult struct {
	transactions int
	tps          float64 // without the time for the logins
	marks        []mark  // once in a second
	log          []logLine
	wholeCPU     time.Duration // of the pooler, logins included
	logins       time.Duration // how long they took
}

// loginGuess is how long a login of pgbench takes at most, before it is known:
// libpq hashes the password thousands of times for each.
const loginGuess = 10 * time.Millisecond

// errNoTime says that the logins took all of pgbench's time.
var errNoTime = errors.New("pgbench: the logins left no time for transactions")

// pgbenchLoad runs pgbench against t. How long the logins take is learned from
// run to run, and by trying again with more time.
func (b *bench) pgbenchLoad(ctx context.Context, r pgbenchRun, t *target) (*pgbenchResult, error) {
	key := fmt.Sprintf("%s %s %d", t.name, t.variant, r.clients)
	r.logins = time.Duration(r.clients) * loginGuess
	if known, ok := b.logins[key]; ok {
		r.logins = known
	}
	res, err := r.run(ctx, b.stage, t)
	for attempt := 0; errors.Is(err, errNoTime) && attempt < 3; attempt++ {
		r.logins = 2*r.logins + 2*time.Second
		res, err = r.run(ctx, b.stage, t)
	}
	if err == nil && res.logins > 0 {
		b.logins[key] = res.logins
	}
	return res, err
}

// run runs pgbench against t.
func (r pgbenchRun) run(ctx context.Context, s *stage, t *target) (*pgbenchResult, error) {
	dir, err := os.MkdirTemp(s.dir, "pgbench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if r.script != "" {
		if err := os.WriteFile(filepath.Join(dir, scriptName), []byte(r.script), 0o644); err != nil {
			return nil, err
		}
	}

	cmd := s.libpq(ctx, s.pgbench, t.port, t.variant, r.args(dir)...)
	var stdout bytes.Buffer
	watch := &progressWatch{target: t, started: r.started}
	cmd.Stdout, cmd.Stderr = &stdout, watch
	before, err := t.cpuOrNone()
	if err != nil {
		return nil, err
	}
	proc, err := startProcess(cmd, nil)
	if err != nil {
		return nil, err
	}
	undo := func() error { return nil }
	if r.apart {
		undo, err = placeApart(proc.PID(), t.proc.PID())
	}
	if err != nil {
		return nil, errors.Join(err, proc.Stop(stopPatience))
	}
	err = errors.Join(proc.Wait(), undo())
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("pgbench: %w: %s", err, lastLine(watch.rest.String()))
	}
	res, err := parsePgbench(stdout.String(), watch.rest.String())
	if err != nil {
		return nil, err
	}
	if watch.err != nil {
		return nil, watch.err
	}
	after, err := t.cpuOrNone()
	if err != nil {
		return nil, err
	}
	res.marks, res.wholeCPU = watch.marks, after-before
	if r.sampling > 0 {
		res.log, err = readLog(dir)
	}
	return res, err
}

var (
	pgbenchTransactions = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	pgbenchFailed       = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	pgbenchAborted      = regexp.MustCompile(`(?m)\bclient \d+ .*aborted.*$`)
	pgbenchLogins       = regexp.MustCompile(`(?m)^initial connection time = ([0-9.]+) ms`)
	pgbenchTPS          = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
)

// parsePgbench reads the result that pgbench prints. A failed transaction or
// client is an error: it would make the rest faster.
func parsePgbench(stdout, stderr string) (*pgbenchResult, error) {
	if aborted := pgbenchAborted.FindString(stderr); aborted != "" {
		return nil, fmt.Errorf("pgbench: %s", aborted)
	}
	if m := pgbenchFailed.FindStringSubmatch(stdout); m != nil && m[1] != "0" {
		return nil, fmt.Errorf("pgbench: %s failed transactions", m[1])
	}
	transactions := pgbenchTransactions.FindStringSubmatch(stdout)
	tps := pgbenchTPS.FindAllStringSubmatch(stdout, -1)
	if transactions != nil && transactions[1] == "0" {
		return nil, errNoTime
	}
	if transactions == nil || tps == nil {
		return nil, fmt.Errorf("pgbench: no result: %s", lastLine(stdout+stderr))
	}
	res := new(pgbenchResult)
	var err error
	if res.transactions, err = strconv.Atoi(transactions[1]); err != nil {
		return nil, fmt.Errorf("pgbench: %w", err)
	}
	// Before version 14 there are two, the second without the time for logins.
	if res.tps, err = strconv.ParseFloat(tps[len(tps)-1][1], 64); err != nil {
		return nil, fmt.Errorf("pgbench: %w", err)
	}
	if m := pgbenchLogins.FindStringSubmatch(stdout); m != nil { // from version 14
		ms, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			return nil, fmt.Errorf("pgbench: %w", err)
		}
		res.logins = time.Duration(ms * float64(time.Millisecond))
	}
	return res, nil
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
