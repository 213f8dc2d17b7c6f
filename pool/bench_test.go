package pool

import (
	"context"
	"testing"

	"github.com/jackc/puddle/v2"
)

// BenchmarkLease borrows an idle server and returns it: what a transaction costs
// in the pool as long as there are servers enough.
func BenchmarkLease(b *testing.B) {
	ps := newPools(b, "", "pool_size = 2\nmin_pool_size = 2")
	until(b, ps, "filled", func(i Info) bool { return i.Idle == 2 })
	p, u := appPool(b, ps), newUser(ps)
	b.ReportAllocs()
	u.w.Loop.Call(func() {
		for b.Loop() {
			l, err := p.Acquire(&u.w)
			if l == nil || err != nil {
				b.Error("no server", err)
				return
			}
			l.Return(u.w.Loop, "")
		}
	})
}

// BenchmarkPuddle is puddle's part of BenchmarkLease.
func BenchmarkPuddle(b *testing.B) {
	pd, err := puddle.NewPool(&puddle.Config[*Lease]{
		Constructor: func(context.Context) (*Lease, error) { return new(Lease), nil },
		Destructor:  func(*Lease) {},
		MaxSize:     2,
	})
	if err != nil {
		b.Fatal(err)
	}
	defer pd.Close()
	for range 2 {
		if err := pd.CreateResource(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		res, err := pd.TryAcquire(ctx)
		if err != nil {
			b.Fatal(err)
		}
		res.Release()
	}
}

// BenchmarkHandOver has two clients share one server: whoever gets it joins the
// queue again and gives it to the other one, who waits. Between two loops the
// server moves, and its new owner is woken up.
func BenchmarkHandOver(b *testing.B) {
	for _, bench := range []struct {
		name  string
		loops int
	}{{"one loop", 1}, {"two loops", 2}} {
		b.Run(bench.name, func(b *testing.B) {
			ps := newPoolsOn(b, bench.loops, "", "pool_size = 1\nmin_pool_size = 1")
			until(b, ps, "filled", func(i Info) bool { return i.Idle == 1 })
			r := &relay{b: b, pool: appPool(b, ps), over: make(chan struct{})}
			for i := range r.runners {
				r.runners[i] = Waiter{
					Loop:    ps.loops[i%bench.loops],
					Granted: func(l *Lease) { r.lease, r.at = l, i; r.run() },
					Refused: func(err error) { b.Error(err); close(r.over) },
				}
			}
			b.ReportAllocs()
			for i := range r.runners {
				w := &r.runners[i]
				w.Loop.Call(func() {
					l, err := r.pool.Acquire(w)
					if (l == nil) != (i > 0) || err != nil {
						b.Error(l, err)
					}
					if l != nil {
						r.lease = l
					}
				})
			}
			r.runners[0].Loop.Post(runOn, r)
			<-r.over
		})
	}
}

// relay is two runners who hand a lease to each other. It belongs to the one who
// has it.
type relay struct {
	b       *testing.B
	pool    *Pool
	runners [2]Waiter
	lease   *Lease
	at      int // who has the lease
	laps    int
	over    chan struct{}
}

// breather is after how many hand-overs the loop gets to do anything else.
const breather = 128

func (r *relay) run() {
	if r.laps++; r.laps%breather == 0 {
		r.runners[r.at].Loop.Post(runOn, r)
		return
	}
	runOn(r)
}

func runOn(arg any) {
	r := arg.(*relay)
	w, l := &r.runners[r.at], r.lease
	if !r.b.Loop() {
		r.pool.Leave(&r.runners[1-r.at])
		l.Release(w.Loop)
		close(r.over)
		return
	}
	if other, err := r.pool.Acquire(w); other != nil || err != nil {
		r.b.Error("there is a second server", err)
	}
	l.Release(w.Loop)
}
