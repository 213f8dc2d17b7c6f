package main

import (
	"testing"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

func goodReport() *report {
	return &report{
		result: result{transactions: 231024, tps: 23097.4},
		peak:   sample{clients: clients, servers: servers, backends: servers},
		rds:    backendtest.Stats{Handshakes: 10, Logins: 10, DistinctTokens: 1},
	}
}

func TestReport(t *testing.T) {
	const want = `  transactions                231,024
  transactions per second      23,097
  errors                            0
  clients at most                 200   SHOW POOLS
  servers at most                  10   pg_stat_activity; SHOW POOLS has 10
  IAM tokens made                   1   different ones at the stand-in
  logins made                      10   10 TLS handshakes, 0 logins refused
`
	if got := goodReport().String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestReportCheck(t *testing.T) {
	if err := goodReport().check(); err != nil {
		t.Errorf("a good report: %v", err)
	}
	for _, tt := range []struct {
		change func(*report)
		want   string
	}{
		{func(r *report) { r.transactions = 0 }, "there was no transaction"},
		{func(r *report) { r.errors = 2 }, "there were errors: 2"},
		{func(r *report) { r.peak.clients = 199 }, "there were 199 clients, fewer than 200"},
		{func(r *report) { r.peak.servers = 11 }, "there were 11 servers, more than 10"},
		{func(r *report) { r.peak.backends = 12 }, "there were 12 servers, more than 10"},
		{func(r *report) { r.rds.DistinctTokens = 0 }, "there were 0 IAM tokens, not 1 to 2"},
		{func(r *report) { r.rds.DistinctTokens = 3 }, "there were 3 IAM tokens, not 1 to 2"},
		{func(r *report) {
			r.rds.Refused = map[backendtest.Reason]int{backendtest.Expired: 1, backendtest.WrongHost: 3}
		}, "the stand-in refused logins: 4"},
		{func(r *report) { r.errors, r.peak.servers = 1, 11 }, "there were errors: 1; there were 11 servers, more than 10"},
	} {
		r := goodReport()
		tt.change(r)
		if err := r.check(); err == nil || err.Error() != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -100: "-100", -1000: "-1,000"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}
