package backend

import "github.com/pgvalet/pgvalet/backend/wire"

// action is what becomes of the replies to a request.
type action uint8

const (
	forward  action = iota // they go to the holder
	inject                 // the request was added to the holder's: it sees nothing but an error
	internal               // the request was ours: nobody sees the replies, an error is noted
	quiet                  // … or not even that
	fake                   // the request was not sent: the reply is made up when its turn comes
)

// request is one message, sent or not, that the server owes an answer to.
type request struct {
	kind    byte // wire.Query, Parse, Bind, Describe, Execute, Close, Sync, FunctionCall, CopyDone (and CopyFail)
	action  action
	unnamed bool       // Parse of the unnamed statement
	stmt    *Statement // Parse, Close, Bind and Describe: what it is about, nil for unnamed statements and portals
	undo    any        // the holder's, returned in Holder.Aborted if the request comes to nothing
}

// requestQueue is a ring of the outstanding requests of one server, oldest
// first.
type requestQueue struct {
	ring []request // its length is a power of two
	head int
	n    int
}

// longRing is how many requests an empty queue keeps room for.
const longRing = 1 << 10

func (q *requestQueue) len() int { return q.n }

func (q *requestQueue) push(r request) {
	if q.n == len(q.ring) {
		ring := make([]request, max(8, 2*len(q.ring)))
		for i := range q.n {
			ring[i] = *q.at(i)
		}
		q.ring, q.head = ring, 0
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = r
	q.n++
}

// at returns the i-th oldest request; it must exist.
func (q *requestQueue) at(i int) *request {
	return &q.ring[(q.head+i)&(len(q.ring)-1)]
}

func (q *requestQueue) pop() request {
	p := q.at(0)
	r := *p
	*p = request{}
	q.head = (q.head + 1) & (len(q.ring) - 1)
	if q.n--; q.n == 0 && len(q.ring) > longRing {
		*q = requestQueue{}
	}
	return r
}

// remove takes the i-th oldest request out.
func (q *requestQueue) remove(i int) {
	for ; i < q.n-1; i++ {
		*q.at(i) = *q.at(i + 1)
	}
	*q.at(i) = request{}
	q.n--
}

// clear forgets everything; a long ring is given back to the collector.
func (q *requestQueue) clear() {
	*q = requestQueue{}
}

// ends reports whether the answer to the request ends in ReadyForQuery.
func (r *request) ends() bool {
	switch r.kind {
	case wire.Query, wire.Sync, wire.FunctionCall:
		return true
	}
	return false
}

// extended reports whether the request belongs to the extended protocol, where
// an error makes the server ignore everything up to the next Sync.
func (r *request) extended() bool {
	switch r.kind {
	case wire.Parse, wire.Bind, wire.Describe, wire.Execute, wire.Close:
		return true
	}
	return false
}
