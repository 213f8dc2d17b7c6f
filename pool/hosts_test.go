package pool

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgvalet/pgvalet/backend"
)

// newHosts starts pools whose database has the given hosts, at the port of the
// package's PostgreSQL, and opens four servers, one after the other.
func newHosts(t *testing.T, hosts, more string) (*Pools, *observer.ObservedLogs) {
	t.Helper()
	pg := shared.Postgres(t)
	core, logs := observer.New(zapcore.InfoLevel)
	ps := startPools(t, 1, zap.New(core), "server_login_parallel = 1\nserver_tls_sslmode = \"disable\"", fmt.Sprintf(
		"[databases.app]\nhost = %q\nport = %d\ndbname = \"postgres\"\nuser = %q\nmin_pool_size = 4\n%s", hosts, pg.Port, pg.Superuser, more))
	until(t, ps, "filled", func(i Info) bool { return i.Idle == 4 })
	return ps, logs
}

// at is how many servers are at each kind of address.
func at(ps *Pools) map[string]int {
	n := make(map[string]int)
	for _, s := range ps.Servers() {
		n[s.Addr.Network()]++
	}
	return n
}

func TestLoadBalanceHosts(t *testing.T) {
	pg := shared.Postgres(t)
	const dead = "127.0.0.77"
	for _, tt := range []struct {
		hosts, more string
		tcp, unix   int
		failures    int
	}{
		{pg.Host + "," + pg.SocketDir, "", 2, 2, 0},
		{pg.Host + ", " + pg.SocketDir, `load_balance_hosts = "disable"`, 4, 0, 0},
		{dead + "," + pg.Host, "", 4, 0, 1},
		{dead + "," + pg.Host + "," + pg.SocketDir, "", 2, 2, 1},
		{dead + "," + pg.Host + "," + pg.SocketDir, `load_balance_hosts = "disable"`, 4, 0, 1},
	} {
		ps, logs := newHosts(t, tt.hosts, tt.more)
		if n := at(ps); n["tcp"] != tt.tcp || n["unix"] != tt.unix {
			t.Errorf("%s %s: servers at %v, want %d and %d", tt.hosts, tt.more, n, tt.tcp, tt.unix)
		}
		if n := logs.Filter(func(e observer.LoggedEntry) bool {
			return strings.HasSuffix(e.LoggerName, fmt.Sprintf(": app/%s@unix:%d", pg.Superuser, pg.Port)) && strings.HasPrefix(e.Message, "new connection to server")
		}).Len(); n != tt.unix {
			t.Errorf("%s %s: %d labels of servers on a unix socket, want %d", tt.hosts, tt.more, n, tt.unix)
		}
		if n := logs.FilterMessageSnippet("closing because: connect failed").Len(); n != tt.failures {
			t.Errorf("%s %s: %d failures, want %d", tt.hosts, tt.more, n, tt.failures)
		}
	}
}

// TestHostComesBack: when all hosts have failed, each is tried all the same, and
// a host that works is found at once.
func TestHostComesBack(t *testing.T) {
	ps, _ := newHosts(t, shared.Postgres(t).Host+",127.0.0.77", "")
	p := appPool(t, ps)
	p.mu.Lock()
	for _, h := range p.hosts {
		p.mu.Unlock()
		p.noteAttempt(h, fmt.Errorf("down"))
		p.mu.Lock()
	}
	p.mu.Unlock()
	if err := ps.Reconnect("app"); err != nil {
		t.Fatal(err)
	}
	u := newUser(ps)
	u.release(u.borrow(t, p))
}

// TestWaitIsNotAHostsTime: a login that waits for its turn at one host leaves
// the next ones their share of server_connect_timeout.
func TestWaitIsNotAHostsTime(t *testing.T) {
	p := appPool(t, newPools(t, "", ""))
	const timeout = 30 * time.Millisecond
	var hosts []*host
	for _, name := range []string{"a", "b", "c"} {
		hosts = append(hosts, &host{target: &backend.Target{Host: name, ConnectTimeout: timeout}})
	}
	var shares []time.Duration
	err := p.eachHost(t.Context(), hosts, func(target *backend.Target) error {
		shares = append(shares, target.ConnectTimeout)
		<-time.After(timeout + time.Millisecond) // as the governor may make it wait
		return &backend.ConnectError{Kind: backend.ConnectFailed, Err: errors.New("refused")}
	})
	if err == nil {
		t.Error("there is a server where there is none")
	}
	if want := []time.Duration{timeout / 3, timeout / 3, timeout}; !slices.Equal(shares, want) {
		t.Errorf("the hosts had %v, want %v", shares, want)
	}
}

// TestNameMoves: when a name gets another address, servers at the old one are
// closed as they become free.
func TestNameMoves(t *testing.T) {
	pg := shared.Postgres(t)
	core, logs := observer.New(zapcore.InfoLevel)
	ps := startPools(t, 1, zap.New(core), "dns_max_ttl = 0.1\nserver_tls_sslmode = \"disable\"", fmt.Sprintf(
		"[databases.app]\nhost = \"nowhere.example,db.example\"\nport = %d\ndbname = \"postgres\"\nuser = %q", pg.Port, pg.Superuser))
	var mu sync.Mutex
	addr := netip.MustParseAddr(pg.Host)
	ps.dns = backend.NewNames(func(context.Context, string) ([]netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		return []netip.Addr{addr}, nil
	})
	p := appPool(t, ps)
	u, v := newUser(ps), newUser(ps)
	idle, busy := u.borrow(t, p), v.borrow(t, p)
	u.release(idle)
	mu.Lock()
	addr = netip.MustParseAddr("127.0.0.77")
	mu.Unlock()
	until(t, ps, "rid of the idle server", func(i Info) bool { return i.Idle == 0 && i.Active == 1 })
	v.release(busy)
	until(t, ps, "empty", func(i Info) bool { return i.Servers() == 0 })
	if n := logs.FilterMessageSnippet("closing because: obsolete connection").Len(); n != 2 {
		t.Errorf("%d servers were closed for their address, want 2", n)
	}
}
