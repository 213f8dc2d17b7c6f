package main

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

const pgbench15 = `pgbench (15.18)
transaction type: <builtin: select only>
scaling factor: 10
query mode: prepared
number of clients: 64
number of threads: 2
maximum number of tries: 1
duration: 10 s
number of transactions actually processed: 512345
number of failed transactions: 0 (0.000%)
latency average = 1.243 ms
initial connection time = 112.345 ms
tps = 51482.123456 (without initial connection time)
`

func TestParsePgbench(t *testing.T) {
	got, err := parsePgbench(pgbench15, "pgbench: warning: nothing\n")
	if err != nil {
		t.Fatal(err)
	}
	if got.transactions != 512345 || got.tps != 51482.123456 || got.logins != 112345*time.Microsecond {
		t.Errorf("%+v", got)
	}
}

func TestParsePgbench13(t *testing.T) {
	const old = "number of transactions actually processed: 7\n" +
		"tps = 10.5 (including connections establishing)\ntps = 11.5 (excluding connections establishing)\n"
	got, err := parsePgbench(old, "")
	if err != nil || got.tps != 11.5 || got.logins != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParsePgbenchRefusesHalfResults(t *testing.T) {
	for _, tt := range []struct {
		name, stdout, stderr, want string
	}{
		{"nothing", "", "pgbench: error: no server\n", "no result: pgbench: error: no server"},
		{"failed", strings.Replace(pgbench15, "transactions: 0", "transactions: 3", 1), "", "3 failed transactions"},
		{"aborted", pgbench15, "pgbench: error: client 5 aborted in command 1 (SQL) of script 0; perhaps the backend died\n", "client 5 aborted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parsePgbench(tt.stdout, tt.stderr); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	const none = "number of transactions actually processed: 0\nnumber of failed transactions: 0 (NaN%)\n"
	if _, err := parsePgbench(none, ""); !errors.Is(err, errNoTime) {
		t.Errorf("no transactions: %v", err)
	}
}

func TestPgbenchArgs(t *testing.T) {
	for _, tt := range []struct {
		run  pgbenchRun
		want string
	}{
		{pgbenchRun{mode: "simple", clients: 1, seconds: 5}, "-n -S -M simple -P 1 -T 5 -c 1 -j 1"},
		{pgbenchRun{mode: "prepared", clients: 64, seconds: 5, sampling: 0.25}, "-n -S -M prepared -P 1 -T 5 -c 64 -j 2 -l --log-prefix=/x/log --sampling-rate=0.250000"},
		{pgbenchRun{mode: "simple", clients: 8, seconds: 5, sampling: 1, rate: 1000}, "-n -S -M simple -P 1 -T 5 -c 8 -j 2 -R 1000 -l --log-prefix=/x/log"},
		{pgbenchRun{mode: "simple", clients: 8, seconds: 5, connect: true}, "-n -S -M simple -P 1 -T 5 -c 8 -j 2 -C"},
		{pgbenchRun{mode: "simple", clients: 500, seconds: 5, logins: 2600 * time.Millisecond}, "-n -S -M simple -P 1 -T 8 -c 500 -j 2"},
		{pgbenchRun{mode: "simple", script: "SELECT 1\n", clients: 8, seconds: 5}, "-n -f /x/script.sql -M simple -P 1 -T 5 -c 8 -j 2"},
	} {
		if got := strings.Join(tt.run.args("/x"), " "); got != tt.want {
			t.Errorf("%+v:\n%s, want\n%s", tt.run, got, tt.want)
		}
	}
}

func TestParseLog(t *testing.T) {
	const text = "0 199 2241 0 1175850568 995598\n" +
		"63 1 80 0 1175850569 7 1500\n" // with a rate there is the lag, too
	got, err := parseLog(nil, []byte(text))
	want := []logLine{
		{client: 0, took: 2241, end: 1175850568995598},
		{client: 63, took: 80, end: 1175850569000007},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"\n", "1 2 3\n", "0 1 skipped 0 1 1\n", "0 1 2 0 1 -1\n", "0 1 2 0 1 99999999999999999999\n"} {
		if _, err := parseLog(nil, []byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestLatencies(t *testing.T) {
	log := []logLine{{end: 30, took: 3000}, {end: 10, took: 1000}, {end: 20, took: 2500}}
	if got := latencies(log, 10, 30); !slices.Equal(got, []float64{1, 2.5}) {
		t.Errorf("%v: the end of a window does not belong to it", got)
	}
	if first, last := span(log); first != 10 || last != 30 {
		t.Errorf("from %d to %d", first, last)
	}
}

// The reports may come in any pieces, and between other lines.
func TestProgressWatch(t *testing.T) {
	if _, err := machineTime(); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	const text = "progress: 1.0 s, 5000.5 tps, lat 0.1 ms stddev 0.1, 0 failed\n" +
		"pgbench: warning: x\n" +
		"progress: 2.0 s, 6000.0 tps, lat 0.1 ms stddev 0.1, 0 failed\n"
	for size := 1; size <= len(text); size += 7 {
		starts := 0
		w := &progressWatch{target: &target{}, started: func() { starts++ }}
		for chunk := range slices.Chunk([]byte(text), size) {
			if n, err := w.Write(chunk); n != len(chunk) || err != nil {
				t.Fatal(n, err)
			}
		}
		if len(w.marks) != 2 || w.marks[0].tps != 5000.5 || w.marks[1].tps != 6000 || w.rest.String() != "pgbench: warning: x\n" || starts != 1 || w.err != nil {
			t.Errorf("in pieces of %d: %+v", size, w)
		}
	}
}

// Logins come before the first mark, and do not count.
func TestWork(t *testing.T) {
	at := time.Unix(1000, 0)
	res := &pgbenchResult{transactions: 4000, wholeCPU: time.Second, marks: []mark{
		{at.Add(time.Second), 500, 800 * time.Millisecond, 100 * time.Millisecond, time.Minute},
		{at.Add(2 * time.Second), 1000, 820 * time.Millisecond, 120 * time.Millisecond, time.Minute + time.Second},
		{at.Add(4 * time.Second), 1500, 880 * time.Millisecond, 160 * time.Millisecond, time.Minute + 3*time.Second},
	}}
	want := work{transactions: 1000 + 2*1500, cpu: 80 * time.Millisecond, kernel: 60 * time.Millisecond, machine: 3 * time.Second}
	if got, ok := res.work(); !ok || got != want {
		t.Errorf("%+v, %v, want %+v", got, ok, want)
	}
	if got := res.cpuMicros(); math.Abs(got-20) > 1e-9 {
		t.Errorf("%v, want 20", got)
	}
	res.marks = res.marks[:1]
	if got, ok := res.work(); ok {
		t.Errorf("a short run: %+v", got)
	}
	if got := res.cpuMicros(); got != 250 {
		t.Errorf("a short run: %v, want 250", got)
	}
}

func TestTurnTimes(t *testing.T) {
	var log []logLine
	for i := range 200 { // one each ms, and a pause of 50 ms in the middle
		end := int64(1000 * i)
		if i >= 100 {
			end += 50_000
		}
		log = append(log, logLine{client: i % 10, end: end, took: 1})
	}
	got := turnTimes(log, 10, 50_000, 1<<40)
	if len(got) != 150 || got[0] != 10 || percentile(got, 0.5) != 10 || percentile(got, 0.99) != 60 {
		t.Errorf("%d turns, from %v ms; p50 %v ms, p99 %v ms", len(got), got[0], percentile(got, 0.5), percentile(got, 0.99))
	}
}

func TestSaturationFigures(t *testing.T) {
	var log []logLine
	// Client 0 is served twice as often as client 1; client 2 only at the ends.
	for i := range 1000 {
		log = append(log, logLine{client: 0, end: int64(1000 * i), took: 1000})
		if i%2 == 0 {
			log = append(log, logLine{client: 1, end: int64(1000 * i), took: 4000})
		}
	}
	log = append(log, logLine{client: 2, end: 5, took: 1000}, logLine{client: 2, end: 999_000, took: 1000})
	got := saturationFigures(log, 2)
	if got["least_to_most"] < 0.499 || got["least_to_most"] > 0.501 || got["p50_ms"] != 1 || got["p99_ms"] != 4 || got["p99_to_p50"] != 4 {
		t.Errorf("%v", got)
	}
	if tps := got["tps"]; tps < 1490 || tps > 1510 {
		t.Errorf("%v transactions/s, want 1,500", tps)
	}
	if got := saturationFigures(log, 3); got["least"] != 0 || got["least_to_most"] != 0 {
		t.Errorf("a client that is not served in the middle: %v", got)
	}
}
