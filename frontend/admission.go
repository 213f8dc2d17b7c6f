package frontend

import (
	"container/heap"
	"context"
	"net"
	"net/netip"
	"sync"
)

// admission bounds how many logins compute at once (TLS handshakes, password
// hashes), so that a storm of them leaves processor time to running
// transactions. A free slot goes to the source addresses in turn, and for one
// address to its oldest login: a login that came back from waiting for the
// network is finished before the next one begins, so that under overload some
// succeed instead of all timing out together.
type admission struct {
	mu     sync.Mutex // guards everything below
	free   int
	logins uint64                        // how many tickets there were: the age of the next
	queues map[netip.Prefix]*ticketQueue // of sources with waiting tickets
	turns  []*ticketQueue                // the same queues in the order of their turns
}

func newAdmission(slots int) *admission {
	return &admission{free: max(slots, 1), queues: make(map[netip.Prefix]*ticketQueue)}
}

// ticket is one login's claim to slots, used by one goroutine at a time.
type ticket struct {
	admission *admission
	source    netip.Prefix
	age       uint64

	held bool // owned by the login

	granted chan struct{} // gets one value when the slot is handed over
	index   int           // in its queue; -1: not there. Guarded by admission.mu
}

// newTicket returns a ticket for a login from addr, without a slot.
func (a *admission) newTicket(addr net.Addr) *ticket {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.logins++
	return &ticket{admission: a, source: sourceOf(addr), age: a.logins, granted: make(chan struct{}, 1), index: -1}
}

// sourceOf is what fairness is between: an IPv4 address, an IPv6 network of 64
// bits, since whoever has one address of it has all of them, and the zero
// Prefix for everybody on unix sockets.
func sourceOf(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // fails for an invalid address only, with a zero Prefix
	return p
}

// acquire waits for a slot, unless the ticket holds one. It returns the cause
// of ctx's end if that comes first.
func (t *ticket) acquire(ctx context.Context) error {
	if t.held {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a := t.admission
	a.mu.Lock()
	if a.free > 0 { // then nobody waits
		a.free--
		a.mu.Unlock()
		t.held = true
		return nil
	}
	a.enqueue(t)
	a.mu.Unlock()

	select {
	case <-t.granted:
		t.held = true
		return nil
	case <-ctx.Done():
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.index < 0 { // granted in the meantime
		<-t.granted
		a.grant()
	} else {
		a.dequeue(t)
	}
	return context.Cause(ctx)
}

// release gives the slot back, if the ticket holds one.
func (t *ticket) release() {
	if !t.held {
		return
	}
	t.held = false
	t.admission.mu.Lock()
	defer t.admission.mu.Unlock()
	t.admission.grant()
}

// grant gives a slot to whose turn it is. The caller holds mu.
func (a *admission) grant() {
	if len(a.turns) == 0 {
		a.free++
		return
	}
	q := a.turns[0]
	t := heap.Pop(q).(*ticket)
	a.turns = a.turns[1:]
	if q.Len() > 0 {
		a.turns = append(a.turns, q)
	} else {
		delete(a.queues, q.source)
	}
	t.granted <- struct{}{}
}

// enqueue puts t in line. The caller holds mu.
func (a *admission) enqueue(t *ticket) {
	q := a.queues[t.source]
	if q == nil {
		q = &ticketQueue{source: t.source}
		a.queues[t.source] = q
		a.turns = append(a.turns, q)
	}
	heap.Push(q, t)
}

// dequeue takes t out of line. The caller holds mu.
func (a *admission) dequeue(t *ticket) {
	q := a.queues[t.source]
	heap.Remove(q, t.index)
	if q.Len() > 0 {
		return
	}
	delete(a.queues, t.source)
	for i := range a.turns {
		if a.turns[i] == q {
			a.turns = append(a.turns[:i:i], a.turns[i+1:]...)
			return
		}
	}
}

// ticketQueue is the waiting logins of one source, a heap with the oldest
// first (container/heap).
type ticketQueue struct {
	source  netip.Prefix
	tickets []*ticket
}

func (q *ticketQueue) Len() int           { return len(q.tickets) }
func (q *ticketQueue) Less(i, j int) bool { return q.tickets[i].age < q.tickets[j].age }

func (q *ticketQueue) Swap(i, j int) {
	q.tickets[i], q.tickets[j] = q.tickets[j], q.tickets[i]
	q.tickets[i].index, q.tickets[j].index = i, j
}

// Push implements heap.Interface.
func (q *ticketQueue) Push(x any) {
	t := x.(*ticket)
	t.index = len(q.tickets)
	q.tickets = append(q.tickets, t)
}

// Pop implements heap.Interface.
func (q *ticketQueue) Pop() any {
	last := len(q.tickets) - 1
	t := q.tickets[last]
	q.tickets[last] = nil
	q.tickets = q.tickets[:last]
	t.index = -1
	return t
}
