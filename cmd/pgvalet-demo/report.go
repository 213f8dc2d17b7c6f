package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// maxTokens is how many IAM tokens the demo may take: one, and one more should
// the first be renewed.
const maxTokens = 2

// report is what the demo has measured.
type report struct {
	result
	peak sample
	rds  backendtest.Stats
}

// String returns the report as an aligned table.
func (r *report) String() string {
	var b strings.Builder
	row := func(name, figure, more string) {
		b.WriteString(strings.TrimRight(fmt.Sprintf("  %-24s %10s   %s", name, figure, more), " ") + "\n")
	}
	row("transactions", grouped(r.transactions), "")
	row("transactions per second", grouped(int(r.tps)), "")
	row("errors", grouped(r.errors), r.firstError)
	row("clients at most", grouped(r.peak.clients), "SHOW POOLS")
	row("servers at most", grouped(r.peak.backends), fmt.Sprintf("pg_stat_activity; SHOW POOLS has %d", r.peak.servers))
	row("IAM tokens made", grouped(r.rds.DistinctTokens), "different ones at the stand-in")
	row("logins made", grouped(r.rds.Logins), fmt.Sprintf("%d TLS handshakes, %d logins refused", r.rds.Handshakes, r.refused()))
	return b.String()
}

func (r *report) refused() (n int) {
	for _, count := range r.rds.Refused {
		n += count
	}
	return n
}

// check returns what is not as promised, all of it, on one line.
func (r *report) check() error {
	var wrong []string
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if r.transactions == 0 {
		complain("there was no transaction")
	}
	if r.errors > 0 {
		complain("there were errors: %d", r.errors)
	}
	if r.peak.clients < clients {
		complain("there were %d clients, fewer than %d", r.peak.clients, clients)
	}
	if n := max(r.peak.servers, r.peak.backends); n > servers {
		complain("there were %d servers, more than %d", n, servers)
	}
	if n := r.rds.DistinctTokens; n < 1 || n > maxTokens {
		complain("there were %d IAM tokens, not 1 to %d", n, maxTokens)
	}
	if n := r.refused(); n > 0 {
		complain("the stand-in refused logins: %d", n)
	}
	if len(wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(wrong, "; "))
}

// grouped writes n with a comma between thousands.
func grouped(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
