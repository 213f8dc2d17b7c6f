package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// poolSize is that of the tests with pgbench.
const poolSize = 10

// benchAll runs every kind of load that pgbench has and returns how many
// transactions that were.
func benchAll(t *testing.T, p *pooler) {
	crowds := []struct{ clients, each int }{{1, 100}, {20, 20}, {200, 2}}
	if os.Getenv("PGVALET_LONG") != "" {
		crowds = append(crowds, struct{ clients, each int }{1000, 20})
	}
	for _, kind := range []string{"select-only", "tpcb-like"} {
		for _, protocol := range []string{"simple", "extended", "prepared"} {
			for _, c := range crowds {
				t.Run(fmt.Sprintf("%s/%s/%d", kind, protocol, c.clients), func(t *testing.T) {
					out := p.pgbench(t, "-b", kind, "-M", protocol, "-c", strconv.Itoa(c.clients), "-j", "2", "-t", strconv.Itoa(c.each))
					total := c.clients * c.each
					for _, want := range []string{
						fmt.Sprintf("number of transactions actually processed: %d/%d\n", total, total),
						"number of failed transactions: 0 ",
					} {
						if !strings.Contains(out, want) {
							t.Errorf("pgbench does not say %q:\n%s", want, out)
						}
					}
				})
			}
		}
	}
}

// checkMoney makes sure that TPC-B's books are balanced and complete.
func checkMoney(t *testing.T, d *database) {
	t.Helper()
	conn := d.direct()
	accounts := one(t, conn, "SELECT sum(abalance) FROM pgbench_accounts")
	for table, column := range map[string]string{"pgbench_tellers": "tbalance", "pgbench_branches": "bbalance", "pgbench_history": "delta"} {
		if got := one(t, conn, "SELECT sum("+column+") FROM "+table); got != accounts {
			t.Errorf("the sum of %s is %s, that of pgbench_accounts %s", table, got, accounts)
		}
	}
}

func TestPgbenchOverIAM(t *testing.T) {
	d := newDatabase(t)
	initPgbench(t, d)
	rds := startRDS(t, d)
	p := newPooler(t)
	p.serveRDS(rds, d)["pool_size"] = poolSize
	p.conf.set("scram_iterations", 64) // most of the time would go into logins
	p.start()

	benchAll(t, p)

	checkMoney(t, d)
	s := rds.Stats()
	if s.PeakOpen > poolSize {
		t.Errorf("there were %d connections to the server at a time, pool_size is %d", s.PeakOpen, poolSize)
	}
	if s.DistinctTokens != 1 {
		t.Errorf("%d tokens were made, want 1 for all logins", s.DistinctTokens)
	}
	if s.Logins == 0 || s.Logins > poolSize || s.Logins != s.Accepted || len(s.Refused) > 0 {
		t.Errorf("%d connections, %d logins, refused %v; want at most %d, and no other connections", s.Accepted, s.Logins, s.Refused, poolSize)
	}
	if n := d.servers("true"); n != s.Logins {
		t.Errorf("the server has %d connections after %d logins", n, s.Logins)
	}
	if n := d.servers("state <> 'idle'"); n != 0 {
		t.Errorf("%d servers are not idle after the last client", n)
	}

	p.signal(syscall.SIGTERM)
	p.exit(0)
	log := p.log.String()
	if !strings.Contains(log, "login attempt") {
		t.Error("the log tells nothing")
	}
	for what, secret := range map[string]string{
		"secret access key":     accessKey.Secret,
		"session token":         accessKey.SessionToken,
		"part of a token":       "X-Amz-",
		"client's password":     clientPassword,
		"server's password":     serverPassword,
		"access key in full":    accessKey.ID,
		"session token, quoted": strings.ReplaceAll(accessKey.SessionToken, "+", "%2B"),
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds the %s", what)
		}
	}
}

func TestPgbenchOverTLS(t *testing.T) {
	d := newDatabase(t)
	initPgbench(t, d)
	p := newPooler(t)
	p.serve(d)["pool_size"] = poolSize
	p.start()
	for _, protocol := range []string{"simple", "extended", "prepared"} {
		p.pgbench(t, "-M", protocol, "-c", "20", "-j", "2", "-t", "20")
	}
	checkMoney(t, d)
	all, encrypted := d.servers("true"), d.servers("s.ssl AND s.version IN ('TLSv1.2', 'TLSv1.3')")
	if all == 0 || all > poolSize || encrypted != all {
		t.Errorf("%d of %d connections to the server are encrypted; pool_size is %d", encrypted, all, poolSize)
	}
}

// TestSCRAMWithoutChannelBinding is for clients that do not know it.
func TestSCRAMWithoutChannelBinding(t *testing.T) {
	d := newDatabase(t)
	p := newPooler(t)
	p.serve(d)
	p.start()
	for _, binding := range []string{"disable", "prefer", "require"} {
		conn := p.connect(t, "channel_binding", binding)
		if got := one(t, conn, "SELECT current_database()"); got != d.name {
			t.Errorf("channel_binding=%s: connected to %q, want %q", binding, got, d.name)
		}
		cmd := p.libpq(t, "psql", "-X", "-A", "-t", "-c", "SELECT 42")
		cmd.Env = append(slices.Clone(cmd.Env), "PGCHANNELBINDING="+binding)
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "42\n" {
			t.Errorf("psql with channel_binding=%s: %v: %s", binding, err, out)
		}
	}
	_, err := p.dial(testContext(t), "sslmode", "disable", "channel_binding", "disable")
	wantError(t, err, "28000", "SSL required")
}
