package evloop

import (
	"crypto/sha256"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"testing"
)

// relay is one direction of a pooler: what it reads from one stream it writes
// to other, and it stops reading while other has a queue. most is the longest
// queue seen.
type relay struct{ hooks }

func newRelay(other *Stream, most *int) *relay {
	r := &relay{}
	r.readable = func(s *Stream) {
		buf := s.Loop().Scratch()
		n, err := s.Read(buf)
		if err != nil {
			if err != ErrWouldBlock {
				s.Close()
				other.Close()
			}
			return
		}
		other.Write(buf[:n])
		*most = max(*most, other.Queued())
		if other.Queued() > 0 {
			s.PauseRead()
		} else if n == len(buf) {
			s.Yield()
		}
	}
	r.writable = func(s *Stream) { other.ResumeRead() }
	return r
}

// TestTransfer relays much in both directions at once, between a peer that
// reads slowly and another: all arrives, and little of it is held.
func TestTransfer(t *testing.T) {
	const total = 4 << 20
	run := func(t *testing.T, a, b *Stream, peerA, peerB net.Conn) {
		l := startLoop(t)
		most := 0
		call(t, l, func() {
			attach(t, l, a, newRelay(b, &most))
			attach(t, l, b, newRelay(a, &most))
		})
		send := func(w io.Writer, seed uint64) <-chan error {
			done := make(chan error, 1)
			go func() {
				_, err := io.CopyN(w, &noise{rng: rand.New(rand.NewPCG(seed, 0))}, total)
				done <- err
			}()
			return done
		}
		type sum [sha256.Size]byte
		receive := func(r io.Reader, piece int) <-chan sum {
			done := make(chan sum, 1)
			go func() {
				h := sha256.New()
				p := make([]byte, piece)
				for left := total; left > 0; {
					n, err := r.Read(p[:min(piece, left)])
					h.Write(p[:n])
					left -= n
					if err != nil {
						t.Error(err)
						break
					}
				}
				done <- sum(h.Sum(nil))
			}()
			return done
		}
		want := func(seed uint64) sum {
			h := sha256.New()
			_, _ = io.CopyN(h, &noise{rng: rand.New(rand.NewPCG(seed, 0))}, total)
			return sum(h.Sum(nil))
		}
		sentA, sentB := send(peerA, 1), send(peerB, 2)
		// Nobody reads: both directions must fill up and come to rest.
		for full := false; !full; {
			call(t, l, func() { full = a.Paused() && b.Paused() })
		}
		gotB, gotA := receive(peerB, 500), receive(peerA, 64<<10)
		if err := wait(t, sentA); err != nil {
			t.Error(err)
		}
		if err := wait(t, sentB); err != nil {
			t.Error(err)
		}
		if wait(t, gotB) != want(1) || wait(t, gotA) != want(2) {
			t.Error("the bytes differ")
		}
		call(t, l, func() {
			if most == 0 || most > 2*bufferSize {
				t.Errorf("the longest queue had %d bytes", most)
			}
		})
	}
	t.Run("plain", func(t *testing.T) {
		a, peerA := detached(t)
		b, peerB := detached(t)
		run(t, a, b, peerA, peerB)
	})
	t.Run("tls", func(t *testing.T) {
		a, peerA := detachedTLS(t, tls.VersionTLS13)
		b, peerB := detachedTLS(t, tls.VersionTLS12)
		run(t, a, b, peerA, peerB)
	})
}

// noise is an endless reader of random bytes.
type noise struct{ rng *rand.Rand }

func (s *noise) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s.rng.Uint32())
	}
	return len(p), nil
}
