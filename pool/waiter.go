package pool

import (
	"time"

	"github.com/pgvalet/pgvalet/backend/evloop"
)

// Waiter is a place in the queue of a pool. It can be used again and again, for
// one client at a time; it belongs to its loop, except for what the pool's mutex
// guards.
type Waiter struct {
	// Set by its owner before Acquire.
	Loop    *evloop.Loop
	ID      uint64       // the client's number, for the console
	Granted func(*Lease) // called on Loop when a server is there
	Refused func(error)  // called on Loop when none will be

	// Guarded by Pool.mu.
	prev, next *Waiter
	queued     bool
	since      time.Time
	dedicated  chan struct{} // not nil: waits for a place of its own, and not for a server; closed when it has one
	roomMade   bool          // … and a server has been closed to make room for it

	// Set before the waiter leaves the queue, read on Loop.
	lease *Lease
	err   error
}

// deliver runs on the waiter's loop.
func deliver(arg any) {
	w := arg.(*Waiter)
	l, err := w.lease, w.err
	w.lease, w.err = nil, nil
	if l == nil {
		w.Refused(err)
		return
	}
	if err := l.Server.Stream.Unpark(w.Loop); err != nil {
		l.destroy()
		w.Refused(err)
		return
	}
	w.Granted(l)
}

// waitList is a FIFO of waiters.
type waitList struct {
	head, tail *Waiter
	n          int
}

func (q *waitList) push(w *Waiter, now time.Time) {
	w.queued, w.since = true, now
	w.prev, w.next = q.tail, nil
	if q.tail != nil {
		q.tail.next = w
	} else {
		q.head = w
	}
	q.tail = w
	q.n++
}

// at returns the waiter that i others are before, nil if there is none.
func (q *waitList) at(i int) *Waiter {
	w := q.head
	for ; w != nil && i > 0; i-- {
		w = w.next
	}
	return w
}

func (q *waitList) remove(w *Waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.head = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.tail = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	q.n--
}

// next is the oldest waiter that a free server is of use to.
func (q *waitList) next() *Waiter {
	w := q.head
	for w != nil && w.roomMade {
		w = w.next
	}
	return w
}

func (q *waitList) pop() *Waiter {
	w := q.head
	if w != nil {
		q.remove(w)
	}
	return w
}
