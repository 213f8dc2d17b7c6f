package pool

import (
	"container/heap"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/pgvalet/pgvalet/config"
)

// governor keeps logins to what their endpoint bears, over all pools and
// databases. A login is dear to PostgreSQL, and dearer to RDS with IAM, which
// refuses more than 200 of them in a second: after a failover, when everybody
// needs servers at once, the crowd is served sooner by a few logins at a time.
//
// Whoever has waited longest for a server goes first, whichever pool it is in.
type governor struct {
	mu     sync.Mutex // guards the fields below; taken last
	gates  map[endpoint]*gate
	limits map[endpoint]loginLimits // of those that the configuration names
	others loginLimits
	turns  uint64 // there have been
}

// endpoint is where servers are logged in to.
type endpoint struct {
	host string // in lower case; or the path of a unix socket's directory
	port int
}

func endpointOf(host string, port int) endpoint { return endpoint{strings.ToLower(host), port} }

// loginLimits are those of one endpoint.
type loginLimits struct {
	parallel int // logins under way at a time
	rate     int // IAM logins in any second; 0: no limit
}

// gate is the way into one endpoint.
type gate struct {
	running int       // logins under way
	queue   turnQueue // those that wait for a place
	next    time.Time // when the next IAM login would be due at an even pace
}

// turn is a login that waits for its place.
type turn struct {
	since  time.Time // when its client began to wait
	number uint64    // among equals, who came first
	place  int       // in the queue, -1: in no queue
	ready  chan struct{}
}

// configure puts the limits of a configuration into force. Where several
// databases are at one endpoint, the lowest limit holds.
func (g *governor) configure(c *config.Config) {
	limits := make(map[endpoint]loginLimits)
	for _, db := range c.Entries() {
		for _, host := range db.Hosts() {
			e := endpointOf(host, db.Port)
			l, known := limits[e]
			if n := c.ServerLoginParallelFor(db); !known || n < l.parallel {
				l.parallel = n
			}
			if n := c.IAMLoginRateFor(db); l.rate == 0 || n > 0 && n < l.rate {
				l.rate = n
			}
			limits[e] = l
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limits, g.others = limits, loginLimits{c.ServerLoginParallel, c.IAMLoginRate}
	for e := range g.gates {
		g.grant(e)
	}
}

// limitsOf returns the limits of an endpoint. mu is held.
func (g *governor) limitsOf(e endpoint) loginLimits {
	if l, ok := g.limits[e]; ok {
		return l
	}
	return g.others // a reload has just removed its database
}

// enter waits until a login at e may begin, and with iam until one more does not
// exceed the rate. leave must be called when the login has ended, however it did.
// since says who goes first: the login that somebody has waited for longest.
func (g *governor) enter(ctx context.Context, e endpoint, since time.Time, iam bool) (leave func(), err error) {
	t := &turn{since: since, ready: make(chan struct{})}
	g.mu.Lock()
	g.turns++
	t.number = g.turns
	if g.gates[e] == nil {
		g.gates[e] = &gate{}
	}
	heap.Push(&g.gates[e].queue, t)
	g.grant(e)
	g.mu.Unlock()
	select {
	case <-t.ready:
	case <-ctx.Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if t.place >= 0 {
			heap.Remove(&g.gates[e].queue, t.place)
			g.forget(e)
		} else {
			g.leave(e)
		}
		return nil, context.Cause(ctx)
	}
	leave = func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.leave(e)
	}
	if !iam {
		return leave, nil
	}
	pause := time.NewTimer(g.reserve(e, time.Now()))
	defer pause.Stop()
	select {
	case <-pause.C:
		return leave, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}

// grant lets in who may go. mu is held.
func (g *governor) grant(e endpoint) {
	w := g.gates[e]
	for most := g.limitsOf(e).parallel; w.running < most && len(w.queue) > 0; {
		w.running++
		close(heap.Pop(&w.queue).(*turn).ready)
	}
}

// leave is the end of a login. mu is held.
func (g *governor) leave(e endpoint) {
	g.gates[e].running--
	g.grant(e)
	g.forget(e)
}

// forget drops a gate that remembers nothing. mu is held.
func (g *governor) forget(e endpoint) {
	if w := g.gates[e]; w.running == 0 && len(w.queue) == 0 && !w.next.After(time.Now()) {
		delete(g.gates, e)
	}
}

// reserve takes the next place in the endpoint's second and returns how long it
// is until then. A tenth of the rate may go at once; what follows is evenly
// spaced, so that no second, wherever it begins, sees more than the rate.
func (g *governor) reserve(e endpoint, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	rate := g.limitsOf(e).rate
	if rate == 0 {
		return 0
	}
	burst := max(1, rate/10)
	n := time.Duration(rate - burst + 1)
	interval := (time.Second + n - 1) / n
	w := g.gates[e]
	if w.next.Before(now) {
		w.next = now
	}
	at := w.next.Add(-time.Duration(burst-1) * interval)
	w.next = w.next.Add(interval)
	return at.Sub(now)
}

// turnQueue is a heap of turns, the oldest first.
type turnQueue []*turn

// Len implements heap.Interface.
func (q turnQueue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q turnQueue) Less(i, j int) bool {
	if q[i].since.Equal(q[j].since) {
		return q[i].number < q[j].number
	}
	return q[i].since.Before(q[j].since)
}

// Swap implements heap.Interface.
func (q turnQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *turnQueue) Push(x any) {
	t := x.(*turn)
	t.place = len(*q)
	*q = append(*q, t)
}

// Pop implements heap.Interface.
func (q *turnQueue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.place = -1
	return t
}
