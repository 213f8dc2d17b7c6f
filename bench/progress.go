package main

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"time"
)

// mark is the state at one of pgbench's progress reports.
type mark struct {
	at     time.Time
	tps    float64       // since the report before
	cpu    time.Duration // of the pooler since its start; 0 without a pooler
	kernel time.Duration // of cpu, in the kernel
}

// progressWatch takes pgbench's stderr, and looks at the pooler whenever
// pgbench reports progress.
type progressWatch struct {
	target  *target
	started func()
	marks   []mark
	rest    bytes.Buffer // what is not progress
	partial []byte       // line
	err     error
}

// progress: 3.0 s, 21034.9 tps, lat 9.5 ms stddev 3.1, 0 failed
var pgbenchProgress = regexp.MustCompile(`^progress: [0-9.]+ s, ([0-9.]+) tps`)

// Write never fails: pgbench would not end then.
func (w *progressWatch) Write(b []byte) (int, error) {
	now := time.Now()
	w.partial = append(w.partial, b...)
	for {
		line, rest, found := bytes.Cut(w.partial, []byte("\n"))
		if !found {
			return len(b), nil
		}
		w.line(now, string(line))
		w.partial = rest
	}
}

func (w *progressWatch) line(now time.Time, line string) {
	m := pgbenchProgress.FindStringSubmatch(line)
	if m == nil {
		w.rest.WriteString(line + "\n")
		return
	}
	tps, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	cpu, err := w.target.cpuOrNone()
	if err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	kernel, err := w.target.kernelOrNone()
	if err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	w.marks = append(w.marks, mark{now, tps, cpu, kernel})
	if w.started != nil && len(w.marks) == 1 {
		w.started()
	}
}

// between returns the transactions and the pooler's CPU time between two
// marks.
func between(marks []mark, from, to int) (transactions float64, cpu, kernel time.Duration) {
	for i := from + 1; i <= to; i++ {
		transactions += marks[i].tps * marks[i].at.Sub(marks[i-1].at).Seconds()
	}
	return transactions, marks[to].cpu - marks[from].cpu, marks[to].kernel - marks[from].kernel
}

// kernelMicros returns how much of cpuMicros was spent in the kernel. ok is false
// for a run too short to tell.
func (r *pgbenchResult) kernelMicros() (_ float64, ok bool) {
	if len(r.marks) < 2 {
		return 0, false
	}
	transactions, _, kernel := between(r.marks, 0, len(r.marks)-1)
	return micros(kernel) / transactions, true
}

// cpuMicros returns the pooler's CPU time per transaction in µs. It is
// measured from the first progress report to the last, so that the logins of
// hundreds of clients are not in it; in a run too short for two reports they
// are.
func (r *pgbenchResult) cpuMicros() float64 {
	transactions, cpu := float64(r.transactions), r.wholeCPU
	if len(r.marks) >= 2 {
		transactions, cpu, _ = between(r.marks, 0, len(r.marks)-1)
	}
	return micros(cpu) / transactions
}
