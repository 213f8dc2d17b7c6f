package evloop

import "slices"

// growth bounds how much an Inbox grows before the bytes to fill it are seen,
// so that a peer cannot make us allocate by announcing a long message.
const growth = 1 << 20

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
// again even if nothing more arrives.
func (b *Inbox) Keep(rest []byte, ready bool) {
	b.ready = ready && len(rest) > 0
	switch {
	case len(rest) == 0:
		b.rest = nil
	case len(b.rest) >= len(rest) && &b.rest[len(b.rest)-1] == &rest[len(rest)-1]:
		b.rest = b.rest[:copy(b.rest, rest)] // the tail of b.rest itself
	default:
		b.rest = append(b.rest[:0], rest...)
	}
}

// Len is the number of bytes that are kept.
func (b *Inbox) Len() int { return len(b.rest) }
