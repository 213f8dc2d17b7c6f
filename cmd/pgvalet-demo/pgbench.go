package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// scale makes rows of pgbench's table.
const (
	scale = 10
	rows  = scale * 100_000
)

// pgbench is the load that PostgreSQL's own program makes: its built-in
// select-only script, with prepared statements.
func pgbench(path string) load {
	command := func(ctx context.Context, e endpoint, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, path, append(args, e.conninfo(database))...)
		cmd.Env = append(os.Environ(), "PGPASSWORD="+e.password, "LC_ALL=C")
		cmd.SysProcAttr = ownGroup()
		return cmd
	}
	return load{
		name: "pgbench",
		prepare: func(ctx context.Context, e endpoint) error {
			out, err := command(ctx, e, "-i", "-q", "-s", strconv.Itoa(scale)).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, lastLines(string(out), 1))
			}
			return nil
		},
		run: func(ctx context.Context, e endpoint, progress func(progress)) (result, error) {
			cmd := command(ctx, e, "-n", "-S", "-M", "prepared", "-P", "1",
				"-c", strconv.Itoa(clients), "-j", "2", "-T", strconv.Itoa(int(duration.Seconds())))
			var stdout, complaints bytes.Buffer
			cmd.Stdout = &stdout
			stderr, err := cmd.StderrPipe()
			if err != nil {
				return result{}, err
			}
			if err := cmd.Start(); err != nil {
				return result{}, err
			}
			readErr := readProgress(stderr, progress, &complaints)
			err = cmd.Wait()
			if readErr != nil {
				return result{}, readErr
			}
			res, ok := parsePgbench(stdout.String(), complaints.String())
			if !ok || err != nil && res.errors == 0 {
				return result{}, fmt.Errorf("no result (%v): %s", err, lastLines(complaints.String(), 1))
			}
			return res, nil
		},
	}
}

// progress: 3.0 s, 21034.9 tps, lat 9.5 ms stddev 3.1, 0 failed
var pgbenchProgress = regexp.MustCompile(`^progress: ([0-9.]+) s, ([0-9.]+) tps`)

// readProgress reads pgbench's stderr to its end, and copies to rest what is
// not progress.
func readProgress(stderr io.Reader, report func(progress), rest io.Writer) error {
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		m := pgbenchProgress.FindStringSubmatch(lines.Text())
		if m == nil {
			fmt.Fprintln(rest, lines.Text())
			continue
		}
		report(progress{elapsed: time.Duration(number(m[1]) * float64(time.Second)), tps: number(m[2])})
	}
	return lines.Err()
}

var (
	pgbenchTransactions = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	pgbenchFailed       = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	pgbenchAborted      = regexp.MustCompile(`(?m)\bclient \d+ .*aborted.*$`)
	pgbenchTPS          = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
)

// parsePgbench reads the result that pgbench prints, and counts the clients
// that it complains of on stderr. Not ok means that there is no result.
func parsePgbench(stdout, stderr string) (_ result, ok bool) {
	transactions := pgbenchTransactions.FindStringSubmatch(stdout)
	tps := pgbenchTPS.FindAllStringSubmatch(stdout, -1)
	if transactions == nil || tps == nil {
		return result{}, false
	}
	// Before version 14 there are two, the second without the time for logins.
	res := result{transactions: int(number(transactions[1])), tps: number(tps[len(tps)-1][1])}
	if m := pgbenchFailed.FindStringSubmatch(stdout); m != nil {
		res.errors = int(number(m[1]))
	}
	aborted := pgbenchAborted.FindAllString(stderr, -1)
	res.errors += len(aborted)
	if len(aborted) > 0 {
		res.firstError = aborted[0]
	}
	return res, true
}

// number reads what a regular expression has taken for a number.
func number(digits string) float64 {
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0
	}
	return n
}
