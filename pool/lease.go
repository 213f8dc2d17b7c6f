package pool

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/puddle/v2"
	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
)

// state is what a server is doing, in the words of SHOW SERVERS.
type state uint8

const (
	stateIdle          state = iota // in puddle's idle list
	stateActive                     // a client has it
	stateTested                     // the caretaker has it: reset, check, clean-up
	stateBeingCanceled              // the caretaker has it until a cancel request has arrived
	stateClosing                    // claimed by somebody who is about to close it
)

func (s state) String() string {
	return [...]string{"idle", "active", "tested", "being_canceled", "idle"}[s] // PgBouncer has no word for the last
}

// shown is the state as an operator sees it: the caretaker takes no step while a
// cancel request is on its way. Pool.mu is held.
func (l *Lease) shown() state {
	if l.state == stateTested && l.cancels > 0 {
		return stateBeingCanceled
	}
	return l.state
}

// Lease is the use of one server. There is one Lease for each server, for the
// whole life of it.
type Lease struct {
	// Static after construction.
	ID         uint64
	Server     *backend.Server
	Pool       *Pool
	generation uint64
	log        *zap.Logger
	// Replication says that the server is a walsender: it has one client only
	// (see Dedicate).
	Replication backend.Replication

	// Owned by the server's loop.
	care caretaker

	// Guarded by Pool.mu.
	res            *puddle.Resource[*Lease] // set while it is not idle
	state          state
	client         uint64 // who has it, 0 for nobody
	requestAt      time.Time
	endOfLife      time.Time // when it must be closed, whatever server_lifetime says; zero: never
	cancels        int       // cancel requests on their way to the server
	cancelsWaiting int       // of these, how many have no connection yet
	brief          bool      // the caretaker has nothing to wait for but one query
	deadline       time.Time // when the caretaker gives up; zero: never
	closeWhy       string    // why the server is to be closed when it is free, "" for not
}

// Log returns a logger with the server's label.
func (l *Lease) Log() *zap.Logger { return l.log }

// Release gives the server back. It must be called on the server's loop, from
// outside the server's own handler (Loop.Defer); the caller must not touch the
// server afterwards. A server that is not clean is closed.
func (l *Lease) Release(loop *evloop.Loop) {
	s := l.Server
	if !s.Clean() {
		l.Destroy("server is not clean")
		return
	}
	p := l.Pool
	s.Hold(nil)
	s.Stream.ResumeRead() // the last holder may have been slow
	p.mu.Lock()
	l.client, l.deadline = 0, time.Time{}
	if l.cancels > 0 {
		// A cancel on its way to this server was meant for the query that
		// has ended: nobody may send another one before it has arrived.
		l.state = stateBeingCanceled
		p.mu.Unlock()
		l.care.watch()
		return
	}
	why := p.mustClose(l, loop.Now())
	if why == "" && (p.makeRoom() || p.pays(loop.Now())) {
		why = "evicted"
	}
	if why != "" {
		p.condemn(l, why)
		p.mu.Unlock()
		l.Destroy(why)
		return
	}
	s.Stream.Park()
	if w := p.nextWaiter(); w != nil {
		p.grant(w, l, loop)
	} else {
		p.toIdle(l)
	}
	p.mu.Unlock()
}

// Destroy closes the server. It must be called on the server's loop.
func (l *Lease) Destroy(why string) {
	if !l.Server.Stream.Closed() {
		l.logClosed(why)
	}
	l.destroy()
}

// logClosed says why a server connection has ended, in PgBouncer's words.
func (l *Lease) logClosed(why string) {
	if l.Pool.set.config().LogDisconnections {
		l.log.Info("closing because: " + why + " (age=" + strconv.Itoa(int(time.Since(l.Server.ConnectedAt).Seconds())) + "s)")
	}
}

func (l *Lease) destroy() {
	l.Server.Close()
	l.forget()
}

// Lost takes note of a server whose connection has ended by itself.
func (l *Lease) Lost(err error) {
	l.logClosed(err.Error())
	l.forget()
}

// forget takes a closed server out of the pool's books.
func (l *Lease) forget() {
	p := l.Pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.leases[l]; !ok {
		return
	}
	delete(p.leases, l)
	announced := l.state == stateClosing
	if announced {
		p.closing--
	}
	p.set.limits.give(p, announced)
	l.state = stateClosing
	if l.res != nil {
		l.res.Hijack() // it is closed already; unlike Destroy this frees its place at once
		l.res = nil
	}
	// Where many processes have lost their servers at the same moment, those
	// that nobody waits for need not come back at the same moment.
	p.refillAt = time.Now().Add(rand.N(refillSpread))
	p.launch()
	p.set.changed()
}

// refillSpread is over how long the first logins are spread that replace lost
// servers which nobody waits for.
const refillSpread = 2 * time.Second

// Return gives back a server whose client has left in good order, after
// running query ("" for none).
func (l *Lease) Return(loop *evloop.Loop, query string) {
	if l.Replication != backend.NoReplication {
		l.Destroy("replication client was closed")
		return
	}
	if query == "" && l.Server.InDoubt() {
		query = emptyQuery
	}
	probe := l.Server.TakeReadOnly() && l.Pool.mayHaveFailedOver(loop.Now())
	if query == "" && !probe {
		l.Release(loop)
		return
	}
	l.care.begin(loop, caretaker{query: query, probe: probe})
}

// Abandon gives back a server whose client is gone or was sent away in the
// middle of something. A query that is running is cancelled, at once if cancel
// says so and no other follows it, else after cancel_wait_timeout; a transaction
// is rolled back, and query ("" for none) run. If that takes longer than
// cancel_wait_timeout, or is not possible, the server is closed.
func (l *Lease) Abandon(loop *evloop.Loop, query string, cancel bool) {
	s := l.Server
	if l.Replication != backend.NoReplication {
		l.Destroy("replication client was closed")
		return
	}
	busy := s.TxStatus() == 0
	// If a BEGIN is cancelled, what its client has sent behind it is committed.
	cancel = cancel && s.Queries() <= 1
	if s.Stream.Closed() || !s.Abandon() {
		l.Destroy("client disconnect while server was not ready")
		return
	}
	if busy && cancel {
		l.Cancel(func(error) {})
	}
	l.care.begin(loop, caretaker{query: query, abandoned: true, patient: busy && !cancel})
}

// Cancel asks the server to stop what it is doing. It returns at once, and
// calls done, on a goroutine, when the request has arrived or failed; the
// server is lent to nobody else before. When cancel_wait_timeout was over first,
// the error is ErrCancelWait. It must be called by who has the server.
func (l *Lease) Cancel(done func(error)) {
	p := l.Pool
	p.mu.Lock()
	if l.cancels >= maxCancels {
		p.mu.Unlock()
		done(nil)
		return
	}
	l.cancels++
	l.cancelsWaiting++
	p.mu.Unlock()
	p.set.goroutines.Go(func() {
		var err error
		defer func() { done(err) }()
		ctx, stop := context.WithTimeoutCause(p.set.ctx, p.set.cancelTimeout(), ErrCancelWait)
		defer stop()
		s, waits := l.Server, 1
		err = backend.Cancel(ctx, s.Target, s.Addr, s.OverTLS, s.PID, s.Key, func() {
			p.mu.Lock()
			l.cancelsWaiting--
			p.mu.Unlock()
			waits = 0
		})
		if err != nil {
			l.log.Warn("cancel request failed", zap.Error(err))
		}
		p.mu.Lock()
		l.cancelsWaiting -= waits
		if err != nil {
			l.closeWhy = "cancel request may still be on its way"
		}
		l.cancels--
		waiting := l.cancels == 0 && (l.state == stateBeingCanceled || l.state == stateTested)
		p.mu.Unlock()
		if waiting {
			if loop := s.Stream.Loop(); loop != nil { // else it is lost, which is noted elsewhere
				loop.Post(canceled, l)
			}
		}
	})
}

// ErrCancelWait is why a cancel request was given up.
var ErrCancelWait = errors.New("cancel_wait_timeout")

// maxCancels is how many cancel requests may be on their way to one server. They
// all stop the same query.
const maxCancels = 2

// canceled runs on the server's loop when the last cancel request has arrived
// while the server was being kept for it.
func canceled(arg any) {
	l := arg.(*Lease)
	loop := l.Server.Stream.Loop()
	if loop == nil {
		return
	}
	l.Pool.mu.Lock()
	state := l.state
	l.Pool.mu.Unlock()
	switch state {
	case stateBeingCanceled:
		l.Release(loop)
	case stateTested:
		l.care.Settle()
	}
}

// cancelling reports whether a cancel request is on its way to the server.
func (l *Lease) cancelling() bool {
	l.Pool.mu.Lock()
	defer l.Pool.mu.Unlock()
	return l.cancels > 0
}

// onIdleEvent runs on the server's loop when something happens to a server that
// nobody has: most likely it has closed the connection.
func (l *Lease) onIdleEvent(loop *evloop.Loop) {
	p := l.Pool
	p.mu.Lock()
	if l.state != stateIdle || !p.claimIdle(l) {
		p.mu.Unlock()
		return // somebody has it now, and will see
	}
	l.state = stateTested
	p.mu.Unlock()
	if err := l.Server.Stream.Unpark(loop); err != nil {
		l.Destroy(err.Error())
		return
	}
	l.care.watch()
	l.Server.Readable(l.Server.Stream)
	if !l.Server.Stream.Closed() {
		l.Release(loop)
	}
}

// closeClaimed runs on the server's loop for a parked server that the caller
// has claimed (stateClosing).
func closeClaimed(arg any) {
	l := arg.(*Lease)
	if loop := l.Server.Stream.Loop(); loop != nil {
		_ = l.Server.Stream.Unpark(loop)
	}
	l.destroyWhy()
}

// destroyWhy is Destroy for the reason that was noted.
func (l *Lease) destroyWhy() {
	l.Pool.mu.Lock()
	why := l.closeWhy
	l.Pool.mu.Unlock()
	l.Destroy(why)
}

// testClaimed runs on the server's loop for a parked server that is to be asked
// whether it is alive.
func testClaimed(arg any) {
	l := arg.(*Lease)
	loop := l.Server.Stream.Loop()
	if loop == nil {
		return
	}
	if err := l.Server.Stream.Unpark(loop); err != nil {
		l.Destroy(err.Error())
		return
	}
	query, _ := l.Pool.set.check()
	l.care.begin(loop, caretaker{query: query})
}

// overdue runs on the loop that the server was on when the caretaker's time was
// up. It may have been lent since, to another loop even, and have come back.
func (l *Lease) overdue(loop *evloop.Loop) {
	l.Pool.mu.Lock()
	late := l.state == stateTested && !l.deadline.IsZero() && time.Now().After(l.deadline)
	l.Pool.mu.Unlock()
	if late && l.Server.Stream.Loop() == loop && !l.care.lostPatience(loop) {
		l.Destroy("server did not become ready in time")
	}
}
