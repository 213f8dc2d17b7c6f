package pool

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/puddle/v2"
	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
)

// Errors that a client may meet instead of a server.
var (
	ErrShuttingDown    = errors.New("server shutting down")
	ErrDatabaseRemoved = errors.New("database removed")
)

// RetryError is what a client gets while logins to the server keep failing:
// the reason of the last failure, without waiting for another one.
type RetryError struct{ Err error }

func (e *RetryError) Error() string {
	return "server login has been failing, cached error: " + e.Err.Error() + " (server_login_retry)"
}

func (e *RetryError) Unwrap() error { return e.Err }

// Welcome is what the first server of a pool said of itself: what a client must
// be told before its first query. It is immutable.
type Welcome struct {
	Params []backend.Parameter // untracked and tracked, in the server's order
	Vars   backend.Vars        // the tracked ones
}

// Pool is the servers of one database and user.
type Pool struct {
	// Static after construction.
	Database string // the name of the configuration's entry
	User     string // who logs in to the server
	set      *Pools
	log      *zap.Logger
	limits   [2]*limit // of the database and of the user, over all pools
	stats    []Stats   // one for each loop, owned by it

	mu           sync.Mutex // guards the fields below
	db           *config.Database
	forQueries   bool // Ask has used it: the pool's user need not be the one that the database forces
	learned      Credentials
	hosts        []*host // at least one
	turn         int     // which of them comes first: the last good one, or a counter, by load_balance_hosts
	tlsSum       [32]byte
	size         int // servers at most; 0: no limit
	reserve      int // more servers, for those who have waited for reserveAfter
	minSize      int
	roundRobin   bool
	fastClose    bool
	reserveAfter time.Duration
	lifetime     time.Duration
	mode         config.PoolMode
	generation   uint64 // servers of an older one are closed as soon as they are free
	servers      *puddle.Pool[*Lease]
	leases       map[*Lease]struct{} // every open server
	idle         int                 // of these, how many puddle holds
	closing      int                 // of these, how many are about to be closed
	connecting   int
	dedicating   int // of these, how many are for one client only
	passages     int // clients in passthrough mode, each with a server
	waiting      waitList
	queued       bool  // the pool is in limits.queue
	debt         *debt // what the next server that becomes free may have to make room for
	paused       bool
	welcome      *Welcome
	wantWelcome  map[chan welcomeAnswer]struct{} // logins that wait for welcome, or for the reason why there is none
	wantedSince  time.Time                       // … and since when the first of them does
	failures     int                             // how many logins, or groups of them, have failed in a row
	failed       error                           // why the last login failed, nil after a success
	retryAt      time.Time                       // not before this is another one tried
	refillAt     time.Time                       // not before this are servers opened that nobody waits for
	nextSweep    time.Time
	lastRetired  time.Time // when a server was last closed for its age
	clients      int       // clients of the pool, waiting or not
	usedAt       time.Time // when the janitor last saw a client or a server
	logins       logins
	replacing    bool      // a login is under way that is to replace an old server
	replacedAt   time.Time // when the last such login ended
	writer       bool      // the pool has had a server that was not in recovery
	probeAt      time.Time // not before this is a server asked again whether it can write
	probePause   time.Duration
	spare        int // servers that the pool could do without, when it was last swept
}

// newPuddle makes what holds the idle servers. How many there may be is not
// puddle's to decide: its limit could not be changed.
func (p *Pool) newPuddle() *puddle.Pool[*Lease] {
	pd, err := puddle.NewPool(&puddle.Config[*Lease]{
		Constructor: p.connect,
		Destructor:  func(*Lease) {}, // the loop has closed it already
		MaxSize:     math.MaxInt32,
	})
	if err != nil {
		panic(err) // the size is positive
	}
	return pd
}

// Mode is when a server goes back.
func (p *Pool) Mode() config.PoolMode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// Stats are the counters of the loop, to be changed on it only.
func (p *Pool) Stats(l *evloop.Loop) *Stats { return &p.stats[l.ID] }

// RemoveClient counts out a client that Join or BeginPassage has counted in.
func (p *Pool) RemoveClient() {
	p.mu.Lock()
	p.clients--
	p.mu.Unlock()
}

// Acquire lends a server to w, on whose loop it must be called. When it returns
// neither a lease nor an error, w is in the queue and one of its functions will
// be called.
func (p *Pool) Acquire(w *Waiter) (*Lease, error) {
	loop := w.Loop
	p.mu.Lock()
	if err := p.refusal(loop.Now()); err != nil {
		p.mu.Unlock()
		return nil, err
	}
	if p.waiting.n == 0 && !p.paused {
		if l := p.take(loop.Now()); l != nil {
			p.lend(l, w, loop.Now())
			p.mu.Unlock()
			if err := l.Server.Stream.Unpark(loop); err != nil {
				l.Destroy(err.Error())
				return nil, err
			}
			return l, nil
		}
	}
	p.waiting.push(w, loop.Now())
	p.launch()
	p.dispatch() // whoever is first may want none of the idle servers
	p.mu.Unlock()
	return nil, nil
}

// refusal is why nobody can have a server now, nil if there is hope.
func (p *Pool) refusal(now time.Time) error {
	switch {
	case p.db == nil:
		return ErrDatabaseRemoved
	case p.set.closing.Load():
		return ErrShuttingDown
	case p.failures >= enoughFailures && len(p.leases) == 0 && now.Before(p.retryAt):
		return &RetryError{p.failed}
	}
	return nil
}

// Leave takes w out of the queue. It reports false when w is not in it: one of
// its functions has been called or is about to be.
func (p *Pool) Leave(w *Waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !w.queued {
		return false
	}
	p.waiting.remove(w)
	return true
}

// provenByLogin is how long a server that has just been logged in to need not be
// asked whether it is alive.
const provenByLogin = time.Second

// take claims an idle server that can be used at once, or returns nil. mu is
// held.
func (p *Pool) take(now time.Time) *Lease {
	for p.idle > 0 {
		res := p.acquireIdle()
		p.idle--
		l := res.Value()
		l.res = res
		if why := p.mustClose(l, now); why != "" {
			p.close(l, why)
			continue
		}
		query, delay := p.set.check()
		if l.requestAt.IsZero() {
			delay = max(delay, provenByLogin)
		}
		if query != "" && res.IdleDuration() > delay {
			l.state, l.brief, l.deadline = stateTested, true, now.Add(p.set.cancelTimeout())
			l.Server.Stream.Loop().Post(testClaimed, l)
			continue
		}
		return l
	}
	return nil
}

// acquireIdle takes one of the idle servers, of which there must be one: the one
// used last, or, with server_round_robin, the one used first. mu is held.
func (p *Pool) acquireIdle() *puddle.Resource[*Lease] {
	if p.roundRobin && p.idle > 1 {
		all := p.servers.AcquireAllIdle()
		last := len(all) - 1
		for _, res := range slices.Backward(all[:last]) {
			res.ReleaseUnused()
		}
		return all[last]
	}
	res, err := p.servers.TryAcquire(context.Background())
	if err != nil {
		panic("pool: puddle has fewer idle servers than were counted: " + err.Error())
	}
	return res
}

// lend notes that w has l. mu is held.
func (p *Pool) lend(l *Lease, w *Waiter, now time.Time) {
	l.state, l.client, l.requestAt = stateActive, w.ID, now
}

// nextWaiter returns who gets the next free server, and takes him out of the
// queue; makeRoom has reported false before. mu is held.
func (p *Pool) nextWaiter() *Waiter {
	if p.paused {
		return nil
	}
	w := p.waiting.next()
	if w != nil {
		p.waiting.remove(w)
	}
	return w
}

// grant gives a claimed, parked server to a waiter that has left the queue. mu
// is held; loop is the one the caller runs on, nil for none.
func (p *Pool) grant(w *Waiter, l *Lease, loop *evloop.Loop) {
	if loop != nil {
		p.lend(l, w, loop.Now())
	} else {
		p.lend(l, w, time.Now())
	}
	w.lease = l
	p.notify(w, loop)
}

// refuse tells a waiter that has left the queue that it gets no server.
func (p *Pool) refuse(w *Waiter, err error) {
	w.err = err
	p.notify(w, nil)
}

func (p *Pool) notify(w *Waiter, loop *evloop.Loop) {
	if loop == w.Loop {
		loop.Defer(deliver, w)
	} else {
		w.Loop.Post(deliver, w)
	}
}

// refuseAll empties the queue. mu is held.
func (p *Pool) refuseAll(err error) {
	for w := p.waiting.pop(); w != nil; w = p.waiting.pop() {
		p.refuse(w, err)
	}
}

// dispatch lends idle servers to those who wait. mu is held.
func (p *Pool) dispatch() {
	for p.idle > 0 && p.waiting.next() != nil && !p.paused {
		l := p.take(time.Now())
		if l == nil {
			return
		}
		if p.makeRoom() {
			p.close(l, "evicted")
		} else {
			p.grant(p.nextWaiter(), l, nil)
		}
	}
}

// toIdle gives a claimed, parked server to puddle. mu is held.
func (p *Pool) toIdle(l *Lease) {
	l.state, l.client = stateIdle, 0
	res := l.res
	l.res = nil
	p.idle++
	res.Release()
}

// claimIdle takes one certain server out of puddle. mu is held.
func (p *Pool) claimIdle(l *Lease) bool {
	found := false
	all := p.servers.AcquireAllIdle()
	for _, res := range slices.Backward(all) { // back in the order in which they were
		if res.Value() == l {
			l.res = res
			p.idle--
			found = true
		} else {
			res.ReleaseUnused()
		}
	}
	return found
}

// closeIdle closes the idle servers for which why returns a reason. mu is held.
func (p *Pool) closeIdle(why func(*Lease, *puddle.Resource[*Lease]) string) {
	all := p.servers.AcquireAllIdle()
	for _, res := range slices.Backward(all) {
		l := res.Value()
		reason := ""
		if l.state == stateIdle { // and not so new that connect has yet to count it
			reason = why(l, res)
		}
		if reason == "" {
			res.ReleaseUnused()
			continue
		}
		p.idle--
		l.res = res
		p.close(l, reason)
	}
}

// close closes a claimed, parked server on its loop. mu is held.
func (p *Pool) close(l *Lease, why string) {
	p.condemn(l, why)
	l.Server.Stream.Loop().Post(closeClaimed, l)
}

// condemn notes that a server is about to be closed. mu is held.
func (p *Pool) condemn(l *Lease, why string) {
	l.state, l.closeWhy = stateClosing, why
	p.closing++
	p.set.limits.leave(p)
}

// Stale reports whether the server is to be replaced at once, by sending its
// client away at the next end of a transaction (server_fast_close).
func (l *Lease) Stale() bool {
	p := l.Pool
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fastClose && (l.generation != p.generation || p.db == nil)
}

// mustClose is why a free server is not to be lent again, "" if it is. mu is
// held.
func (p *Pool) mustClose(l *Lease, now time.Time) string {
	switch {
	case p.db == nil:
		return "database removed"
	case l.generation != p.generation:
		return "database configuration changed"
	case p.paused:
		return "pause mode"
	case p.set.closing.Load():
		return "server shutting down"
	case l.closeWhy != "":
		return l.closeWhy
	case p.size > 0 && len(p.leases)-p.closing > p.size+p.reserve: // it has become smaller
		return "too many servers in the pool"
	case !l.endOfLife.IsZero() && now.After(l.endOfLife):
		return "server lifetime over"
	case p.lifetime == 0 && l.requestAt.IsZero():
		return "" // one use, which is still to come
	case p.lifetime == 0:
		return "server lifetime over"
	case now.Sub(l.Server.ConnectedAt) > p.lifetime:
		// Not all at once: servers that were opened together would leave
		// their pool empty together.
		if p.size > 0 && now.Sub(p.lastRetired) < p.lifetime/time.Duration(p.size) {
			return ""
		}
		p.lastRetired = now
		return "server lifetime over"
	}
	return ""
}
