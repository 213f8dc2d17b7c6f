package backend

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// Holder is who has the use of a server at the moment and gets its replies. All
// methods are called on the loop that the server is on.
type Holder interface {
	// Forward takes reply bytes for the client. They are valid until Settle.
	Forward(p []byte)
	// Ready is called for each ReadyForQuery that was forwarded.
	Ready(tx byte)
	// Aborted is called for a request that the server ignored because of an
	// earlier error, if it was pushed with something to undo.
	Aborted(kind byte, undo any)
	// Closed is called for a Close that was answered without being sent, with
	// what it was pushed with.
	Closed(undo any)
	// Deallocated is called when the holder's own command has made the server
	// forget all its prepared statements.
	Deallocated()
	// Settle is called when a batch of replies has been looked at.
	Settle()
	// Sent is called when everything written to the server has been sent.
	Sent()
	// Lost is called when the connection has ended; it is closed already.
	Lost(err error)
}

// Server is an open connection to PostgreSQL and all that is known of its
// state. It belongs to whoever owns its Stream.
type Server struct {
	// Static after NewServer.
	Stream      *evloop.Stream
	Target      *Target
	Addr        net.Addr
	LocalAddr   net.Addr
	PID         uint32
	Key         []byte
	OverTLS     bool
	ConnectedAt time.Time
	tracked     *Tracked
	statements  *Statements
	maxPrepared int
	pool        any // what the server belongs to, for Statements

	Vars        Vars // what the server has reported of the tracked parameters
	VarsChanged bool // the server has reported a change since this was last cleared
	parses      uint64

	holder   Holder
	parked   func(*evloop.Loop) // called instead of the holder while nobody has the server
	in       evloop.Inbox
	requests requestQueue
	prepared prepared

	tx       byte // transaction status of the last ReadyForQuery; 0 while requests are outstanding
	aborted  bool // the server ignores everything up to the next Sync
	copyIn   bool // the server reads CopyData
	copyDone bool // … and its end has been sent
	copySync bool // … and a Sync for it has been taken for ignored
	copyElse bool // … or another request for what ends it
	inDoubt  bool // there may be one ReadyForQuery more than was asked for
	queryEnd bool // … after the one of the simple query that failed
	spoiled  bool // nobody can tell what the server will answer
	failed   bool // a request of our own was answered with an error

	leaving     bool // the server has said that it is about to close the connection
	more        bool // the last read filled its buffer: there may be replies that nobody has seen
	left        int  // bytes of the reply being carried that are still to come
	leftForward bool // … and whether they go to the holder
	sendLeft    int  // bytes of the request being carried that are still to be sent
	carried     int  // bytes since the last ReadyForQuery, in both directions

	batch uint64 // how many Syncs have been sent: an error takes with it what follows in its own batch

	unnamed        uint64 // the number of the unnamed statement that the server will hold, 0 for nobody's
	unnamedPending int    // how many Parse messages for it are under way
	unnamedBatch   uint64 // … and the batch of the last one
}

// errOutOfStep means that a server's replies do not match what it was asked.
// There is no way to know whose they are: the connection is given up.
var errOutOfStep = errors.New("reply does not match any outstanding request")

// errReplyTooLong bounds messages that must be seen whole.
var errReplyTooLong = errors.New("reply is too long")

const (
	// bulkAfter is how many bytes without a ReadyForQuery are bulk data.
	bulkAfter = 256 << 10
	// bulkRead is the least that a read of bulk data brings: less than the
	// 8 KB that PostgreSQL sends at a time.
	bulkRead = 4 << 10
)

// maxWhole bounds the replies that must be seen whole: ParameterStatus,
// CommandComplete, ReadyForQuery.
const maxWhole = 64 << 20

// readsPerTurn is how many buffers one server or client may fill in one turn of
// its loop.
const readsPerTurn = 4

// ServerOptions are what a Server needs besides a connection.
type ServerOptions struct {
	Tracked     *Tracked
	Statements  *Statements
	MaxPrepared int // max_prepared_statements
	Pool        any // identifies the servers among which a statement is as good as another
	// Parked is called on the server's loop when something happens to it while
	// nobody has it.
	Parked func(*evloop.Loop)
}

// NewServer makes a Server of a fresh login. It belongs to nobody (parked).
func NewServer(t *Target, l *Login, o ServerOptions) (*Server, error) {
	s := &Server{
		Target:      t,
		Addr:        l.Addr,
		LocalAddr:   l.LocalAddr,
		PID:         l.PID,
		Key:         l.Key,
		OverTLS:     l.TLS != nil,
		ConnectedAt: time.Now(),
		tracked:     o.Tracked,
		statements:  o.Statements,
		maxPrepared: o.MaxPrepared,
		pool:        o.Pool,
		Vars:        make(Vars, len(o.Tracked.names)),
		parked:      o.Parked,
		tx:          'I',
	}
	for _, p := range l.Params {
		s.Vars.Set(o.Tracked, p.Name, p.Value)
	}
	var err error
	if s.Stream, err = l.Transport.Detach(l.TLS); err != nil {
		return nil, err
	}
	s.Stream.Park()
	return s, nil
}

// Hold makes h the one who gets the replies.
func (s *Server) Hold(h Holder) { s.holder = h }

// Clean reports whether the server can go to somebody else: it is idle outside
// a transaction, owes nothing, reads no COPY and has got every message whole.
func (s *Server) Clean() bool { return !s.inDoubt && s.atRest() }

// InDoubt reports whether the server would be clean but for a ReadyForQuery that
// may or may not come. Any query of our own settles that.
func (s *Server) InDoubt() bool { return s.inDoubt && s.atRest() }

func (s *Server) atRest() bool {
	return s.tx == 'I' && !s.leaving && !s.spoiled && s.requests.len() == 0 && !s.aborted && !s.copyIn && !s.more &&
		s.left == 0 && s.sendLeft == 0 && s.in.Len() == 0 && s.Stream.Queued() == 0 && !s.Stream.Closed()
}

// TxStatus is the transaction status of the last ReadyForQuery ('I', 'T', 'E'),
// or 0 while the server is busy.
func (s *Server) TxStatus() byte { return s.tx }

// Outstanding is how many requests have no answer yet.
func (s *Server) Outstanding() int { return s.requests.len() }

// CopyIn reports whether the server waits for CopyData.
func (s *Server) CopyIn() bool { return s.copyIn && !s.copyDone }

// Aborted reports whether the server ignores everything up to the next Sync.
func (s *Server) Aborted() bool { return s.aborted }

// MidReply reports whether the holder has got a message of which more is to
// come.
func (s *Server) MidReply() bool { return s.left > 0 && s.leftForward }

// Carried notes that n bytes to or from the server have been carried, of which
// more are to come, and tells the loop if they are bulk data. It is called by a
// Readable of that loop.
func (s *Server) Carried(n int) {
	if s.carried += n; s.carried > bulkAfter && n >= bulkRead {
		if l := s.Stream.Loop(); l != nil {
			l.Bulk()
		}
	}
}

// SetSendLeft notes that n bytes of a request are still to be sent.
func (s *Server) SetSendLeft(n int) { s.sendLeft = n }

// TakeFailure reports, once, whether a request of our own has failed.
func (s *Server) TakeFailure() bool {
	f := s.failed
	s.failed = false
	return f
}

// TakeParses returns how many Parse messages of statements have been sent since
// it was last called.
func (s *Server) TakeParses() uint64 {
	n := s.parses
	s.parses = 0
	return n
}

// Close ends the connection.
func (s *Server) Close() {
	if s.Stream.Closed() {
		return
	}
	if s.sendLeft == 0 {
		s.Stream.Write(wire.MsgTerminate)
	}
	s.Stream.Close()
	for st := range s.prepared.byStmt {
		s.statements.Release(st)
	}
	s.prepared = prepared{}
	for i := range s.requests.len() {
		if r := s.requests.at(i); r.kind == wire.Close && r.undo != nil {
			s.holder.Closed(r.undo)
		}
	}
	s.requests.clear()
	s.holder = nil
}

// Readable implements evloop.Handler.
func (s *Server) Readable(st *evloop.Stream) {
	loop := st.Loop()
	for range readsPerTurn {
		data, err := s.in.Fill(st)
		if errors.Is(err, evloop.ErrWouldBlock) {
			if s.more {
				s.more = false
				s.holder.Settle()
			}
			return
		}
		if err != nil {
			s.lost(fmt.Errorf("server conn crashed? %w", err))
			return
		}
		rest, err := s.replies(data)
		if err != nil {
			s.lost(err)
			return
		}
		s.Carried(len(data))
		s.more = len(data) == cap(data)
		s.in.Keep(loop, rest, false)
		s.holder.Settle()
		if st.Closed() || st.Paused() || s.holder == nil {
			return
		}
	}
	st.Yield()
}

// Writable implements evloop.Handler.
func (s *Server) Writable(*evloop.Stream) {
	if s.holder != nil {
		s.holder.Sent()
	}
}

// HungUp implements evloop.Handler. Reading is paused while the client takes
// what there is; what the server said last, and its end, are read after that.
func (s *Server) HungUp(*evloop.Stream, bool) {}

// Parked implements evloop.Handler.
func (s *Server) Parked(_ *evloop.Stream, l *evloop.Loop) { s.parked(l) }

// lost closes the connection and tells the holder.
func (s *Server) lost(err error) {
	h := s.holder
	s.Close()
	if h != nil {
		h.Settle()
		h.Lost(err)
	}
}

// replies accounts for the messages in data and gives the holder its share. It
// returns the start of a message that cannot be judged yet.
func (s *Server) replies(data []byte) ([]byte, error) {
	run, pos := 0, 0 // data[run:pos] is to be forwarded
	for {
		if s.left > 0 {
			n := min(s.left, len(data)-pos)
			s.left -= n
			if !s.leftForward {
				s.holder.Forward(data[run:pos])
				run = pos + n
			}
			pos += n
			if s.left > 0 {
				break
			}
		}
		if s.requests.len() > 0 && s.silent(s.requests.at(0)) {
			s.holder.Forward(data[run:pos])
			run = pos
			s.answerSilent()
		}
		typ, n, ok := wire.Header(data[pos:])
		if !ok {
			break
		}
		if n < wire.HeaderLen {
			s.holder.Forward(data[run:pos])
			return nil, fmt.Errorf("message %q from server: %w", typ, errOutOfStep)
		}
		body := data[pos+wire.HeaderLen : min(pos+n, len(data))]
		if typ == wire.ReadyForQuery || typ == wire.ParameterStatus || typ == wire.CommandComplete {
			if len(body) < n-wire.HeaderLen {
				if n > maxWhole {
					s.holder.Forward(data[run:pos])
					return nil, fmt.Errorf("message %q from server: %w", typ, errReplyTooLong)
				}
				break
			}
		}
		fwd, err := s.account(typ, body)
		if err != nil {
			s.holder.Forward(data[run:pos]) // the holder's without a doubt
			return nil, fmt.Errorf("message %q from server: %w", typ, err)
		}
		if !fwd {
			s.holder.Forward(data[run:pos])
			run = pos + wire.HeaderLen + len(body)
		}
		pos += wire.HeaderLen + len(body)
		s.left, s.leftForward = n-wire.HeaderLen-len(body), fwd
	}
	s.holder.Forward(data[run:pos])
	return data[pos:], nil
}

// silent reports whether the server will say nothing to r when its turn has
// come: it was never sent, or is the end of a COPY that is over.
func (s *Server) silent(r *request) bool {
	return r.action == fake || r.kind == wire.CopyDone && !s.copyIn
}

// answerSilent takes the silent requests from the head of the queue, and makes
// up the replies to those that were never sent.
func (s *Server) answerSilent() {
	for s.requests.len() > 0 && s.silent(s.requests.at(0)) {
		switch r := s.requests.pop(); r.kind {
		case wire.Parse:
			s.holder.Forward(wire.MsgParseComplete)
		case wire.Close:
			s.holder.Forward(wire.MsgCloseComplete)
			s.holder.Closed(r.undo)
		}
	}
}

// account matches one reply with the oldest request and reports whether the
// holder gets it. body may be incomplete, except where replies makes sure.
func (s *Server) account(typ byte, body []byte) (bool, error) {
	var head *request
	var kind byte
	if s.requests.len() > 0 {
		head = s.requests.at(0)
		kind = head.kind
	}
	ours := head != nil && head.action != forward
	if s.inDoubt && answers(typ) {
		s.inDoubt = false // it would have come before
	}
	switch typ {
	case wire.NoticeResponse:
		return !ours, nil
	case wire.NotificationResponse:
		return true, nil
	case wire.ParameterStatus:
		s.parameterStatus(body)
		return !ours, nil

	case wire.ReadyForQuery:
		if s.spoiled {
			return false, errOutOfStep
		}
		if s.inDoubt && !s.queryEnd && kind != wire.Sync && len(body) == 1 {
			s.inDoubt, s.aborted, s.carried = false, false, 0
			if head == nil {
				s.tx = body[0]
			}
			if !ours {
				s.holder.Ready(body[0])
			}
			return !ours, nil
		}
		s.queryEnd = false
		if kind != wire.Sync && kind != wire.Query && kind != wire.FunctionCall || len(body) != 1 {
			return false, errOutOfStep
		}
		s.requests.pop()
		s.endCopy()
		s.dropCopyDone()
		if s.requests.len() == 0 {
			s.tx = body[0]
		}
		s.carried = 0
		if !ours {
			s.holder.Ready(body[0])
		}
		return !ours, nil

	case wire.ErrorResponse:
		return s.errorResponse(head), nil

	case wire.ParseComplete:
		if kind != wire.Parse {
			return false, errOutOfStep
		}
		r := s.requests.pop()
		if r.unnamed {
			s.unnamedPending--
		}
		if r.stmt != nil {
			s.prepared.byStmt[r.stmt].there = true
			s.settle(r.stmt)
			s.statements.accepted(r.stmt, s.pool)
		}
	case wire.BindComplete:
		if kind != wire.Bind {
			return false, errOutOfStep
		}
		s.requests.pop()
	case wire.CloseComplete:
		if kind != wire.Close {
			return false, errOutOfStep
		}
		if r := s.requests.pop(); r.stmt != nil {
			s.prepared.byStmt[r.stmt].there = false
			s.settle(r.stmt)
		}
	case wire.ParameterDescription:
		if kind != wire.Describe {
			return false, errOutOfStep
		}
	case wire.NoData:
		if kind != wire.Describe {
			return false, errOutOfStep
		}
		s.requests.pop()
	case wire.RowDescription:
		switch kind {
		case wire.Describe:
			s.requests.pop()
		case wire.Query:
		default:
			return false, errOutOfStep
		}
	case wire.DataRow, wire.CopyOutResponse, wire.CopyData, wire.CopyDone:
		if kind != wire.Execute && kind != wire.Query {
			return false, errOutOfStep
		}
	case wire.CopyInResponse:
		if kind != wire.Execute && kind != wire.Query {
			return false, errOutOfStep
		}
		s.beginCopyIn(kind)
		if ours {
			s.finish() // whoever asked for it is gone
		}
	case wire.CommandComplete:
		if kind != wire.Execute && kind != wire.Query {
			return false, errOutOfStep
		}
		if kind == wire.Query && s.copyIn && s.requests.len() > 1 && s.requests.at(1).kind == wire.CopyDone {
			s.requests.remove(1) // or the next COPY of the same query would take it for its own
		}
		s.endCopy()
		s.commandComplete(body)
		s.endExecute(kind)
	case wire.EmptyQueryResponse, wire.PortalSuspended:
		if kind != wire.Execute && (kind != wire.Query || typ == wire.PortalSuspended) {
			return false, errOutOfStep
		}
		s.endExecute(kind)
	case wire.FunctionCallResponse:
		if kind != wire.FunctionCall {
			return false, errOutOfStep
		}
	default:
		return false, errOutOfStep
	}
	return !ours, nil
}

func (s *Server) endExecute(kind byte) {
	if kind == wire.Execute {
		s.requests.pop()
	}
}

// settle notes that a Parse or Close of st has been answered or ignored.
func (s *Server) settle(st *Statement) {
	e := s.prepared.byStmt[st]
	e.pending--
	switch {
	case e.pending > 0:
	case !e.there:
		s.prepared.remove(e)
		s.statements.Release(st)
	case !e.listed: // its Close was ignored
		s.prepared.list(e)
	}
}

// errorResponse accounts for an ErrorResponse. After one in the extended
// protocol the server ignores everything up to the next Sync.
func (s *Server) errorResponse(head *request) bool {
	if head == nil {
		s.leaving = true // unasked: the server is about to close the connection
		return true
	}
	act := head.action
	// What came behind the COPY was read as a part of it, if the server had begun
	// to read when it failed; if not, it is answered. Nobody can tell: a trigger
	// or a cancel request may have struck before.
	if s.copyIn {
		s.inDoubt = s.inDoubt || s.copySync
		s.queryEnd = s.inDoubt && head.kind == wire.Query
		s.spoiled = s.spoiled || s.copyElse
	}
	s.endCopy()
	if head.extended() {
		n := 0
		for n < s.requests.len() && s.requests.at(n).kind != wire.Sync {
			n++
		}
		s.aborted = n == s.requests.len()
		for i := 1; i < n && s.inDoubt; i++ {
			s.spoiled = s.spoiled || s.requests.at(i).kind != wire.CopyDone
		}
		// The newest first, so that the holder can undo one after the other.
		for i := n - 1; i >= 0; i-- {
			s.drop(*s.requests.at(i))
		}
		for range n {
			s.requests.pop()
		}
	}
	if act == internal {
		s.failed = true
		return false
	}
	return true
}

// drop undoes what was expected of a request that the server has ignored or
// refused.
func (s *Server) drop(r request) {
	if r.stmt != nil {
		s.settle(r.stmt)
	}
	if r.unnamed {
		// Whatever was there before is there still: another client's, maybe.
		if s.unnamedPending--; s.unnamedPending > 0 {
			return
		}
		s.unnamed = 0
	}
	if r.undo != nil && s.holder != nil {
		s.holder.Aborted(r.kind, r.undo)
	}
}

// beginCopyIn notes that the server now reads CopyData. In that state it
// ignores Sync, and takes any other message for an error
// (src/backend/commands/copyfromparse.c, CopyGetData): requests that were sent
// before this was known get no answer of their own.
func (s *Server) beginCopyIn(kind byte) {
	s.copyIn, s.copyDone = true, false
	for s.requests.len() > 1 && s.requests.at(1).kind == wire.Sync {
		s.requests.remove(1)
		s.copySync = true
	}
	if s.requests.len() == 1 {
		return
	}
	if s.requests.at(1).kind == wire.CopyDone {
		s.copyDone = true
	} else if kind == wire.Query {
		r := *s.requests.at(1)
		s.requests.remove(1)
		s.drop(r)
		s.copyDone, s.copyElse = true, true // by way of an error
	}
}

func (s *Server) endCopy() { s.copyIn, s.copyDone, s.copySync, s.copyElse = false, false, false, false }

// answers reports whether a message of this type is the answer to a request that
// came after the ReadyForQuery for the one before it.
func answers(typ byte) bool {
	switch typ {
	case wire.ReadyForQuery, wire.NoticeResponse, wire.NotificationResponse, wire.ParameterStatus:
		return false
	}
	return true
}

// dropCopyDone forgets ends of COPY that the server ignores because no COPY is
// under way any more.
func (s *Server) dropCopyDone() {
	for s.requests.len() > 0 && s.requests.at(0).kind == wire.CopyDone && !s.copyIn {
		s.requests.pop()
	}
}

func (s *Server) parameterStatus(body []byte) {
	name, rest, ok := wire.CString(body)
	value, _, ok2 := wire.CString(rest)
	if ok && ok2 && s.Vars.Set(s.tracked, string(name), string(value)) {
		s.VarsChanged = true
	}
}

// commandComplete looks for the commands that make a server forget its
// prepared statements.
func (s *Server) commandComplete(body []byte) {
	if len(body) == 0 || body[0] != 'D' {
		return
	}
	switch tag, _, _ := wire.CString(body); string(tag) {
	case "DISCARD ALL", "DEALLOCATE ALL":
		for _, e := range s.prepared.byStmt {
			e.there = false
			if e.pending == 0 {
				s.prepared.remove(e)
				s.statements.Release(e.stmt)
			}
		}
		s.unnamed = 0
		if s.holder != nil {
			s.holder.Deallocated()
		}
	}
}
