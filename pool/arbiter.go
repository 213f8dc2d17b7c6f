package pool

import (
	"slices"
	"time"
)

// claim is what a pool in the queue asks for.
type claim struct {
	pool  *Pool
	since time.Time // when its oldest waiter came
	need  int       // logins
}

// arbitrate shares out the places under the limits among the pools in the queue.
// The oldest waiter comes first: its pool gets a place that is free, else one
// that is about to be, else an idle server of another pool is closed for it,
// else it gets the server of another pool that becomes free next (see pays). It
// runs on the janitor's goroutine.
func (ps *Pools) arbitrate() {
	ls := &ps.limits
	claims := ps.claims()
	if len(claims) == 0 && !ps.indebted {
		return
	}
	ls.mu.Lock()
	for _, c := range claims {
		for _, l := range c.pool.limits {
			l.promised = 0
		}
	}
	ls.mu.Unlock()
	debts := make(map[*limit][]*debt)
	for _, c := range claims {
		for range c.need {
			if !ps.serve(c, debts) {
				break
			}
		}
		c.pool.mu.Lock()
		if n, _ := c.pool.claim(); n == 0 && c.pool.queued {
			ls.dequeue(c.pool)
		}
		c.pool.mu.Unlock()
	}
	ps.indebt(debts)
}

// claims returns what the pools in the queue need, the oldest first. Those which
// need nothing any more leave it.
func (ps *Pools) claims() []claim {
	ls := &ps.limits
	ls.mu.Lock()
	queue := make([]*Pool, 0, len(ls.queue))
	for p := range ls.queue {
		queue = append(queue, p)
	}
	ls.mu.Unlock()
	var claims []claim
	for _, p := range queue {
		p.mu.Lock()
		if n, since := p.claim(); n > 0 {
			claims = append(claims, claim{p, since, n})
		} else {
			ls.dequeue(p)
			p.launch() // there may be min_pool_size
		}
		p.mu.Unlock()
	}
	slices.SortStableFunc(claims, func(a, b claim) int { return a.since.Compare(b.since) })
	return claims
}

// serve finds a place for one login of a claim, or sees to it that there will be
// one; it reports false if that takes a server that is in use.
func (ps *Pools) serve(c claim, debts map[*limit][]*debt) bool {
	p, ls := c.pool, &ps.limits
	p.mu.Lock()
	ls.mu.Lock()
	free := true
	for _, l := range p.limits {
		free = free && l.open(false) > 0
	}
	if free {
		ls.occupy(p)
	}
	ls.mu.Unlock()
	connecting := p.connecting > 0
	if free {
		p.start(c.since)
	}
	p.mu.Unlock()
	if free {
		return true
	}

	found, first := true, true
	for _, l := range p.limits {
		ls.mu.Lock()
		open := l.open(true) > 0
		ls.mu.Unlock()
		if !open && !ps.evict(l, p) {
			found, first = false, first && debts[l] == nil
			if !connecting { // else it gets a server soon
				debts[l] = append(debts[l], &debt{to: p, since: c.since})
			}
		}
	}
	if found || first { // the oldest that lacks one place keeps the other one
		ls.mu.Lock()
		for _, l := range p.limits {
			l.promised++
		}
		ls.mu.Unlock()
	}
	return found
}

// evict closes the idle server under l that nobody has used for the longest
// time, but none of p's; it reports whether there was one.
func (ps *Pools) evict(l *limit, p *Pool) bool {
	ps.limits.mu.Lock()
	pools := make([]*Pool, 0, len(l.pools))
	for o := range l.pools {
		if o != p {
			pools = append(pools, o)
		}
	}
	ps.limits.mu.Unlock()
	var oldest *Lease
	var since time.Time
	for _, o := range pools {
		o.mu.Lock()
		if i, used := o.longestIdle(); i != nil && (oldest == nil || used.Before(since)) {
			oldest, since = i, used
		}
		o.mu.Unlock()
	}
	if oldest == nil {
		return false
	}
	o := oldest.Pool
	o.mu.Lock()
	defer o.mu.Unlock()
	if oldest.state != stateIdle || !o.claimIdle(oldest) { // somebody has it now, who will pay the debt
		return false
	}
	o.close(oldest, "evicted")
	return true
}

// longestIdle returns the idle server that was lent least recently, and when
// that was. mu is held.
func (p *Pool) longestIdle() (oldest *Lease, since time.Time) {
	if p.idle == 0 || p.waiting.n > 0 { // if anybody waits, he is about to get it
		return nil, since
	}
	for l := range p.leases {
		used := l.requestAt
		if used.IsZero() {
			used = l.Server.ConnectedAt
		}
		if l.state == stateIdle && (oldest == nil || used.Before(since)) {
			oldest, since = l, used
		}
	}
	return oldest, since
}

// indebt tells the pools under full limits whom they owe the next server that
// becomes free. No pool owes to itself.
func (ps *Pools) indebt(debts map[*limit][]*debt) {
	ps.indebted = len(debts) > 0
	for _, p := range ps.all("") {
		var first *debt
		for _, l := range p.limits {
			for _, d := range debts[l] {
				if d.to != p && (first == nil || d.since.Before(first.since)) {
					first = d
				}
			}
		}
		p.mu.Lock()
		p.debt = first
		p.mu.Unlock()
	}
}
