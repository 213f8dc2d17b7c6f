package main

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestLoginStorm: when all servers of three pools die at once, they come back no
// faster than the endpoint bears, with one token, and everybody is served.
func TestLoginStorm(t *testing.T) {
	const rate, parallel, size = 20, 4, 8
	r := newFaultRig(t, &fault{})
	names := []string{"shop", "audit", "third"}
	r.conf.databases["third"] = maps.Clone(r.conf.databases["shop"])
	for _, name := range names {
		r.conf.databases[name]["pool_size"] = size
	}
	r.conf.set("iam_login_rate", rate)
	r.conf.set("server_login_parallel", parallel)
	r.conf.set("query_wait_timeout", "30s")
	r.conf.set("client_login_timeout", "30s")
	r.start()
	ctx := testContext(t)

	// Each holds a server, so there are as many logins as clients.
	hold := func() []*pgx.Conn {
		conns := make([]*pgx.Conn, len(names)*size)
		var opening sync.WaitGroup
		for i := range conns {
			opening.Go(func() {
				conn, err := r.dialTo(ctx, names[i%len(names)])
				if err == nil {
					_, err = conn.Exec(ctx, "BEGIN")
				}
				if err != nil {
					t.Error(err)
					return
				}
				conns[i] = conn
			})
		}
		opening.Wait()
		if t.Failed() {
			t.FailNow()
		}
		return conns
	}
	first := hold()
	began := time.Now()
	if n := r.rds.DropConnections(); n != len(first) {
		t.Errorf("%d servers for %d clients in a transaction", n, len(first))
	}
	second := hold()
	took := time.Since(began)
	for _, conn := range append(first, second...) {
		conn.Close(context.Background())
	}
	s := r.rds.Stats()
	if s.Logins != len(first)+len(second) || len(s.Refused) != 0 || s.DistinctTokens != 1 {
		t.Errorf("%d logins with %d tokens, refused %v; want %d with one", s.Logins, s.DistinctTokens, s.Refused, len(first)+len(second))
	}
	// What begins at an even pace may arrive in bunches, of those under way.
	if n := r.rds.BusiestSecond(); n > rate+parallel {
		t.Errorf("%d logins in a second, iam_login_rate is %d", n, rate)
	}
	if least := time.Duration(len(second)-rate) * time.Second / rate; took < least {
		t.Errorf("%d servers were there again after %v", len(second), took)
	}
	r.noSecrets()
}

// TestReconnects: thousands of short clients cost a handful of logins, and
// hundreds of logins one signature.
func TestReconnects(t *testing.T) {
	const clients, uses, size = 2000, 300, 5
	r := newFaultRig(t, &fault{})
	r.conf.databases["shop"]["pool_size"] = size
	r.conf.databases["audit"]["server_lifetime"] = 0 // one use
	for key, value := range map[string]any{"client_tls_sslmode": "allow", "auth_type": "trust", "iam_login_rate": 0, "log_connections": false, "log_disconnections": false} {
		r.conf.set(key, value)
	}
	r.start()
	ctx := testContext(t)
	run := func(database string, n int) {
		var left atomic.Int32
		left.Store(int32(n))
		var working sync.WaitGroup
		for range 8 {
			working.Go(func() {
				for left.Add(-1) >= 0 && !t.Failed() {
					if err := use(r.dial(ctx, "database", database, "sslmode", "disable", "channel_binding", "disable")); err != nil {
						t.Error(err)
					}
				}
			})
		}
		working.Wait()
	}
	run("shop", clients)
	if s := r.rds.Stats(); s.Logins > size || s.DistinctTokens != 1 {
		t.Errorf("%d clients took %d logins and %d signatures", clients, s.Logins, s.DistinctTokens)
	}
	before := r.rds.Stats().Logins
	run("audit", uses)
	// The first client's server only says what clients are to be told.
	if s := r.rds.Stats(); s.Logins-before < uses || s.Logins-before > uses+uses/10 || s.DistinctTokens != 1 || len(s.Refused) != 0 {
		t.Errorf("%d uses took %d logins and %d signatures, refused %v", uses, s.Logins-before, s.DistinctTokens, s.Refused)
	}
}
