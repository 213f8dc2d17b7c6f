package pool

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// Answer is what a query has returned. A value is text, or nil for NULL.
type Answer struct {
	Columns int
	Rows    [][][]byte
}

// QueryError is the server's refusal of a query.
type QueryError struct{ Code, Message string }

func (e *QueryError) Error() string { return fmt.Sprintf("%s (SQLSTATE %s)", e.Message, e.Code) }

// maxAnswer bounds the bytes of an answer.
const maxAnswer = 1 << 20

// Ask runs a query of our own, with arg for its parameter $1, on a server of the
// pool, and waits for its answer as long as ctx lives; the error is then the
// cause. It waits in the queue like a client, and gives the server back clean or
// not at all. It must not be called on a loop.
//
// What the last client of the server had set of the tracked parameters is undone
// first, so that it has no say in the meaning of the query.
func (p *Pool) Ask(ctx context.Context, query, arg string) (*Answer, error) {
	a := &ask{query: query, arg: arg, loop: p.set.nextLoop(), pool: p, done: make(chan struct{})}
	a.waiter = Waiter{Loop: a.loop, Granted: a.granted, Refused: func(err error) { a.end(nil, err) }}
	if !a.loop.Post(beginAsk, a) {
		return nil, ErrShuttingDown
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		a.cause = context.Cause(ctx)
		if !a.loop.Post(giveUpAsk, a) {
			return nil, ErrShuttingDown
		}
		<-a.done
	}
	return a.answer, a.err
}

// ask is a query on its way. It belongs to its loop, but for what is said of the
// fields.
type ask struct {
	// Static.
	query, arg string
	loop       *evloop.Loop
	pool       *Pool

	waiter  Waiter
	lease   *Lease
	replies []byte
	tooLong bool
	ready   bool  // ReadyForQuery has come
	cause   error // why nobody waits for the answer; set before giveUpAsk is posted
	ended   bool

	done   chan struct{} // closed when the fields below are set
	answer *Answer
	err    error
}

func beginAsk(arg any) {
	a := arg.(*ask)
	l, err := a.pool.Acquire(&a.waiter)
	switch {
	case err != nil:
		a.end(nil, err)
	case l != nil:
		a.granted(l)
	}
}

// giveUpAsk ends an ask whose time is up.
func giveUpAsk(arg any) {
	a := arg.(*ask)
	switch {
	case a.ended:
	case a.lease != nil:
		a.abandon()
	default:
		a.pool.Leave(&a.waiter) // a server that is on its way goes back when it comes
	}
	a.end(nil, a.cause)
}

func (a *ask) end(answer *Answer, err error) {
	if a.ended {
		return
	}
	a.ended, a.answer, a.err = true, answer, err
	close(a.done)
}

func (a *ask) granted(l *Lease) {
	if a.ended {
		l.Release(a.loop)
		return
	}
	a.lease = l
	s := l.Server
	s.Hold(a)
	s.TakeFailure()
	a.pool.mu.Lock()
	welcome := a.pool.welcome
	a.pool.mu.Unlock()
	if welcome != nil && s.Vars.Differ(welcome.Vars) {
		s.SetVars(welcome.Vars)
	}
	s.Ask(a.query, a.arg)
}

// abandon gives the server back with the query not done.
func (a *ask) abandon() {
	l := a.lease
	a.lease = nil
	l.Abandon(a.loop, "", true)
}

// Forward implements backend.Holder.
func (a *ask) Forward(p []byte) {
	if len(a.replies)+len(p) > maxAnswer {
		a.tooLong = true
		return
	}
	a.replies = append(a.replies, p...)
}

// Ready implements backend.Holder.
func (a *ask) Ready(byte) { a.ready = true }

// Settle implements backend.Holder.
func (a *ask) Settle() {
	switch {
	case a.ended || a.lease.Server.Stream.Closed():
	case a.tooLong:
		a.end(nil, fmt.Errorf("answer of more than %d bytes", maxAnswer))
		a.loop.Defer(abandonAsk, a)
	case a.ready && a.lease.Server.TakeFailure(): // of SetVars: the answer is not to be trusted
		a.end(nil, errors.New("the server refused to be set to its own parameters"))
		a.loop.Defer(abandonAsk, a)
	case a.ready && a.lease.Server.TxStatus() != 'I':
		a.end(nil, errors.New("the query opens a transaction"))
		a.loop.Defer(abandonAsk, a)
	case a.ready && (a.lease.Server.Clean() || a.lease.Server.InDoubt()): // else there is more to read
		a.end(readAnswer(a.replies))
		a.loop.Defer(returnAsk, a)
	}
}

// abandonAsk and returnAsk run when the server has done with its replies; it may
// be lost by then.
func abandonAsk(arg any) {
	if a := arg.(*ask); a.lease != nil && !a.lease.Server.Stream.Closed() {
		a.abandon()
	}
}

func returnAsk(arg any) {
	if a := arg.(*ask); a.lease != nil && !a.lease.Server.Stream.Closed() {
		a.lease.Return(a.loop, "")
	}
}

// Lost implements backend.Holder.
func (a *ask) Lost(err error) {
	l := a.lease
	a.lease = nil
	l.Lost(err)
	a.end(nil, err)
}

// Sent implements backend.Holder.
func (a *ask) Sent() {}

// Aborted implements backend.Holder.
func (a *ask) Aborted(byte, any) {}

// Closed implements backend.Holder.
func (a *ask) Closed(any) {}

// Deallocated implements backend.Holder.
func (a *ask) Deallocated() {}

// readAnswer reads the replies to Server.Ask.
func readAnswer(b []byte) (*Answer, error) {
	answer := &Answer{}
	for len(b) > 0 {
		typ, n, ok := wire.Header(b)
		if !ok || n < wire.HeaderLen || n > len(b) {
			return nil, errors.New("bad packet from the server")
		}
		body := b[wire.HeaderLen:n]
		b = b[n:]
		var err error
		switch typ {
		case wire.RowDescription:
			var m pgproto3.RowDescription
			err = m.Decode(body)
			answer.Columns = len(m.Fields)
		case wire.DataRow:
			var m pgproto3.DataRow
			err = m.Decode(body)
			if len(m.Values) != answer.Columns {
				return nil, errors.New("a row that does not fit its description")
			}
			answer.Rows = append(answer.Rows, m.Values)
		case wire.ErrorResponse:
			var m pgproto3.ErrorResponse
			if err = m.Decode(body); err == nil {
				return nil, &QueryError{m.Code, m.Message}
			}
		}
		if err != nil {
			return nil, err
		}
	}
	return answer, nil
}
