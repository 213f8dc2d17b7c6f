package pool

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgvalet/pgvalet/config"
)

// limitUsers are roles of the package's PostgreSQL.
var limitUsers = []string{"limit_a", "limit_b", "limit_c", "limit_d"}

// newLimited starts pools with the databases "one" and "two", which force no
// user, and makes limitUsers.
func newLimited(t *testing.T, loops int, settings, database string) (*Pools, *observer.ObservedLogs) {
	t.Helper()
	pg := shared.Postgres(t)
	for _, u := range limitUsers {
		sql := fmt.Sprintf("DO $$BEGIN CREATE ROLE %s LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END$$", u)
		if err := pg.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	core, logs := observer.New(zapcore.InfoLevel)
	return startPools(t, loops, zap.New(core), settings, fmt.Sprintf("[databases.one]\n%[1]s\n%[2]s\n[databases.two]\n%[1]s\n%[2]s\n", place(pg), database)), logs
}

func getPool(t *testing.T, ps *Pools, database, user string) *Pool {
	t.Helper()
	p, err := ps.Get(database, user)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// evictions is how many servers were closed to make room.
func evictions(logs *observer.ObservedLogs) int {
	return logs.FilterMessageSnippet("closing because: evicted").Len()
}

// places returns how many there are in use of each database and of each server user.
func places(ps *Pools) (databases, users map[string]int) {
	ps.limits.mu.Lock()
	defer ps.limits.mu.Unlock()
	count := func(of map[string]*limit) map[string]int {
		n := make(map[string]int, len(of))
		for name, l := range of {
			n[name] = l.used
		}
		return n
	}
	return count(ps.limits.databases), count(ps.limits.users)
}

// checkLimits waits until the books about places agree with the servers that are
// open, and nobody is in the queue.
func checkLimits(t *testing.T, ps *Pools) {
	t.Helper()
	until(t, ps, "at rest", func(Info) bool {
		databases, users := places(ps)
		for _, s := range ps.Servers() {
			databases[s.Database]--
			users[s.User]--
		}
		ls := &ps.limits
		ls.mu.Lock()
		defer ls.mu.Unlock()
		ok := len(ls.queue) == 0
		for name, l := range ls.databases {
			ok = ok && databases[name] == 0 && l.leaving == 0 && l.queued == 0
		}
		for name, l := range ls.users {
			ok = ok && users[name] == 0 && l.leaving == 0 && l.queued == 0
		}
		return ok
	})
}

// TestIdleServerMakesRoom: a limit that is full of idle servers keeps nobody
// waiting, whether it is the database's or the user's.
func TestIdleServerMakesRoom(t *testing.T) {
	for _, tt := range []struct {
		name, settings string
		other          key
	}{
		{"database", "max_db_connections = 2", key{"one", "limit_b"}},
		{"user", "max_user_connections = 2", key{"two", "limit_a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ps, logs := newLimited(t, 1, tt.settings, "")
			first := getPool(t, ps, "one", "limit_a")
			a, b := newUser(ps), newUser(ps)
			la, lb := a.borrow(t, first), b.borrow(t, first)
			a.release(la) // and is used less recently than the other
			b.release(lb)
			b.release(b.borrow(t, first))

			second := getPool(t, ps, tt.other.database, tt.other.user)
			c := newUser(ps)
			lc := c.borrow(t, second)
			if n := evictions(logs); n != 1 {
				t.Errorf("%d servers were evicted, want 1", n)
			}
			if l := a.borrow(t, first); l != lb {
				t.Error("the server that was used last is gone")
			} else {
				a.release(l)
			}
			c.release(lc)
			checkLimits(t, ps)
		})
	}
}

// TestBusyPoolMakesRoom: a pool whose servers are never idle gives one of them
// to a client of another pool, which has waited for longer; and two such pools
// do not take servers from each other all the time.
func TestBusyPoolMakesRoom(t *testing.T) {
	ps, logs := newLimited(t, 2, "max_db_connections = 2\nevent_loops = 2", "")
	busy := getPool(t, ps, "one", "limit_a")
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var turns [2]int
	keepBusy := func(i int, p *Pool) {
		for range 4 {
			clients.Go(func() {
				u := newUser(ps)
				for {
					select {
					case <-stop:
						return
					default:
					}
					l := u.borrow(t, p)
					<-time.After(2 * time.Millisecond)
					u.w.Loop.Call(func() { turns[i]++; l.Release(u.w.Loop) })
				}
			})
		}
	}
	keepBusy(0, busy)
	until(t, ps, "busy", func(i Info) bool { return i.Active == 2 && i.Waiting == 2 })

	other := getPool(t, ps, "one", "limit_b")
	start := time.Now()
	u := newUser(ps)
	l := u.borrow(t, other)
	if waited := time.Since(start); waited < patience {
		t.Errorf("a busy pool lost a server after %v", waited)
	}
	u.release(l)

	keepBusy(1, other)
	n := evictions(logs)
	u.w.Loop.Call(func() { turns = [2]int{} })
	<-time.After(2 * time.Second)
	close(stop)
	clients.Wait()
	if more := evictions(logs) - n; more > 20 {
		t.Errorf("%d servers changed hands in two seconds", more)
	}
	if turns[0] == 0 || turns[1] == 0 {
		t.Errorf("turns of the two pools: %v", turns)
	}
	checkLimits(t, ps)
}

// TestLoginWaitsForRoom: a login that needs a pool's first server gets it, like
// any client that waits.
func TestLoginWaitsForRoom(t *testing.T) {
	ps, _ := newLimited(t, 1, "max_db_connections = 1", "")
	u := newUser(ps)
	l := u.borrow(t, getPool(t, ps, "one", "limit_a"))
	answer := make(chan error, 1)
	go func() {
		_, err := getPool(t, ps, "one", "limit_b").Welcome(t.Context())
		answer <- err
	}()
	until(t, ps, "asked for a welcome", func(Info) bool {
		ps.limits.mu.Lock()
		defer ps.limits.mu.Unlock()
		return len(ps.limits.queue) == 1
	})
	u.release(l)
	if err := <-answer; err != nil {
		t.Error(err)
	}
	checkLimits(t, ps)
}

// TestMinPoolSizeUnderALimit: min_pool_size evicts nobody and waits for no
// place.
func TestMinPoolSizeUnderALimit(t *testing.T) {
	ps, logs := newLimited(t, 1, "max_db_connections = 3", "min_pool_size = 5")
	b := getPool(t, ps, "one", "limit_b")
	for _, u := range []string{"limit_a", "limit_b"} {
		if p, err := ps.Join("one", u); err != nil {
			t.Fatal(err)
		} else {
			defer p.RemoveClient()
		}
	}
	until(t, ps, "filled", func(Info) bool { return len(ps.Servers()) == 3 })
	tick := time.NewTimer(3 * janitorPeriod)
	<-tick.C
	if n := len(ps.Servers()); n != 3 || evictions(logs) != 0 {
		t.Errorf("%d servers, %d evictions", n, evictions(logs))
	}
	u := newUser(ps)
	u.release(u.borrow(t, b))
	checkLimits(t, ps)
}

// TestReservePool: the reserve is for those who have waited, and only as large as
// it is said to be.
func TestReservePool(t *testing.T) {
	ps, logs := newLimited(t, 1, "reserve_pool_size = 2\nreserve_pool_timeout = 0.5\ndefault_pool_size = 1", "")
	p := getPool(t, ps, "one", "limit_a")
	first := newUser(ps)
	l := first.borrow(t, p)
	waiting := []*user{newUser(ps), newUser(ps), newUser(ps)}
	start := time.Now()
	for _, u := range waiting {
		u.w.Loop.Call(func() {
			if l, err := p.Acquire(&u.w); l != nil || err != nil {
				t.Error(l, err)
			}
		})
	}
	var leases []*Lease
	for _, u := range waiting[:2] {
		leases = append(leases, <-u.got)
	}
	if waited := time.Since(start); waited < 500*time.Millisecond {
		t.Errorf("the reserve was used after %v", waited)
	}
	tick := time.NewTimer(2 * janitorPeriod)
	<-tick.C
	if n := logs.FilterMessage("taking connection from reserve_pool").Len(); n != 2 {
		t.Errorf("%d connections were taken from the reserve, want 2", n)
	}
	if i := ps.Snapshot()[0]; i.Servers() != 3 || i.Waiting != 1 {
		t.Errorf("%+v", i)
	}
	first.release(l)
	leases = append(leases, <-waiting[2].got)
	for i, l := range leases {
		waiting[i].release(l)
	}
	until(t, ps, "at rest", func(i Info) bool { return i.Idle == 3 })
}

// TestManyPoolsUnderOneLimit has the clients of many pools, of which some lose
// patience, share few servers. Everybody gets a turn, the limits hold at every
// moment, and the books are right in the end.
func TestManyPoolsUnderOneLimit(t *testing.T) {
	const loops, perDatabase, perUser = 2, 3, 2
	ps, _ := newLimited(t, loops, fmt.Sprintf("max_db_connections = %d\nmax_user_connections = %d\nevent_loops = %d", perDatabase, perUser, loops), "")
	done := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		look := time.NewTicker(time.Millisecond)
		defer look.Stop()
		for {
			select {
			case <-done:
				return
			case <-look.C:
			}
			ps.limits.mu.Lock()
			for name, l := range ps.limits.databases {
				if l.used > perDatabase || l.used < 0 {
					t.Errorf("database %s has %d places taken", name, l.used)
				}
			}
			for name, l := range ps.limits.users {
				if l.used > perUser || l.used < 0 {
					t.Errorf("user %s has %d places taken", name, l.used)
				}
			}
			ps.limits.mu.Unlock()
		}
	})
	var clients sync.WaitGroup
	for i := range 24 {
		p := getPool(t, ps, []string{"one", "two"}[i%2], limitUsers[i/2%len(limitUsers)])
		clients.Go(func() {
			u := newUser(ps)
			u.w.Loop = ps.loops[i%loops]
			for range 15 {
				if rand.IntN(4) == 0 {
					u.hurry(p)
					continue
				}
				l := u.borrow(t, p)
				if rand.IntN(2) == 0 {
					<-time.After(time.Duration(rand.IntN(3)) * time.Millisecond)
				}
				u.release(l)
			}
		})
	}
	clients.Wait()
	close(done)
	watcher.Wait()
	checkLimits(t, ps)
	reloadAll(ps, func(c *config.Config) { c.MaxDBConnections, c.MaxUserConnections = 0, 0 })
	u := newUser(ps)
	u.release(u.borrow(t, getPool(t, ps, "one", "limit_a")))
	checkLimits(t, ps)
}

// hurry asks for a server and leaves at once, whether it has got one or not.
func (u *user) hurry(p *Pool) {
	left := false
	u.w.Loop.Call(func() {
		switch l, err := p.Acquire(&u.w); {
		case err != nil:
			left = true
		case l != nil:
			u.got <- l
		default:
			left = p.Leave(&u.w)
		}
	})
	if !left {
		u.release(<-u.got)
	}
}

// reloadAll puts changed settings into force.
func reloadAll(ps *Pools, change func(*config.Config)) {
	s := *ps.settings.Load()
	cfg := *s.Config
	change(&cfg)
	s.Config = &cfg
	ps.Reload(s)
}
