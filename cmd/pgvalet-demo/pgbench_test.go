package main

import (
	"strings"
	"testing"
	"time"
)

const pgbench15 = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 10
query mode: prepared
number of clients: 200
number of threads: 2
maximum number of tries: 1
duration: 10 s
number of transactions actually processed: 231024
number of failed transactions: 0 (0.000%)
latency average = 8.651 ms
latency stddev = 3.014 ms
initial connection time = 402.161 ms
tps = 23097.412345 (without initial connection time)
`

const pgbench13 = `transaction type: <builtin: select only>
number of transactions actually processed: 1000
latency average = 8.651 ms
tps = 90.000000 (including connections establishing)
tps = 100.250000 (excluding connections establishing)
`

func TestParsePgbench(t *testing.T) {
	const aborted = `pgbench: error: client 7 script 0 aborted in command 1 query 0: FATAL:  server conn crashed?
pgbench: error: client 9 script 0 aborted in command 1 query 0: server closed the connection unexpectedly
	This probably means the server terminated abnormally
pgbench: error: Run was aborted; the above results are incomplete.
`
	for _, tt := range []struct {
		name, stdout, stderr string
		want                 result
		ok                   bool
	}{
		{"good", pgbench15, "", result{transactions: 231024, tps: 23097.412345}, true},
		{"before 14", pgbench13, "starting vacuum...end.\n", result{transactions: 1000, tps: 100.25}, true},
		{"failed transactions", strings.Replace(pgbench15, "transactions: 0", "transactions: 3", 1), "", result{transactions: 231024, tps: 23097.412345, errors: 3}, true},
		{"aborted clients", pgbench15, aborted, result{
			transactions: 231024, tps: 23097.412345, errors: 2,
			firstError: "client 7 script 0 aborted in command 1 query 0: FATAL:  server conn crashed?",
		}, true},
		{"no result", "", "pgbench: error: connection to server failed\n", result{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := parsePgbench(tt.stdout, tt.stderr)
			if got != tt.want || ok != tt.ok {
				t.Errorf("%+v, %v, want %+v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestReadProgress(t *testing.T) {
	const stderr = `pgbench (15.18)
progress: 1.0 s, 21034.9 tps, lat 9.541 ms stddev 3.106, 0 failed
pgbench: error: client 7 aborted
progress: 2.5 s, 0.0 tps, lat 0.000 ms stddev 0.000
`
	var got []progress
	var rest strings.Builder
	if err := readProgress(strings.NewReader(stderr), func(p progress) { got = append(got, p) }, &rest); err != nil {
		t.Fatal(err)
	}
	want := []progress{{time.Second, 21034.9}, {2500 * time.Millisecond, 0}}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%v, want %v", got, want)
	}
	if rest.String() != "pgbench (15.18)\npgbench: error: client 7 aborted\n" {
		t.Errorf("rest: %q", rest.String())
	}
}
