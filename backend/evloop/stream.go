package evloop

import (
	"crypto/tls"
	"io"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Handler is told what happens to a stream, on the goroutine of its loop. It
// may close the stream, and others, from inside any of these.
type Handler interface {
	// Readable: there may be bytes, or the end of the stream, or nothing.
	Readable(s *Stream)
	// Writable: everything that was queued has been sent.
	Writable(s *Stream)
	// Parked: something happened on a parked stream. The handler does not own
	// the stream: it must take it first, if it still can, or do nothing.
	Parked(s *Stream, l *Loop)
	// HungUp: the peer closed its sending side while reading was paused;
	// with gone, the connection is dead in both directions, and what is
	// written is lost. Bytes that came before can still be read (ResumeRead).
	// Called once for each pause, and once more if gone comes later.
	HungUp(s *Stream, gone bool)
}

// Stream is a socket, with or without TLS, that never blocks. It belongs to
// the goroutine of its loop.
type Stream struct {
	fd      int
	tls13   *tls13    // TLS 1.3; nil: something else
	tls     *tls.Conn // other TLS; nil: something else
	handler Handler
	loop    atomic.Pointer[Loop] // who polls the socket; nil: nobody, or closed
	parked  atomic.Bool          // owned by nobody: see Park

	interest interest // what the poller has been told
	paused   bool     // the handler wants no Readable
	again    bool     // on the loop's list for another turn; parked: to be put there
	empty    bool     // the last read was short: the socket has no more, so do not ask
	closed   bool

	out     []byte // bytes that the socket did not take
	outPos  int    // how many of out have been sent since
	err     error  // a broken connection: writes are dropped, Read returns it when the bytes are read
	readErr error  // came together with bytes: the next Read returns it
}

type interest uint8

const (
	wantRead interest = 1 << iota
	wantWrite
	wantHangup
	wantGone // always on, until it has come: nothing left to watch for
)

// Loop returns the loop that the stream is attached to. Any goroutine may
// call it.
func (s *Stream) Loop() *Loop { return s.loop.Load() }

// OwnedBy reports whether the stream belongs to l, on whose goroutine it must be
// called.
func (s *Stream) OwnedBy(l *Loop) bool {
	// In this order: a stream that is not parked moves to l only by Unpark on l.
	return !s.parked.Load() && s.loop.Load() == l
}

// FD returns the socket's file descriptor, for the owner of the stream to look
// at.
func (s *Stream) FD() int { return s.fd }

// TLS returns what a stream with TLS uses: of the state only the version and
// the cipher suite. Any goroutine may call it.
func (s *Stream) TLS() (tls.ConnectionState, bool) {
	switch {
	case s.tls13 != nil:
		return tls.ConnectionState{Version: s.tls13.version, CipherSuite: s.tls13.suite}, true
	case s.tls != nil:
		c := s.tls.ConnectionState()
		return tls.ConnectionState{Version: c.Version, CipherSuite: c.CipherSuite}, true
	}
	return tls.ConnectionState{}, false
}

// Closed reports whether Close was called.
func (s *Stream) Closed() bool { return s.closed }

// Queued returns how many bytes wait for the socket to take them.
func (s *Stream) Queued() int { return len(s.out) - s.outPos }

// Read reads what has arrived into p, as much as is there and fits, and
// returns ErrWouldBlock when nothing is there.
func (s *Stream) Read(p []byte) (int, error) {
	if s.readErr != nil {
		return 0, s.readErr
	}
	n, err := s.read(p)
	if n == 0 {
		if err == ErrWouldBlock && s.err != nil {
			err = s.err
		}
		return 0, err
	}
	if err != nil && err != ErrWouldBlock {
		s.readErr = err
	}
	if s.readErr != nil || s.err != nil {
		s.Yield() // the handler may think that a short read was all
	}
	return n, nil
}

func (s *Stream) read(p []byte) (n int, err error) {
	switch {
	case s.tls13 != nil:
		return s.tls13.read(s, p)
	case s.tls == nil:
		return s.readSocket(p)
	}
	// No poller knows of the bytes that crypto/tls holds: go on until it has
	// none.
	for n < len(p) && err == nil {
		var m int
		m, err = s.tls.Read(p[n:])
		n += m
	}
	return n, err
}

// readSocket is recv(2), without asking again after a short read: poll will
// say when there is more.
func (s *Stream) readSocket(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil // recv would answer as at the end of the stream
	}
	if s.empty {
		return 0, ErrWouldBlock
	}
	for {
		n, err := recv(s.fd, p)
		switch {
		case n > 0:
			s.empty = n < len(p)
			return n, nil
		case n == 0 && err == nil:
			return 0, io.EOF
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			s.empty = true
			return 0, ErrWouldBlock
		default:
			return 0, err
		}
	}
}

// Write sends p, or queues what the socket does not take. It keeps no
// reference to p. Errors are not returned: a broken connection shows in Read
// or HungUp, and what is written to it is dropped.
func (s *Stream) Write(p []byte) {
	if s.err != nil || s.closed || len(p) == 0 {
		return
	}
	if s.tls13 == nil && s.tls == nil {
		s.send(p)
		return
	}
	l := s.loop.Load()
	if l == nil {
		return // it was never attached
	}
	if s.tls13 != nil {
		l.sealed = s.tls13.layer.Seal(l.sealed[:0], p)
		s.send(l.sealed)
		return
	}
	l.sealed, l.writer = l.sealed[:0], s
	_, err := s.tls.Write(p)
	l.writer = nil
	if err != nil {
		s.fail(err)
		return
	}
	s.send(l.sealed)
}

// collect is the Write of the transport under crypto/tls: the records of one
// Stream.Write are sent together.
func (s *Stream) collect(p []byte) (int, error) {
	l := s.loop.Load()
	switch {
	case l == nil: // closed
	case l.writer == s:
		l.sealed = append(l.sealed, p...)
	default: // crypto/tls answers by itself inside Read (KeyUpdate, alerts)
		s.send(p)
	}
	return len(p), nil
}

// send gives p to the socket, and what it does not take to the queue.
func (s *Stream) send(p []byte) {
	if s.Queued() == 0 {
		for len(p) > 0 {
			n, err := send(s.fd, p)
			if n > 0 {
				p = p[n:]
				continue
			}
			if err == unix.EINTR {
				continue
			}
			if err != unix.EAGAIN {
				s.fail(err)
				return
			}
			break
		}
		if len(p) == 0 {
			return
		}
	}
	if s.outPos > len(s.out)/2 {
		s.out, s.outPos = s.out[:copy(s.out, s.out[s.outPos:])], 0
	}
	s.out = append(s.out, p...)
	s.want(s.interest | wantWrite)
}

// flush sends what is queued; it reports whether all of it has been sent.
func (s *Stream) flush() bool {
	for s.Queued() > 0 {
		n, err := send(s.fd, s.out[s.outPos:])
		if n > 0 {
			s.outPos += n
			continue
		}
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			return false
		}
		s.fail(err)
		s.want(s.interest &^ wantWrite)
		return false
	}
	s.out, s.outPos = nil, 0
	s.want(s.interest &^ wantWrite)
	return true
}

// fail marks the connection as broken and makes sure that the handler hears of
// it: by a Readable whose Read returns the error after the bytes that have
// arrived, or by HungUp.
func (s *Stream) fail(err error) {
	if s.err == nil {
		s.err = err
	}
	s.out, s.outPos = nil, 0
	s.empty = false // ask once more for what the peer said before
	s.Yield()
}

// PauseRead stops Readable until ResumeRead. The poller is told only when
// bytes do arrive in the meantime: most pauses end before.
func (s *Stream) PauseRead() { s.paused = true }

// Paused reports whether reading is paused.
func (s *Stream) Paused() bool { return s.paused }

// ResumeRead undoes PauseRead. Bytes that are already here make the handler's
// Readable run soon, as after Yield.
func (s *Stream) ResumeRead() {
	if !s.paused {
		return
	}
	s.paused = false
	if s.closed {
		return
	}
	s.want(s.interest | wantRead | wantHangup | wantGone)
	s.Yield() // crypto/tls may hold bytes that no poller knows of
}

// Unpause is ResumeRead for a handler that goes on to read at once.
func (s *Stream) Unpause() {
	s.paused = false
	s.want(s.interest | wantRead | wantHangup)
}

// Shutdown says goodbye (with TLS) and closes the sending side: the peer sees
// the end of the stream behind what was written. Reading goes on.
func (s *Stream) Shutdown() {
	s.goodbye()
	if s.Queued() == 0 {
		_ = unix.Shutdown(s.fd, unix.SHUT_WR) // fails if the peer is gone
	}
}

// Yield asks for another Readable once the loop has handled the events at hand,
// whether or not the socket has news: a handler that stops before
// ErrWouldBlock, to be fair to others, calls it.
func (s *Stream) Yield() {
	if l := s.loop.Load(); l != nil && !s.again {
		s.again = true
		l.againList = append(l.againList, s)
	}
}

// want tells the poller what to watch for, if that is news.
func (s *Stream) want(i interest) {
	l := s.loop.Load()
	if i == s.interest || s.closed || l == nil {
		return
	}
	var err error
	switch {
	case i == 0:
		err = l.poll.del(s.fd)
	case s.interest == 0:
		err = l.poll.add(s.fd, i)
	default:
		err = l.poll.mod(s.fd, i)
	}
	s.interest = i
	if err != nil && s.err == nil {
		s.err = err
		s.Yield()
	}
}

// Park gives up ownership: the stream stays with its loop, which watches it and
// tells Handler.Parked of anything that happens, but touches nothing. Whoever
// wants it next makes sure to be the only one, and calls Unpark. Park is called
// outside the stream's own handler calls (Loop.Defer), or before Attach. Bytes
// that have been read in part are no news: with TLS, read until ErrWouldBlock
// before.
func (s *Stream) Park() {
	if l := s.loop.Load(); l != nil && s.again {
		// Nobody may look at again while the stream is parked. Unpark makes up
		// for it.
		for _, list := range [2][]*Stream{l.againList, l.againRun} {
			if i := slices.Index(list, s); i >= 0 {
				list[i] = nil
			}
		}
	}
	s.parked.Store(true)
}

// Unpark makes l the loop that owns a parked stream. The goroutine of l calls
// it. After an error the stream is l's to close.
func (s *Stream) Unpark(l *Loop) error {
	var err error
	if old := s.loop.Load(); old == nil || old == l {
		s.parked.Store(false)
	} else {
		// In this order, the old loop sees either a parked stream or one that
		// is not its own, and leaves both alone.
		s.loop.Store(l)
		s.parked.Store(false)
		if s.interest != 0 {
			_ = old.poll.del(s.fd) // fails only if the descriptor is gone
			err = l.poll.add(s.fd, s.interest)
		}
	}
	s.empty = false // what happened while it was parked went unseen
	if s.again {
		s.again = false
		s.Yield()
	}
	return err
}

// Close says goodbye (with TLS), gives up what is queued and closes the
// socket. The handler is not called again.
func (s *Stream) Close() {
	if s.closed {
		return
	}
	s.goodbye()
	s.closed = true
	if l := s.loop.Load(); l != nil {
		_ = l.poll.del(s.fd)
	}
	s.loop.Store(nil)
	s.out, s.outPos = nil, 0
	streams.set(s.fd, nil)
	unix.Close(s.fd)
}

// goodbye sends TLS's close_notify, once, unless bytes before it are stuck.
func (s *Stream) goodbye() {
	l := s.loop.Load()
	if s.err != nil || s.Queued() > 0 || l == nil {
		return
	}
	if s.tls13 != nil {
		s.send(s.tls13.layer.SealClose(nil))
	}
	if s.tls == nil {
		return
	}
	l.sealed, l.writer = l.sealed[:0], s
	err := s.tls.CloseWrite()
	l.writer = nil
	if err == nil {
		s.send(l.sealed)
	}
}
