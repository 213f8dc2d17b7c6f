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
	// Aborted is called for a request that the server refused, or ignored
	// because of an earlier error, if it was pushed with something to undo.
	Aborted(kind byte, undo any)
	// Closed is called for a Close that was answered, with what it was pushed
	// with.
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
	walsender   bool // see Target.Replication
	ConnectedAt time.Time
	tracked     *Tracked
	statements  *Statements
	maxPrepared func() int
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
	copy     copyIn
	readOnly bool // the server has refused to write
	failed   bool // a request of our own was answered with an error

	leaving     bool // the server has said that it is about to close the connection
	more        bool // the last read filled its buffer: there may be replies that nobody has seen
	left        int  // bytes of the reply being carried that are still to come
	leftForward bool // … and whether they go to the holder
	sendLeft    int  // bytes of the request being carried that are still to be sent
	carried     int  // bytes since the last ReadyForQuery, in both directions

	batch uint64 // how many Syncs have been sent: an error takes with it what follows in its own batch

	sql sqlNames

	unnamed        uint64 // the number of the unnamed statement that the server will hold, 0 for nobody's
	unnamedPending int    // how many Parse messages for it are under way
	unnamedBatch   uint64 // … and the batch of the last one
}

const (
	// bulkAfter is how many bytes without a ReadyForQuery are bulk data.
	bulkAfter = 256 << 10
	// bulkRead is the least that a read of bulk data brings: less than the
	// 8 KB that PostgreSQL sends at a time.
	bulkRead = 4 << 10
)

// readsPerTurn is how many buffers one server or client may fill in one turn of
// its loop.
const readsPerTurn = 4

// ServerOptions are what a Server needs besides a connection.
type ServerOptions struct {
	Tracked    *Tracked
	Statements *Statements
	// MaxPrepared returns max_prepared_statements; the server's loop calls it.
	MaxPrepared func() int
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
		walsender:   t.Replication != NoReplication,
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
func (s *Server) Hold(h Holder) {
	s.holder = h
	s.sql.own = false
}

// Clean reports whether the server can go to somebody else: it is idle outside
// a transaction, owes nothing, reads no COPY and has got every message whole.
func (s *Server) Clean() bool { return s.copy.doubt == noDoubt && s.atRest() }

// InDoubt reports whether the server would be clean but for a ReadyForQuery that
// may or may not come. Any query of our own settles that.
func (s *Server) InDoubt() bool { return s.copy.inDoubt() && s.atRest() }

func (s *Server) atRest() bool {
	return s.tx == 'I' && !s.leaving && s.requests.len() == 0 && !s.aborted && !s.copy.active() && !s.more &&
		s.left == 0 && s.sendLeft == 0 && s.in.Len() == 0 && s.Stream.Queued() == 0 && !s.Stream.Closed()
}

// Prepared is how many prepared statements of clients the server holds, as far
// as it has answered or will.
func (s *Server) Prepared() int { return s.prepared.listed }

// Kept is how many bytes of replies wait here for the rest of their message.
func (s *Server) Kept() int { return s.in.Len() }

// Left is how many bytes of the reply being carried are still to come.
func (s *Server) Left() int { return s.left }

// TxStatus is the transaction status of the last ReadyForQuery ('I', 'T', 'E'),
// or 0 while the server is busy.
func (s *Server) TxStatus() byte { return s.tx }

// Outstanding is how many requests have no answer yet.
func (s *Server) Outstanding() int { return s.requests.len() }

// Queries is how many of the requests without an answer end in ReadyForQuery.
func (s *Server) Queries() int {
	n := 0
	for i := range s.requests.len() {
		if s.requests.at(i).ends() {
			n++
		}
	}
	return n
}

// CopyIn reports whether the server waits for CopyData.
func (s *Server) CopyIn() bool { return s.copy.reading() }

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

// TakeReadOnly reports, once, whether the server has refused to write because the
// transaction is read-only (25006).
func (s *Server) TakeReadOnly() bool {
	r := s.readOnly
	s.readOnly = false
	return r
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

// Fail ends the connection, and tells the holder why. It must be called on the
// server's loop, from outside of the server's handler.
func (s *Server) Fail(why error) {
	if !s.Stream.Closed() {
		s.lost(why)
	}
}

// lost closes the connection and tells the holder.
func (s *Server) lost(err error) {
	h := s.holder
	s.Close()
	if h != nil {
		h.Settle()
		h.Lost(err)
	}
}
