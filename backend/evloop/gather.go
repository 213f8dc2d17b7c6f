package evloop

import "unsafe"

// Gather puts together what goes to one stream, so that it is sent at once. As
// long as the pieces follow each other in memory nothing is copied. The memory
// of the pieces must stay as it is until Flush.
type Gather struct {
	run []byte // pieces that are one piece, as long as buf is empty
	buf []byte
}

// Add adds a piece.
func (g *Gather) Add(p []byte) {
	switch {
	case len(p) == 0:
	case len(g.buf) > 0:
		g.buf = append(g.buf, p...)
	case len(g.run) == 0:
		g.run = p
	case follows(g.run, p):
		g.run = g.run[:len(g.run)+len(p)]
	default:
		g.buf = append(append(g.buf, g.run...), p...)
		g.run = nil
	}
}

// AddString adds a copy of s.
func (g *Gather) AddString(s string) {
	g.copyRun()
	g.buf = append(g.buf, s...)
}

// Buffer returns the buffer to append to; SetBuffer must follow.
func (g *Gather) Buffer() []byte {
	g.copyRun()
	return g.buf
}

// SetBuffer takes the buffer back.
func (g *Gather) SetBuffer(b []byte) { g.buf = b }

func (g *Gather) copyRun() {
	if len(g.run) > 0 {
		g.buf = append(g.buf, g.run...)
		g.run = nil
	}
}

// follows reports whether p lies right behind run in the same array.
func follows(run, p []byte) bool {
	return cap(run) >= len(run)+len(p) &&
		unsafe.Add(unsafe.Pointer(unsafe.SliceData(run)), len(run)) == unsafe.Pointer(unsafe.SliceData(p))
}

// Len is how many bytes wait for Flush.
func (g *Gather) Len() int { return len(g.run) + len(g.buf) }

// Flush writes everything to s (nil: throws it away).
func (g *Gather) Flush(s *Stream) {
	p := g.run
	if len(g.buf) > 0 {
		p = g.buf
	}
	if len(p) > 0 && s != nil {
		s.Write(p)
	}
	g.run = nil
	if cap(g.buf) > 2*bufferSize {
		g.buf = nil
	}
	g.buf = g.buf[:0]
}
