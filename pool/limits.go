package pool

import (
	"sync"
	"time"
)

// limits bound how many servers there are of one database (max_db_connections)
// and of one server user (max_user_connections) over all pools.
//
// Every login takes a place under both limits of its pool, and the server keeps
// it until it is closed. A pool that finds no place joins the queue, and its
// logins are from then on started by the arbiter (see arbitrate), which serves
// those pools first whose clients have waited longest. While a pool is in the
// queue, no other takes a place past it.
type limits struct {
	kick chan struct{} // of capacity 1: the arbiter has something to do

	mu        sync.Mutex // guards the fields below and every limit; taken last
	databases map[string]*limit
	users     map[string]*limit
	queue     map[*Pool]struct{}
}

// limit is the places of one database or server user. limits.mu guards it.
type limit struct {
	max     int // 0: no limit
	used    int // servers, and logins under way
	leaving int // of these, how many are about to be closed
	queued  int // of pools, how many are in the queue
	pools   map[*Pool]struct{}

	promised int // to pools in the queue, while the arbiter looks at younger ones
}

func (ls *limits) init() {
	ls.kick = make(chan struct{}, 1)
	ls.databases = make(map[string]*limit)
	ls.users = make(map[string]*limit)
	ls.queue = make(map[*Pool]struct{})
}

// wake tells the arbiter that something has changed.
func (ls *limits) wake() {
	select {
	case ls.kick <- struct{}{}:
	default: // it has been told already
	}
}

// join adds a new pool and returns its limits. quit must follow.
func (ls *limits) join(p *Pool) [2]*limit {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return [2]*limit{joinLimit(ls.databases, p.Database, p), joinLimit(ls.users, p.User, p)}
}

func joinLimit(of map[string]*limit, name string, p *Pool) *limit {
	l := of[name]
	if l == nil {
		l = &limit{pools: make(map[*Pool]struct{})}
		of[name] = l
	}
	l.pools[p] = struct{}{}
	return l
}

// quit removes a pool, which may still have servers.
func (ls *limits) quit(p *Pool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range p.limits {
		delete(l.pools, p)
	}
	ls.leaveQueue(p)
	ls.forget(p)
}

// forget drops the limits of p if nobody needs them any more. mu is held.
func (ls *limits) forget(p *Pool) {
	for i, of := range [...]map[string]*limit{ls.databases, ls.users} {
		name := [...]string{p.Database, p.User}[i]
		if l := p.limits[i]; len(l.pools) == 0 && l.used == 0 && of[name] == l {
			delete(of, name)
		}
	}
}

// set changes the limits of a pool.
func (ls *limits) set(p *Pool, database, user int) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	p.limits[0].max, p.limits[1].max = database, user
	if len(ls.queue) > 0 {
		ls.wake()
	}
}

// take takes a place for one more login of p. If there is none, and p must have
// one, p joins the queue. Pool.mu is held.
func (ls *limits) take(p *Pool, must bool) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	free := true
	for _, l := range p.limits {
		free = free && (l.max == 0 || l.used < l.max && l.queued == 0)
	}
	switch {
	case free:
		ls.occupy(p)
	case must:
		p.queued = true
		ls.queue[p] = struct{}{}
		for _, l := range p.limits {
			l.queued++
		}
		ls.wake()
	}
	return free
}

// occupy takes a place that is free. mu is held.
func (ls *limits) occupy(p *Pool) {
	for _, l := range p.limits {
		l.used++
	}
}

// give gives back the place of a login that has failed, or of a server that is
// closed; leaving says that its end was announced.
func (ls *limits) give(p *Pool, leaving bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range p.limits {
		l.used--
		if leaving {
			l.leaving--
		}
		if l.queued > 0 {
			ls.wake()
		}
	}
	ls.forget(p)
}

// leave announces that a server of p is about to be closed.
func (ls *limits) leave(p *Pool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for _, l := range p.limits {
		l.leaving++
	}
}

// dequeue takes p, which needs no more places for now, out of the queue. Pool.mu
// is held.
func (ls *limits) dequeue(p *Pool) {
	p.queued = false
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.leaveQueue(p)
}

// leaveQueue takes p out of the queue, if it is there. mu is held.
func (ls *limits) leaveQueue(p *Pool) {
	if _, ok := ls.queue[p]; !ok {
		return
	}
	delete(ls.queue, p)
	for _, l := range p.limits {
		l.queued--
	}
}

// open is how many more servers there can be now; coming says that those which
// are about to be closed count as closed. limits.mu is held.
func (l *limit) open(coming bool) int {
	if l.max == 0 {
		return 1
	}
	n := l.max - l.used + l.leaving - l.promised
	if !coming {
		n = min(n, l.max-l.used)
	}
	return n
}

// debt is a place that a pool in the queue needs and that nothing but a server
// in use can give way to. It is paid once.
type debt struct {
	to    *Pool
	since time.Time // when its oldest waiter came
	paid  bool      // guarded by limits.mu
}

// A server in use goes to a client of another pool only if that client has
// waited for longer than patience and for more than twice as long as the one
// who would get the server otherwise. Every such change costs a login: pools
// that are equally busy must not take servers from each other all the time.
const patience = 100 * time.Millisecond

// pays reports whether a server that is free now is to be closed for the sake of
// another pool. mu is held.
func (p *Pool) pays(now time.Time) bool {
	d := p.debt
	if d == nil || !p.yields(now, d.since) {
		return false
	}
	// By now the one who had waited so long may have been served, by a server of
	// the other pool. Its lock is not to be waited for under this one.
	if !d.to.mu.TryLock() {
		return false
	}
	need, since := d.to.claim()
	d.to.mu.Unlock()
	p.debt = nil
	if need == 0 || !p.yields(now, since) {
		return false
	}
	ls := &p.set.limits
	ls.mu.Lock()
	defer ls.mu.Unlock()
	owed := !d.paid
	d.paid = true
	return owed
}

// yields reports whether those who wait for a server of p come after a client of
// another pool that has waited since then. mu is held.
func (p *Pool) yields(now, since time.Time) bool {
	w := p.waiting.head
	if w == nil {
		return true
	}
	waited := now.Sub(since)
	return waited > patience && waited > 2*now.Sub(w.since)
}
