package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
)

// newPools starts pools in front of the package's PostgreSQL, with more settings
// and more keys of the database "app".
func newPools(t testing.TB, settings, database string) *Pools {
	t.Helper()
	return newPoolsOn(t, 1, settings, database)
}

// newPoolsOn is newPools with so many event loops.
func newPoolsOn(t testing.TB, n int, settings, database string) *Pools {
	t.Helper()
	log := zap.NewNop() // it would be between the figures of a benchmark
	if _, ok := t.(*testing.T); ok {
		log = zaptest.NewLogger(t)
	}
	pg := shared.Postgres(t)
	return startPools(t, n, log, settings, fmt.Sprintf("[databases.app]\n%s\nuser = %q\n%s", place(pg), pg.Superuser, database))
}

// place is where the entry of a database says that pg is.
func place(pg *backendtest.Postgres) string {
	return fmt.Sprintf("host = %q\nport = %d\ndbname = \"postgres\"", pg.SocketDir, pg.Port)
}

// startPools starts pools with the given settings and databases.
func startPools(t testing.TB, n int, log *zap.Logger, settings, databases string) *Pools {
	t.Helper()
	cfg, err := config.Parse("test.toml", fmt.Appendf(nil, "[pgvalet]\nunix_socket_dir = \"/tmp\"\nauth_type = \"trust\"\nauth_file = \"none\"\n%s\n%s\n", settings, databases))
	if err != nil {
		t.Fatal(err)
	}
	var loops []*evloop.Loop
	var running sync.WaitGroup
	for i := range n {
		loop, err := evloop.New(i, nil)
		if err != nil {
			t.Fatal(err)
		}
		loops = append(loops, loop)
		running.Go(func() {
			if err := loop.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	ps := New(Options{Settings: Settings{Config: cfg, Userlist: (*auth.Userlist)(nil)}, Loops: loops, Log: log})
	t.Cleanup(func() {
		ps.Close()
		for _, loop := range loops {
			loop.Stop()
		}
		running.Wait()
	})
	return ps
}

var shared backendtest.Shared

// appPool returns the pool of the only database.
func appPool(t testing.TB, ps *Pools) *Pool {
	t.Helper()
	p, err := ps.Get("app", "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// until waits for the only pool to be as ok says.
func until(t testing.TB, ps *Pools, what string, ok func(Info) bool) Info {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		for _, i := range ps.Snapshot() {
			if ok(i) {
				return i
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the pool is not %s: %+v", what, ps.Snapshot())
		}
		<-time.After(5 * time.Millisecond)
	}
}

// user borrows servers on the loop, for tests.
type user struct {
	w   Waiter
	got chan *Lease
	err chan error
}

func newUser(ps *Pools) *user {
	u := &user{got: make(chan *Lease, 1), err: make(chan error, 1)}
	u.w = Waiter{Loop: ps.loops[0], Granted: func(l *Lease) { u.got <- l }, Refused: func(err error) { u.err <- err }}
	return u
}

// borrow returns a server, waiting for it if need be.
func (u *user) borrow(t testing.TB, p *Pool) *Lease {
	t.Helper()
	u.w.Loop.Call(func() {
		switch l, err := p.Acquire(&u.w); {
		case err != nil:
			u.err <- err
		case l != nil:
			u.got <- l
		}
	})
	select {
	case l := <-u.got:
		return l
	case err := <-u.err:
		t.Fatal(err)
	case <-time.After(20 * time.Second):
		t.Fatal("no server")
	}
	return nil
}

func (u *user) release(l *Lease) { u.w.Loop.Call(func() { l.Release(u.w.Loop) }) }

func TestMinPoolSizeNeedsNoClientWithAForcedUser(t *testing.T) {
	ps := newPools(t, "", "min_pool_size = 3")
	until(t, ps, "filled", func(i Info) bool { return i.Idle == 3 })
}

func TestServerLifetimeZeroIsOneUse(t *testing.T) {
	ps := newPools(t, "", "server_lifetime = 0")
	p := appPool(t, ps)
	u := newUser(ps)
	first := u.borrow(t, p)
	u.release(first)
	second := u.borrow(t, p)
	if first == second {
		t.Error("a server was used twice")
	}
	u.release(second)
	until(t, ps, "empty", func(i Info) bool { return i.Servers() == 0 })
}

func TestCheckedServerIsWaitedFor(t *testing.T) {
	ps := newPools(t, "server_check_delay = 0", "pool_size = 5")
	p := appPool(t, ps)
	u := newUser(ps)
	for range 10 {
		u.release(u.borrow(t, p))
	}
	if i := until(t, ps, "idle", func(i Info) bool { return i.Used > 0 }); i.Servers() != 1 {
		t.Errorf("%d servers were opened for one user at a time, want 1", i.Servers())
	}
}

// reload puts a changed configuration into force.
func reload(ps *Pools, change func(*config.Config, *config.Database)) {
	s := *ps.settings.Load()
	cfg, db := *s.Config, *s.Config.Databases["app"]
	cfg.Databases = maps.Clone(cfg.Databases)
	cfg.Databases["app"] = &db
	change(&cfg, &db)
	s.Config = &cfg
	ps.Reload(s)
}

// TestPoolSizeChange: servers beyond the new size are closed when they are free,
// the others stay.
func TestPoolSizeChange(t *testing.T) {
	ps := newPools(t, "", "pool_size = 3")
	p := appPool(t, ps)
	users := []*user{newUser(ps), newUser(ps), newUser(ps)}
	var leases []*Lease
	for _, u := range users {
		leases = append(leases, u.borrow(t, p))
	}
	users[0].release(leases[0])

	reload(ps, func(_ *config.Config, db *config.Database) { db.PoolSize = 1 })
	until(t, ps, "smaller by the idle server", func(i Info) bool { return i.Servers() == 2 && i.Active == 2 })
	users[1].release(leases[1])
	until(t, ps, "small", func(i Info) bool { return i.Servers() == 1 && i.Active == 1 && i.Size == 1 })
	users[2].release(leases[2])
	if l := users[0].borrow(t, p); l != leases[2] {
		t.Error("the last server was replaced")
	}

	reload(ps, func(_ *config.Config, db *config.Database) { db.PoolSize = 2 })
	more := users[1].borrow(t, p)
	until(t, ps, "larger", func(i Info) bool { return i.Servers() == 2 && i.Active == 2 })
	users[1].release(more)
	users[0].release(leases[2])
	until(t, ps, "idle", func(i Info) bool { return i.Servers() == 2 && i.Idle == 2 })
}

// TestServerRoundRobin: the server that was used first is used next.
func TestServerRoundRobin(t *testing.T) {
	for setting, want := range map[string]int{"server_round_robin = true": 3, "server_round_robin = false": 1} {
		ps := newPools(t, setting, "min_pool_size = 3")
		p := appPool(t, ps)
		until(t, ps, "filled", func(i Info) bool { return i.Idle == 3 })
		u := newUser(ps)
		var order []*Lease
		used := map[*Lease]bool{}
		for range 9 {
			l := u.borrow(t, p)
			u.release(l)
			order = append(order, l)
			used[l] = true
		}
		if len(used) != want {
			t.Errorf("%s: %d servers were used, want %d", setting, len(used), want)
		}
		for i := range 6 {
			if order[i] != order[i+3] {
				t.Errorf("%s: the turns are not in order", setting)
			}
		}
	}
}

// TestPoolIdleTimeout: a pool that nobody has used is forgotten, its counters are
// not; one that a client has joined stays, and so does one with a minimum of
// servers for a forced user.
func TestPoolIdleTimeout(t *testing.T) {
	ps, logs := newLimited(t, 1, "pool_idle_timeout = 0.3\nserver_idle_timeout = 0.3", "")
	idle, err := ps.Join("one", "limit_a")
	if err != nil {
		t.Fatal(err)
	}
	joined, err := ps.Join("two", "limit_a")
	if err != nil {
		t.Fatal(err)
	}
	u := newUser(ps)
	l := u.borrow(t, idle)
	u.w.Loop.Call(func() { idle.Stats(u.w.Loop).Queries++ })
	u.release(l)
	idle.RemoveClient()
	until(t, ps, "the only one", func(Info) bool { return len(ps.Snapshot()) == 1 })
	if logs.FilterMessageSnippet("cleaning up idle pool for user limit_a on db one because: pool idle timeout").Len() != 1 {
		t.Error("nothing was logged")
	}
	if n := ps.Stats()["one"].Queries; n != 1 {
		t.Errorf("%d queries are counted, want 1", n)
	}
	if p := getPool(t, ps, "two", "limit_a"); p != joined {
		t.Error("a pool with a client was dropped")
	}
	joined.RemoveClient()
	u.release(u.borrow(t, getPool(t, ps, "one", "limit_a")))
	checkLimits(t, ps)

	kept := newPools(t, "pool_idle_timeout = 0.1\nserver_login_retry = 60", `min_pool_size = 1
connect_query = "select pg_terminate_backend(pg_backend_pid())"`)
	p := appPool(t, kept)
	until(t, kept, "without a server", func(i Info) bool { return p.lastFailure() != nil && i.Servers()+i.Login == 0 })
	<-time.NewTimer(3 * janitorPeriod).C
	if appPool(t, kept) != p {
		t.Error("the pool of a forced user with min_pool_size was dropped")
	}
}

func (p *Pool) lastFailure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}

// TestRemovedWhileConnecting: a server that is there only when its database has
// been removed does not stay.
func TestRemovedWhileConnecting(t *testing.T) {
	ps := newPools(t, "", `connect_query = "select pg_sleep(0.3)"`)
	p := appPool(t, ps)
	u := newUser(ps)
	u.w.Loop.Call(func() {
		if l, err := p.Acquire(&u.w); l != nil || err != nil {
			t.Error(l, err)
		}
	})
	reload(ps, func(c *config.Config, _ *config.Database) { delete(c.Databases, "app") })
	if err := <-u.err; !errors.Is(err, ErrDatabaseRemoved) {
		t.Error(err)
	}
	if err := ps.untilGone(t.Context(), []*Pool{p}); err != nil {
		t.Error(err)
	}
}

func TestPauseWaitsForTheLastServer(t *testing.T) {
	ps := newPools(t, "", "pool_size = 2")
	p := appPool(t, ps)
	u := newUser(ps)
	l := u.borrow(t, p)
	paused := make(chan error, 1)
	go func() { paused <- ps.Pause(t.Context(), "app") }()
	until(t, ps, "paused", func(i Info) bool { return i.Paused })
	select {
	case err := <-paused:
		t.Fatalf("PAUSE did not wait for the server in use: %v", err)
	default:
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := ps.Pause(ended, "app"); !errors.Is(err, context.Canceled) {
		t.Errorf("second PAUSE: %v", err)
	}
	u.release(l)
	if err := <-paused; err != nil {
		t.Fatal(err)
	}
	if err := ps.Resume("app"); err != nil {
		t.Fatal(err)
	}
	u.release(u.borrow(t, p))
}

func TestResumeEndsAPauseThatWaits(t *testing.T) {
	ps := newPools(t, "", "pool_size = 2")
	p := appPool(t, ps)
	u := newUser(ps)
	l := u.borrow(t, p)
	paused := make(chan error, 1)
	go func() { paused <- ps.Pause(t.Context(), "") }()
	until(t, ps, "paused", func(i Info) bool { return i.Paused })
	if err := ps.Resume(""); err != nil {
		t.Fatal(err)
	}
	if err := <-paused; !errors.Is(err, ErrResumed) {
		t.Error(err)
	}
	u.release(l)
	u.release(u.borrow(t, p))
}

// TestOneMishapIsNoOutage: a login that fails once is tried again at once, not
// after server_login_retry.
func TestOneMishapIsNoOutage(t *testing.T) {
	ps := newPools(t, "server_login_retry = 3600", "pool_size = 1")
	p := appPool(t, ps)
	p.mu.Lock()
	good := p.hosts[0].target
	bad := *good
	bad.Port++ // nobody listens there
	p.hosts[0].target = &bad
	p.mu.Unlock()
	go func() {
		until(t, ps, "failing", func(Info) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.failures == 0 {
				return false
			}
			p.hosts[0].target = good
			return true
		})
	}()
	u := newUser(ps)
	u.release(u.borrow(t, p))
}
