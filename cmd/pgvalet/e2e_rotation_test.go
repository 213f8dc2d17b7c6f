package main

import (
	"context"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// soakTime is how long the tests of this file go on: PGVALET_SOAK, a duration
// such as "10m", or def.
func soakTime(t *testing.T, def time.Duration) time.Duration {
	t.Helper()
	s := os.Getenv("PGVALET_SOAK")
	if s == "" {
		return def
	}
	return must(time.ParseDuration(s))(t)
}

// useContainer gives the pooler its credentials from the container endpoint of
// aws, and from nowhere else.
func (p *pooler) useContainer(aws *backendtest.AWS) {
	p.t.Helper()
	p.env = slices.DeleteFunc(p.env, func(kv string) bool { return strings.HasPrefix(kv, "AWS_") })
	p.env = append(p.env, must(aws.Env(backendtest.AWSContainer, "", ""))(p.t)...)
}

// TestCredentialRotation: with credentials that are replaced every few seconds
// and servers that live two seconds, no client sees an error, and no login comes
// with a token that outlived the credentials that signed it: the stand-in for
// RDS would refuse it.
//
// With PGVALET_SOAK the container endpoint states 320 seconds, of which pgvalet,
// like the SDK, has used what it wants after 20; else they live 5 seconds.
func TestCredentialRotation(t *testing.T) {
	life := 5 * time.Second
	if os.Getenv("PGVALET_SOAK") != "" {
		life = 320 * time.Second
	}
	const round = 12 * time.Second
	rounds := max(1, int(soakTime(t, round)/round))
	d := newDatabase(t)
	initPgbench(t, d)
	rds := startRDS(t, d)
	aws := startAWS(t, rds)
	aws.Set(backendtest.AWSContainer, func(k *backendtest.AWSKnobs) { k.Life = life })
	p := newPooler(t)
	p.serveRDS(rds, d)["pool_size"] = poolSize
	p.useContainer(aws)
	p.conf.set("server_lifetime", 2)
	p.conf.set("scram_iterations", 64)
	p.start()
	begin := time.Now()
	for range rounds {
		out := p.pgbench(t, "-S", "-c", "50", "-j", "2", "-T", strconv.Itoa(int(round.Seconds())))
		if !strings.Contains(out, "number of failed transactions: 0 ") {
			t.Errorf("pgbench had errors:\n%s", out)
		}
	}
	took := time.Since(begin)
	// One that began as the load ended may still be under way.
	eventually(t, "every connection has logged in", func() bool { s := rds.Stats(); return s.Logins == s.Accepted })
	s := rds.Stats()
	if len(s.Refused) > 0 {
		t.Errorf("%d connections, %d logins, refused %v", s.Accepted, s.Logins, s.Refused)
	}
	// A token is renewed at 60 to 70 percent of its life.
	if least := int(took / life); s.DistinctTokens < least {
		t.Errorf("%d tokens in %v, want at least %d", s.DistinctTokens, took, least)
	}
	if s.Logins < 2*poolSize {
		t.Errorf("%d logins in %v", s.Logins, took)
	}
	t.Logf("%v: %d logins with %d tokens, credentials given %d times", took.Round(time.Second), s.Logins, s.DistinctTokens, aws.Requests(backendtest.AWSContainer))
}

// TestAWSHangs: when every endpoint of AWS has stopped to answer and the last
// token has expired, logins wait, and transactions on open servers do not: they
// all end while AWS hangs. It logs how long they took before and then.
func TestAWSHangs(t *testing.T) {
	length := min(soakTime(t, 8*time.Second)/4, time.Minute)
	d := newDatabase(t)
	rds := startRDS(t, d)
	aws := startAWS(t, rds)
	aws.Set(backendtest.AWSContainer, func(k *backendtest.AWSKnobs) { k.Life = 4 * time.Second })
	p := newPooler(t)
	p.serveRDS(rds, d)
	p.conf.databases["other"] = maps.Clone(p.conf.databases["shop"])
	p.conf.databases["other"]["server_lifetime"] = 0
	p.useContainer(aws)
	p.conf.set("server_login_retry", "100ms")
	p.conf.set("server_connect_timeout", 2)
	p.start()

	const clients = 4
	measure := func() []time.Duration {
		var mu sync.Mutex
		var all []time.Duration
		var wg sync.WaitGroup
		for range clients {
			conn := p.connect(t)
			wg.Go(func() {
				var own []time.Duration
				for end := time.Now().Add(length); time.Now().Before(end); {
					begin := time.Now()
					if _, err := conn.Exec(testContext(t), "BEGIN; SELECT 1; COMMIT"); err != nil {
						t.Error(err)
						return
					}
					own = append(own, time.Since(begin))
				}
				mu.Lock()
				defer mu.Unlock()
				all = append(all, own...)
			})
		}
		wg.Wait()
		slices.Sort(all)
		return all
	}
	// Clients that log in all the while, before and then, cost the same.
	dialling := func(database string, check func(error)) (stop func()) {
		ctx, cancel := context.WithCancel(testContext(t))
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for again := time.NewTicker(100 * time.Millisecond); ctx.Err() == nil; <-again.C {
					check(use(p.dial(ctx, "dbname", database)))
				}
			})
		}
		return func() { cancel(); wg.Wait() }
	}
	stop := dialling("shop", func(error) {})
	before := measure()
	stop()

	for _, s := range []backendtest.AWSService{backendtest.AWSContainer, backendtest.AWSSTS, backendtest.AWSIMDS, backendtest.AWSSSO} {
		aws.Set(s, func(k *backendtest.AWSKnobs) { k.Hang = true })
	}
	// Each query on "other" needs a new server, and so a token.
	eventually(t, "the last token has expired", func() bool {
		_ = use(p.dial(testContext(t), "dbname", "other"))
		return p.log.find("no iam token for ") != ""
	})
	logins := rds.Stats().Logins
	asked := aws.Requests(backendtest.AWSContainer)
	stop = dialling("other", func(err error) {
		if err == nil {
			t.Error("a login without a token")
		}
	})
	eventually(t, "a login asks AWS in vain", func() bool { return aws.Requests(backendtest.AWSContainer) > asked })
	then := measure()
	stop()

	if n := rds.Stats().Logins - logins; n != 0 || len(rds.Stats().Refused) != 0 {
		t.Errorf("%d logins while AWS hung, refused %v", n, rds.Stats().Refused)
	}
	if len(before) == 0 || len(then) == 0 {
		t.Fatal("nothing was measured")
	}
	p99 := func(all []time.Duration) time.Duration { return all[len(all)*99/100] }
	t.Logf("p99 of a transaction: %v before (%s of them), %v while AWS hung (%s)",
		p99(before), strconv.Itoa(len(before)), p99(then), strconv.Itoa(len(then)))
}
