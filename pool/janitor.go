package pool

import (
	"fmt"
	"time"

	"github.com/jackc/puddle/v2"
)

// janitorPeriod is PgBouncer's: everything that the janitor does is exact to a
// third of a second.
const janitorPeriod = time.Second / 3

// janitor looks after servers that nobody has and logins that nobody waits for,
// and is the arbiter between pools that share a limit.
func (ps *Pools) janitor() {
	tick := time.NewTicker(janitorPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ps.ctx.Done():
			return
		case <-ps.limits.kick:
			ps.arbitrate()
		case now := <-tick.C:
			ps.prepare()
			ps.forgetAuto(now)
			for _, p := range ps.all("") {
				p.tidy(now)
				ps.dropIdle(p, now)
			}
			ps.arbitrate()
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

// dropIdle forgets a pool that has had neither clients nor servers for
// pool_idle_timeout. One that is to have servers without clients stays.
func (ps *Pools) dropIdle(p *Pool, now time.Time) {
	timeout := ps.config().PoolIdleTimeout
	ps.mu.Lock() // so that nobody gets the pool meanwhile
	defer ps.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clients+len(p.wantWelcome)+len(p.leases)+p.connecting+p.passages > 0 || p.waiting.n > 0 || p.db == nil || p.db.User != "" && p.minSize > 0 {
		p.usedAt = now
	}
	age := now.Sub(p.usedAt)
	if timeout == 0 || age <= timeout {
		return
	}
	p.log.Info(fmt.Sprintf("cleaning up idle pool for user %s on db %s because: pool idle timeout (age=%ds)", p.User, p.Database, int(age.Seconds())))
	sum := ps.past[p.Database]
	for i := range p.stats { // which no loop touches any more
		sum.Add(&p.stats[i])
	}
	ps.past[p.Database] = sum
	p.db = nil
	ps.drop(p)
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
	}
	if len(p.leases) > 0 && p.db != nil && p.sweepDue(now) {
		p.followNames()
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
			} else if res.IdleDuration() > min(spareAfter, p.lifetime/4) {
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
