package pool

import (
	"testing"
	"time"
)

// age makes all servers of a pool so old.
func age(p *Pool, by time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.leases {
		l.Server.ConnectedAt = time.Now().Add(-by)
	}
	p.replacedAt = time.Time{}
}

// TestReplacedBeforeTheEnd: a server in demand is replaced before it is too old,
// by one that is opened first; the pool is never short of it, nor too large.
func TestReplacedBeforeTheEnd(t *testing.T) {
	ps := newPools(t, "server_lifetime = 3600", "pool_size = 3")
	p := appPool(t, ps)
	a, b := newUser(ps), newUser(ps)
	la, lb := a.borrow(t, p), b.borrow(t, p)
	age(p, 3600*time.Second-time.Minute)
	until(t, ps, "one larger", func(i Info) bool { return i.Servers() == 3 && i.Idle == 1 })
	var first, second *Lease
	p.mu.Lock()
	for l := range p.leases {
		if l.closeWhy != "" {
			first = l
		}
	}
	p.mu.Unlock()
	if first != la && first != lb {
		t.Fatal("none of the old ones is about to go")
	}
	second = map[*Lease]*Lease{la: lb, lb: la}[first]
	map[*Lease]*user{la: a, lb: b}[first].release(first)
	until(t, ps, "rid of the first", func(i Info) bool { return i.Servers() == 2 && i.Idle == 1 })

	p.mu.Lock()
	p.replacedAt = time.Time{} // as if minutes had passed
	p.mu.Unlock()
	until(t, ps, "one larger again", func(i Info) bool { return i.Servers() == 3 && i.Idle == 2 })
	map[*Lease]*user{la: a, lb: b}[second].release(second)
	until(t, ps, "renewed", func(i Info) bool { return i.Servers() == 2 && i.Idle == 2 })
	if n := ps.Logins()[0].Succeeded; n != 4 {
		t.Errorf("%d logins for two servers and their replacements", n)
	}
}

// TestIdleNotReplaced: a server that nobody uses is closed when its time is over.
func TestIdleNotReplaced(t *testing.T) {
	ps := newPools(t, "server_lifetime = 2", "")
	p := appPool(t, ps)
	u := newUser(ps)
	u.release(u.borrow(t, p))
	until(t, ps, "closed", func(i Info) bool { return i.Servers() == 0 })
	if n := ps.Logins()[0].Succeeded; n != 1 {
		t.Errorf("%d logins for one use", n)
	}
}

// TestNotReplaced: no login is spent on a server that the pool can do without,
// nor beyond the limit.
func TestNotReplaced(t *testing.T) {
	ps := newPools(t, "server_lifetime = 3600", "pool_size = 1")
	p := appPool(t, ps)
	u := newUser(ps)
	l := u.borrow(t, p)
	age(p, 3600*time.Second-time.Minute)
	p.mu.Lock()
	if got := p.dueForReplacement(time.Now()); got != l {
		t.Errorf("%v is due, want the only server", got)
	}
	p.spare = 1
	if got := p.dueForReplacement(time.Now()); got != nil {
		t.Error("a server is due although another is spare")
	}
	p.spare = 0
	p.replaceOne(time.Now())
	if p.connecting != 0 || p.replacing {
		t.Error("the limit does not hold")
	}
	p.mu.Unlock()
	u.release(l)
}
