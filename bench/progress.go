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

	machine time.Duration // of all processes since the machine started
}

// clocks reads what has been used up to now.
func (m *mark) clocks(t *target) (err error) {
	if m.cpu, err = t.cpuOrNone(); err != nil {
		return err
	}
	if m.kernel, err = t.kernelOrNone(); err != nil {
		return err
	}
	m.machine, err = machineTime()
	return err
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
	seen := mark{at: now, tps: tps}
	if err := seen.clocks(w.target); err != nil {
		w.err = errors.Join(w.err, err)
		return
	}
	w.marks = append(w.marks, seen)
	if w.started != nil && len(w.marks) == 1 {
		w.started()
	}
}

// work is what was done in a part of a run.
type work struct {
	transactions         float64
	cpu, kernel, machine time.Duration // as in mark
}

// work is measured from the first progress report to the last, so that the
// logins of hundreds of clients are not in it. ok is false for a run too short for
// two reports.
func (r *pgbenchResult) work() (_ work, ok bool) {
	if len(r.marks) < 2 {
		return work{}, false
	}
	first, last := r.marks[0], r.marks[len(r.marks)-1]
	w := work{cpu: last.cpu - first.cpu, kernel: last.kernel - first.kernel, machine: last.machine - first.machine}
	for i, m := range r.marks[1:] {
		w.transactions += m.tps * m.at.Sub(r.marks[i].at).Seconds()
	}
	return w, true
}

// per returns the share of one transaction in µs.
func (w work) per(d time.Duration) float64 { return micros(d) / w.transactions }

// cpuMicros returns the pooler's CPU time per transaction in µs, with the logins
// in a run that is too short to leave them out.
func (r *pgbenchResult) cpuMicros() float64 {
	if w, ok := r.work(); ok {
		return w.per(w.cpu)
	}
	return micros(r.wholeCPU) / float64(r.transactions)
}
