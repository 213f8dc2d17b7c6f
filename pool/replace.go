package pool

import "time"

// This file replaces servers before their lifetime is over. A server in demand
// that is closed for its age leaves somebody waiting for a login; so another is
// opened first, and the old one goes when that is there and nobody has it. They
// go one by one, within the limits of the pool: where there is no room for one
// more, they are closed and opened again as they come of age.

const (
	// mostAhead bounds the last part of a lifetime in which servers are
	// replaced; it is a tenth of it otherwise.
	mostAhead = 5 * time.Minute
	// spareAfter is how long a server is idle that the pool could do without.
	spareAfter = 10 * time.Second
)

// replaceOne starts to replace the oldest server, if that is due. mu is held.
func (p *Pool) replaceOne(now time.Time) {
	old := p.dueForReplacement(now)
	if old != nil && p.mayLaunch(p.connecting) && !p.full(p.connecting) && p.set.limits.take(p, false) {
		p.replacing = true
		p.connecting++
		p.set.goroutines.Go(func() { p.open(want{now.Add(nobodyWaits), old}) })
	}
}

// dueForReplacement returns the oldest server if its lifetime is nearly over and
// the pool cannot do without it. mu is held.
func (p *Pool) dueForReplacement(now time.Time) *Lease {
	if p.lifetime == 0 || p.replacing || len(p.leases) == 0 || p.spare > 0 && len(p.leases) > p.minSize {
		return nil
	}
	ahead := min(p.lifetime/10, mostAhead)
	if now.Sub(p.replacedAt) < ahead/time.Duration(len(p.leases)) {
		return nil
	}
	var oldest *Lease
	for l := range p.leases {
		if l.closeWhy == "" && l.generation == p.generation && l.state != stateClosing &&
			(oldest == nil || l.Server.ConnectedAt.Before(oldest.Server.ConnectedAt)) {
			oldest = l
		}
	}
	if oldest == nil || now.Sub(oldest.Server.ConnectedAt) < p.lifetime-ahead {
		return nil
	}
	return oldest
}

// replaced is the end of a login that was to replace old. mu is held.
func (p *Pool) replaced(old *Lease, err error) {
	p.replacing = false
	p.replacedAt = time.Now()
	if _, there := p.leases[old]; there && err == nil && old.closeWhy == "" {
		old.closeWhy = "server lifetime over" // when it is free
	}
}
