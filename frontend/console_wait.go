package frontend

import (
	"context"
	"errors"
	"io"
	"os"
	"time"
)

// maxReadAhead bounds what a client may send while a command of it waits; a
// client that sends more is not looked after until the wait is over.
const maxReadAhead = 64 << 10

// Why a wait of a session ends early.
var (
	errInterrupted = errors.New("cancel request")
	errClientGone  = errors.New("client unexpected eof")
)

// watchedReader reads what a client of the console sends. While a command
// waits, it looks out for the client's end.
type watchedReader struct {
	login *Login
	count func(received, sent int)
	ahead []byte // read during a wait
	err   error  // what ended the reading during a wait
}

// Read implements io.Reader.
func (r *watchedReader) Read(p []byte) (int, error) {
	switch {
	case len(r.ahead) > 0:
		n := copy(p, r.ahead)
		r.ahead = r.ahead[n:]
		return n, nil
	case r.err != nil:
		return 0, r.err
	}
	n, err := r.login.Read(p)
	r.count(n, 0)
	return n, err
}

// watch calls gone if the client's connection ends before stop is called. In
// between Read must not be called.
func (r *watchedReader) watch(gone func()) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var b [512]byte
		for len(r.ahead) < maxReadAhead {
			n, err := r.login.Read(b[:])
			r.count(n, 0)
			r.ahead = append(r.ahead, b[:n]...)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded): // by stop
				return
			case err != nil:
				r.err = err
				gone()
				return
			}
		}
	}()
	return func() {
		// Both fail only on a connection that is closed, which ends the read.
		_ = r.login.Transport.SetReadDeadline(time.Unix(1, 0))
		<-done
		_ = r.login.Transport.SetReadDeadline(time.Time{})
	}
}

// wait runs a command that may take long. Its context ends when the client
// cancels it or leaves, or when the console closes; wait then returns which.
func (s *consoleSession) wait(command func(ctx context.Context) error) error {
	ctx, end := context.WithCancelCause(s.console.ctx)
	defer end(nil)
	s.mu.Lock()
	s.waiting = end
	s.mu.Unlock()
	stop := s.reader.watch(func() { end(errClientGone) })
	err := command(ctx)
	stop()
	s.mu.Lock()
	s.waiting = nil
	s.mu.Unlock()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *consoleSession) keyTraits() (uint64, int) {
	return s.login.ID, s.console.o.Sessions.keys.secretLength(s.login)
}

// interrupt is what a cancel request for the session does.
func (s *consoleSession) interrupt() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting != nil {
		s.waiting(errInterrupted)
	}
	return nil
}

// drain gives a client that was sent away time to read why: closing a socket
// that holds unread bytes would take the message away again.
func (s *consoleSession) drain() {
	if s.login.Transport.SetDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, s.reader, lingerBytes)
	}
}
