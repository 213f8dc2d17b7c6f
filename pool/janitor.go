package pool

import (
	"time"

	"github.com/jackc/puddle/v2"
)

// janitorPeriod is PgBouncer's: everything that the janitor does is exact to a
// third of a second.
const janitorPeriod = time.Second / 3

// janitor looks after servers that nobody has and logins that nobody waits for.
func (ps *Pools) janitor() {
	tick := time.NewTicker(janitorPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ps.ctx.Done():
			return
		case now := <-tick.C:
			ps.prepare()
			ps.forgetAuto(now)
			for _, p := range ps.all("") {
				p.tidy(now)
			}
		}
	}
}

// prepare makes the pools that are to have servers before any client comes: with
// a forced user it is known who logs in.
func (ps *Pools) prepare() {
	c := ps.config()
	for name, db := range c.Databases {
		if db.User != "" && c.MinPoolSizeFor(db) > 0 {
			_, _ = ps.Get(name, db.User) // fails only if a reload has just removed it
		}
	}
}

func (p *Pool) tidy(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.leases {
		if l.state == stateTested && !l.deadline.IsZero() && now.After(l.deadline) {
			if loop := l.Server.Stream.Loop(); loop != nil {
				loop.Post(func(any) { l.overdue(loop) }, nil)
			}
		}
	}
	p.dropStale()
	if p.idle == 0 {
		p.spare = 0
	} else if p.sweepDue(now) {
		idleTimeout := p.set.config().ServerIdleTimeout
		left := len(p.leases)
		p.spare = 0
		p.closeIdle(func(l *Lease, res *puddle.Resource[*Lease]) string {
			why := p.mustClose(l, now)
			if why == "" && idleTimeout > 0 && left > p.minSize && res.IdleDuration() > idleTimeout {
				why = "server idle timeout"
			}
			if why != "" {
				left--
			} else if res.IdleDuration() > spareAfter {
				p.spare++
			}
			return why
		})
	}
	p.launch()
	p.replaceOne(now)
}

// sweepDue keeps the janitor from taking all idle servers out of puddle at
// every tick: once a second is enough. mu is held.
func (p *Pool) sweepDue(now time.Time) bool {
	if now.Before(p.nextSweep) {
		return false
	}
	p.nextSweep = now.Add(time.Second)
	return true
}
