package pool

import (
	"github.com/pgvalet/pgvalet/backend/evloop"
)

// caretaker holds a server between two clients: it waits until the server has
// done what it was asked, rolls back what is open, runs one query (a reset or
// a check) and releases it. It throws the replies away. It belongs to the
// server's loop.
type caretaker struct {
	lease      *Lease
	query      string // still to be run
	running    bool   // query has been sent: its failure is fatal
	probe      bool   // the server is yet to be asked whether it can write
	probing    bool   // … and is being asked: its failure means that it cannot
	abandoned  bool   // a client left in the middle of something
	patient    bool   // a query that runs is not cancelled before the time is up
	rolledBack bool
	unlocked   bool
	watching   bool // nothing to do but to notice the end of the connection
}

// emptyQuery is what server_check_query says for an empty query.
const emptyQuery = "<empty>"

// watch takes the server only to notice what happens to it.
func (c *caretaker) watch() {
	c.watching = true
	c.lease.Server.Hold(c)
}

// begin takes the server and looks after it until it can be released.
func (c *caretaker) begin(loop *evloop.Loop, task caretaker) {
	task.lease = c.lease
	*c = task
	l := c.lease
	p := l.Pool
	p.mu.Lock()
	l.state, l.client, l.brief = stateTested, 0, !task.abandoned
	l.deadline = loop.Now().Add(p.set.cancelTimeout())
	p.mu.Unlock()
	l.Server.Hold(c)
	l.Server.Stream.ResumeRead()
	l.Server.TakeFailure()
	c.Settle()
}

// Settle implements backend.Holder: it takes the next step.
func (c *caretaker) Settle() {
	s := c.lease.Server
	if c.watching || s.Stream.Closed() || s.TxStatus() == 0 || c.lease.cancelling() {
		return // a cancel request would hit the next query
	}
	switch failed := s.TakeFailure(); {
	case failed && c.probing:
		c.lease.Pool.failedOver()
		c.end("server is read-only after a failover")
	case failed && (c.running || c.rolledBack || c.unlocked):
		c.end("reset query failed")
	case s.TxStatus() != 'I' && (c.rolledBack || c.running):
		c.end("server is not clean")
	case s.TxStatus() != 'I':
		c.rolledBack = true
		s.Query("ROLLBACK")
	case c.abandoned && !c.unlocked:
		// Locks of the session outlive its transactions: nobody else would
		// ever unlock them.
		c.unlocked = true
		s.Query("SELECT pg_catalog.pg_advisory_unlock_all()")
	case c.probe:
		c.probe, c.probing = false, true
		s.Query(writeProbe)
	case c.query != "":
		c.probing = false
		q := c.query
		if q == emptyQuery {
			q = ""
		}
		c.query, c.running = "", true
		s.Query(q)
	case s.Clean(): // else there is more to read or to be sent
		c.watching = true
		s.Stream.Loop().Defer(release, c.lease)
	}
}

// lostPatience cancels, when the time is up, a query that was given the time to
// end by itself. It reports whether that was so.
func (c *caretaker) lostPatience(loop *evloop.Loop) bool {
	if !c.patient {
		return false
	}
	c.patient = false
	p := c.lease.Pool
	p.mu.Lock()
	c.lease.deadline = loop.Now().Add(p.set.cancelTimeout())
	p.mu.Unlock()
	c.lease.Cancel(func(error) {})
	return true
}

func (c *caretaker) end(why string) {
	c.watching = true
	c.lease.Pool.mu.Lock()
	c.lease.closeWhy = why
	c.lease.Pool.mu.Unlock()
	c.lease.Server.Stream.Loop().Defer(destroy, c.lease)
}

func release(arg any) {
	l := arg.(*Lease)
	if loop := l.Server.Stream.Loop(); loop != nil {
		l.Release(loop)
	}
}

func destroy(arg any) {
	arg.(*Lease).destroyWhy()
}

// Forward implements backend.Holder.
func (c *caretaker) Forward([]byte) {}

// Ready implements backend.Holder.
func (c *caretaker) Ready(byte) {}

// Aborted implements backend.Holder.
func (c *caretaker) Aborted(byte, any) {}

// Closed implements backend.Holder.
func (c *caretaker) Closed(any) {}

// Deallocated implements backend.Holder.
func (c *caretaker) Deallocated() {}

// Sent implements backend.Holder.
func (c *caretaker) Sent() { c.Settle() }

// Lost implements backend.Holder.
func (c *caretaker) Lost(err error) {
	c.lease.Lost(err)
}
