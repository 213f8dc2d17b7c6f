package evloop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/backend/evloop/record"
)

// TestTLSTinyReads: however little is read at a time, everything arrives, and
// the end behind it.
func TestTLSTinyReads(t *testing.T) {
	ends := []struct {
		name string
		rec  func(*forger) []byte
		want error
	}{
		{"close_notify", (*forger).closeNotify, io.EOF},
		{"bad record", func(*forger) []byte { return append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...) }, tls.AlertError(20)},
		{"alert", func(f *forger) []byte { return f.seal(21, "\x02\x28") }, tls.AlertError(40)},
	}
	for _, end := range ends {
		for _, size := range []int{1, 7, 60, 100, 2000} {
			t.Run(fmt.Sprintf("%s/%d", end.name, size), func(t *testing.T) {
				s, f := forged(t)
				l := startLoop(t)
				var want []byte
				var recs []byte
				for i := range 5 {
					msg := strings.Repeat(string(rune('a'+i)), 50+i)
					want = append(want, msg...)
					recs = append(recs, f.data(msg)...)
				}
				recs = append(recs, end.rec(f)...)
				var got []byte
				done := make(chan error, 1)
				attach(t, l, s, &hooks{readable: func(s *Stream) {
					p := make([]byte, size)
					n, err := s.Read(p)
					got = append(got, p[:n]...)
					switch {
					case err == ErrWouldBlock:
					case err != nil:
						done <- err
						s.Close()
					case n == len(p): // as a handler that is fair to others
						s.Yield()
					}
				}})
				mustWrite(t, f, recs)
				if err := wait(t, done); !errors.Is(err, end.want) {
					t.Errorf("ended with %v, want %v", err, end.want)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		}
	}
}

// TestTLSReadIsAll pins what handlers build on: a Read that does not fill its
// buffer leaves no whole record behind.
func TestTLSReadIsAll(t *testing.T) {
	for size := 1; size < 400; size += 7 {
		s, f := forged(t)
		l := newLoop(t, nil) // it never runs: there is nobody to say that there is more
		attach(t, l, s, &hooks{})
		var recs, want []byte
		for i := range 10 {
			msg := strings.Repeat(string(rune('0'+i)), i*5)
			recs = append(recs, f.data(msg)...)
			want = append(want, msg...)
		}
		mustWrite(t, f, append(recs, 23, 3)) // and a part of another
		var got []byte
		for n := size; n == size; {
			p := make([]byte, size)
			var err error
			if n, err = s.Read(p); err != nil && err != ErrWouldBlock {
				t.Fatal(err)
			}
			got = append(got, p[:n]...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d at a time: got %q, want %q", size, got, want)
		}
		if s.tls13.plain != nil || len(s.tls13.rest) != 2 {
			t.Errorf("%d at a time: %d bytes and %d of a record are kept", size, len(s.tls13.plain), len(s.tls13.rest))
		}
		s.Close()
		closeLoop(l)
	}
}

// closeLoop ends a loop that has not run.
func closeLoop(l *Loop) {
	l.Stop()
	_ = l.Run()
}

// TestTLSKeyUpdate: the peer changes its key and asks for ours while much is
// queued for it, again and again: what was sealed comes under the key it was
// sealed with, and nothing piles up.
func TestTLSKeyUpdate(t *testing.T) {
	s, f := forged(t)
	l := startLoop(t)
	r := newReadAll()
	attach(t, l, s, r)
	var want []byte
	write := func(n int, c byte) {
		msg := bytes.Repeat([]byte{c}, n)
		want = append(want, msg...)
		s.Write(msg)
	}
	call(t, l, func() {
		for s.Queued() == 0 {
			write(100_000, 'q')
		}
	})
	before := s.Queued()
	const times = 5
	for i := range times {
		for range 10 {
			mustWrite(t, f, f.update(true))
			mustWrite(t, f, f.data("x"))
		}
		r.until(t, l, func() bool { return len(r.got) == (i+1)*10 || r.err != nil })
		call(t, l, func() {
			if r.err != nil {
				t.Fatal(r.err)
			}
			if i == 0 && s.Queued() != before {
				t.Errorf("%d bytes are queued, %d before", s.Queued(), before)
			}
			write(1000, byte('A'+i))
		})
	}
	got := make([]byte, 0, len(want))
	p := make([]byte, record.MaxLen)
	for len(got) < len(want) {
		n, err := f.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:n]...)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes differ")
	}
	if f.updates != times {
		t.Errorf("%d changes of our key, want %d", f.updates, times)
	}
}

// TestTLSFlood: a peer that sends tiny records without end keeps a loop no
// longer than it takes to open a few buffers full of them.
func TestTLSFlood(t *testing.T) {
	ours, peer := dialled(t, "tcp")
	tr, conn, f := forge(t, ours, peer)
	s, err := tr.Detach(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	l := startLoop(t)
	most, total := 0, 0
	done := make(chan struct{})
	attach(t, l, s, &hooks{readable: func(s *Stream) {
		n, err := s.Read(l.Scratch())
		if err != nil && err != ErrWouldBlock {
			t.Error(err)
		}
		most, total = max(most, n), total+n
		if total >= 4*bufferSize {
			s.Close()
			close(done)
		}
	}})
	go func() {
		var recs []byte
		for range 50_000 {
			recs = append(recs, f.data("x")...)
		}
		for {
			if _, err := f.Write(recs); err != nil {
				return
			}
			recs = recs[:0]
			for range 5000 {
				recs = append(recs, f.data("x")...)
			}
		}
	}()
	wait(t, done)
	const size = 5 + 1 + 1 + 16
	if limit := (maxReads*bufferSize + record.MaxLen) / size; most > limit {
		t.Errorf("one Read took %d records, want at most %d", most, limit)
	}
}

// TestTLSMoved moves streams with parts of records between two loops, on which
// they leave nothing to others.
func TestTLSMoved(t *testing.T) {
	loops := [2]*Loop{startLoop(t), startLoop(t)}
	const n = 6
	var (
		streams [n]*Stream
		peers   [n]*forger
		sent    [n][]byte
		got     [n][]byte
	)
	read := func(i int) {
		for {
			p := make([]byte, 100)
			m, err := streams[i].Read(p)
			got[i] = append(got[i], p[:m]...)
			if err != nil {
				if err != ErrWouldBlock {
					t.Error(i, err)
				}
				return
			}
		}
	}
	for i := range streams {
		streams[i], peers[i] = forged(t)
		streams[i].PauseRead()
		attach(t, loops[i%2], streams[i], &hooks{})
	}
	var pending [n][]byte
	for round := range 60 {
		for i := range streams {
			msg := strings.Repeat(string(rune('a'+i)), 1+(round*37+i*11)%400)
			pending[i] = append(pending[i], peers[i].data(msg)...)
			sent[i] = append(sent[i], msg...)
			cut := len(pending[i]) - (round+i)%7 // most have a part of a record left
			mustWrite(t, peers[i], pending[i][:cut])
			pending[i] = pending[i][cut:]
		}
		for i, s := range streams {
			from, to := s.Loop(), loops[(round+i)%2]
			call(t, from, func() { read(i); s.Park() })
			call(t, to, func() {
				if err := s.Unpark(to); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for i, s := range streams {
		mustWrite(t, peers[i], pending[i])
		call(t, s.Loop(), func() { read(i) })
		if !bytes.Equal(got[i], sent[i]) {
			t.Errorf("stream %d: got %d bytes, sent %d, or others", i, len(got[i]), len(sent[i]))
		}
		if s.tls13.rest != nil || s.tls13.plain != nil {
			t.Errorf("stream %d keeps memory", i)
		}
	}
}

// TestTLSNothingLeft: a stream that has nothing to do owns no buffer, after
// everything that makes it need one.
func TestTLSNothingLeft(t *testing.T) {
	s, f := forged(t)
	l := startLoop(t)
	r := newReadAll()
	attach(t, l, s, r)
	long := strings.Repeat("x", 16384)
	var recs []byte
	recs = append(recs, f.data(long)...)
	recs = append(recs, f.update(true)...)
	recs = append(recs, f.data(long)...)
	recs = append(recs, f.data(long)...)
	for _, n := range []int{3, 100, 16000, 17000, 10} {
		mustWrite(t, f, recs[:n])
		recs = recs[n:]
		turns(t, l, 2)
	}
	mustWrite(t, f, recs)
	r.until(t, l, func() bool { return len(r.got) == 3*len(long) || r.err != nil })
	call(t, l, func() {
		if r.err != nil || s.tls13.rest != nil || s.tls13.plain != nil || s.out != nil {
			t.Errorf("%v; %d, %d and %d bytes are kept", r.err, cap(s.tls13.rest), cap(s.tls13.plain), cap(s.out))
		}
	})
}

// TestTLSState: any goroutine may ask for it.
func TestTLSState(t *testing.T) {
	s, f := forged(t)
	l := startLoop(t)
	attach(t, l, s, &hooks{readable: echo})
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			for range 100 {
				if state, ok := s.TLS(); !ok || state.Version != tls.VersionTLS13 || state.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
					t.Errorf("got %x, %x, %t", state.Version, state.CipherSuite, ok)
				}
			}
		})
	}
	p := make([]byte, record.MaxLen)
	for range 20 {
		mustWrite(t, f, append(f.update(true), f.data("x")...))
		if _, err := f.Read(p); err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
}
