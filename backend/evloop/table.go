package evloop

import "sync/atomic"

// streams maps file descriptors to the streams that own them. It is written
// when a stream is attached or closed, by whichever goroutine does that, and
// read by every loop for every event. An entry may be stale by the time an
// event is handled (the descriptor closed and given to somebody else): loops
// therefore treat every event as a hint, and ask the socket.
//
// It is process-wide because file descriptors are.
var streams fdTable

const (
	chunkBits = 10
	chunkSize = 1 << chunkBits
	maxChunks = 1 << 12
	maxFD     = chunkSize*maxChunks - 1
)

// fdTable is a two-level array: it grows without moving, so that reading it
// takes no lock.
type fdTable struct {
	chunks [maxChunks]atomic.Pointer[[chunkSize]atomic.Pointer[Stream]]
}

func (t *fdTable) get(fd int) *Stream {
	c := t.chunks[fd>>chunkBits].Load()
	if c == nil {
		return nil
	}
	return c[fd&(chunkSize-1)].Load()
}

func (t *fdTable) set(fd int, s *Stream) {
	p := &t.chunks[fd>>chunkBits]
	c := p.Load()
	for c == nil {
		p.CompareAndSwap(nil, new([chunkSize]atomic.Pointer[Stream]))
		c = p.Load()
	}
	c[fd&(chunkSize-1)].Store(s)
}
