package evloop

import (
	"slices"

	"github.com/pgvalet/pgvalet/backend/evloop/record"
)

// growth bounds how much an Inbox grows before the bytes to fill it are seen,
// so that a peer cannot make us allocate by announcing a long message.
const growth = 1 << 20

// maxUnused bounds the memory that a loop keeps for later: a TLS record fits.
const maxUnused = record.MaxLen

// Inbox reads a stream for a parser that takes what it can and leaves the rest:
// the start of a message, or messages whose time has not come. It owns memory
// only while something is left.
type Inbox struct {
	rest  []byte
	ready bool // rest can be parsed without further bytes
}

// Fill returns what was left together with what has arrived since, or
// ErrWouldBlock when there is no reason to parse. The bytes are valid until
// Keep, which must follow.
func (b *Inbox) Fill(s *Stream) ([]byte, error) {
	buf := s.loop.Load().scratch
	if len(b.rest) > len(buf)/2 {
		// One long message: it is read where it can stay.
		b.rest = slices.Grow(b.rest, min(len(b.rest), growth))
		n, err := s.Read(b.rest[len(b.rest):cap(b.rest)])
		b.rest = b.rest[:len(b.rest)+n]
		if err != nil && !b.ready {
			return nil, err
		}
		b.ready = false
		return b.rest, nil
	}
	n := copy(buf, b.rest)
	m, err := s.Read(buf[n:])
	if err != nil && (!b.ready || n == 0) {
		return nil, err
	}
	b.ready = false
	return buf[:n+m], nil
}

// Keep stores what the parser left of the bytes that Fill returned; it must be
// their tail. With ready the parser could have gone on and wants to see rest
// again even if nothing more arrives. l is the loop of the stream.
func (b *Inbox) Keep(l *Loop, rest []byte, ready bool) {
	b.ready = ready && len(rest) > 0
	b.rest = l.keep(b.rest, rest)
}

// keep stores rest in buf, or in memory of its own if that is nil, and returns
// where it is: nil if there is nothing. Streams own memory only for as long as
// it holds something, and most of it is small and short-lived: the streams of a
// loop share it.
func (l *Loop) keep(buf, rest []byte) []byte {
	last := len(l.unused) - 1
	switch {
	case len(rest) > 0 && len(buf) >= len(rest) && &buf[len(buf)-1] == &rest[len(rest)-1]:
		if len(buf) == len(rest) {
			return buf
		}
		return slices.Clone(rest) // what is before it in buf may not have been sent yet
	case len(rest) > 0:
		if buf == nil && last >= 0 {
			buf, l.unused = l.unused[last], l.unused[:last]
		}
		return append(buf[:0], rest...)
	case buf != nil && cap(buf) <= maxUnused && last+1 < cap(l.unused):
		l.unused = append(l.unused, buf)
	}
	return nil
}

// Len is the number of bytes that are kept.
func (b *Inbox) Len() int { return len(b.rest) }
