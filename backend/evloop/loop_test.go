package evloop

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPostCallStopTogether(t *testing.T) {
	for range 50 {
		l := newLoop(t, nil)
		done := make(chan error, 1)
		go func() { done <- l.Run() }()
		var wg sync.WaitGroup
		var accepted, ran, deferred, called, answered atomic.Int64
		for range 4 {
			wg.Go(func() {
				for l.Post(func(any) {
					ran.Add(1)
					l.Defer(func(any) { deferred.Add(1) }, nil)
				}, nil) {
					if accepted.Add(1) == 500 {
						l.Stop()
					}
				}
			})
			wg.Go(func() {
				for l.Call(func() { called.Add(1) }) {
					answered.Add(1)
				}
			})
		}
		if err := wait(t, done); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		l.Stop() // of a loop that has stopped, does nothing
		if a, r, d := accepted.Load(), ran.Load(), deferred.Load(); a != r || a != d {
			t.Fatalf("%d posts accepted, %d ran, %d deferred", a, r, d)
		}
		if c, a := called.Load(), answered.Load(); c != a {
			t.Fatalf("%d calls ran, %d were told so", c, a)
		}
	}
}

// TestPostsFromWithin: mail that breeds mail is all run, and starves nobody.
func TestPostsFromWithin(t *testing.T) {
	l := startLoop(t)
	s, peer := detached(t)
	attach(t, l, s, &hooks{readable: echo})
	stop := make(chan struct{})
	var again func(any)
	again = func(any) {
		select {
		case <-stop:
		default:
			l.Post(again, nil)
		}
	}
	l.Post(again, nil)
	mustWrite(t, peer, []byte("hello"))
	if got := mustRead(t, peer, 5); string(got) != "hello" {
		t.Errorf("got %q", got)
	}
	close(stop)
}

// TestLeave: what is left wakes nobody, and runs before what is posted later.
func TestLeave(t *testing.T) {
	l := newLoop(t, nil)
	var ran []string
	note := func(arg any) { ran = append(ran, arg.(string)) }
	if !l.Leave(note, "left") {
		t.Fatal("the loop does not take it")
	}
	var ev [maxEvents]event
	if n, err := l.poll.wait(ev[:], 0); n != 0 || err != nil {
		t.Fatalf("%d events, %v", n, err)
	}
	l.Post(note, "posted")
	l.Leave(note, "left later")
	l.Stop()
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"left", "posted", "left later"}; !slices.Equal(ran, want) {
		t.Errorf("ran %q, want %q", ran, want)
	}
	if l.Leave(note, "too late") {
		t.Error("a stopped loop took it")
	}
}

func TestAttachToStoppedLoop(t *testing.T) {
	l := newLoop(t, nil)
	l.Stop()
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	s, _ := detached(t)
	if err := l.Attach(s, &hooks{}); err == nil {
		t.Error("a stopped loop took a stream")
	}
	s.Close()
}

func TestSweep(t *testing.T) {
	type tick struct {
		real, now time.Time
	}
	ticks := make(chan tick)
	var l *Loop
	left := 0
	l = newLoop(t, func(now time.Time) bool {
		left--
		if !now.Equal(l.Now()) {
			t.Error("sweep and loop differ in the time")
		}
		ticks <- tick{time.Now(), now}
		return left > 0
	})
	runLoop(t, l)
	for range 2 { // the second time, it starts again after it had ceased
		start := time.Now()
		call(t, l, func() { left = 3; l.Arm(); l.Arm() })
		for i := range 3 {
			if d := wait(t, ticks).real.Sub(start); d < time.Duration(i+1)*SweepInterval-5*time.Millisecond {
				t.Errorf("sweep %d after %v", i, d)
			}
		}
		select {
		case <-ticks:
			t.Error("swept after sweep had said no")
		case <-time.After(2 * SweepInterval):
		}
	}
}

// TestArmInSweep: a deadline set by what a sweep does is not forgotten though
// the sweep itself saw no other.
func TestArmInSweep(t *testing.T) {
	swept := make(chan int, 2)
	n := 0
	var l *Loop
	l = newLoop(t, func(time.Time) bool {
		if n++; n == 1 {
			l.Arm()
		}
		swept <- n
		return false
	})
	runLoop(t, l)
	call(t, l, l.Arm)
	wait(t, swept)
	wait(t, swept)
}

func TestYieldIsFair(t *testing.T) {
	l := startLoop(t)
	const n, size, share = 3, 8000, 100
	var seen []int
	var last [n]time.Time
	var twice [n]int
	left := n * size
	done := make(chan struct{})
	// All at once: Readable begins when every stream has all its bytes.
	var streams [n]*Stream
	for i := range streams {
		s, peer := detached(t)
		mustWrite(t, peer, make([]byte, size))
		streams[i] = s
	}
	call(t, l, func() {
		for i, s := range streams {
			attach(t, l, s, &hooks{readable: func(s *Stream) {
				m, err := s.Read(make([]byte, share))
				if err != nil {
					return
				}
				if last[i].Equal(l.Now()) {
					if twice[i]++; twice[i] > 1 { // its event and its Yield, in the first round
						t.Errorf("stream %d keeps having two turns in one round", i)
					}
				}
				last[i] = l.Now()
				seen = append(seen, i)
				if left -= m; left == 0 {
					close(done)
				}
				s.Yield()
				s.Yield() // more than once is once
			}})
		}
	})
	wait(t, done)
	call(t, l, func() {
		var count [n]int
		for _, i := range seen {
			count[i]++
			if lead := slices.Max(count[:]) - slices.Min(count[:]); lead > 1 {
				t.Fatalf("a stream is %d turns ahead: %v", lead, count)
			}
		}
		if !slices.Equal(count[:], []int{size / share, size / share, size / share}) {
			t.Errorf("turns: %v", count)
		}
	})
}

// TestHangUpWhilePaused: the end of the peer's bytes is told once; bytes that
// came before are still there.
func TestHangUpWhilePaused(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			ours, peer := dialled(t, network)
			s := detach(t, ours)
			l := startLoop(t)
			r := newReadAll()
			told := make(chan bool, 100)
			r.hungUp = func(_ *Stream, gone bool) { told <- gone }
			s.PauseRead()
			attach(t, l, s, r)
			mustWrite(t, peer, []byte("last words"))
			if err := peer.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if wait(t, told) {
				t.Error("half closed: told that it is gone")
			}
			turns(t, l, 10)
			if len(told) != 0 {
				t.Errorf("told %d times more", len(told))
			}
			call(t, l, func() { s.Write([]byte("reply")) })
			if got := mustRead(t, peer, 5); string(got) != "reply" {
				t.Errorf("got %q", got)
			}
			call(t, l, s.ResumeRead)
			r.until(t, l, func() bool { return r.err != nil })
			if r.err != io.EOF || string(r.got) != "last words" {
				t.Errorf("got %q, %v", r.got, r.err)
			}
		})
	}
}

// TestGoneWhilePaused: a connection that is dead is told as such once, does not
// make the loop spin, and gives up its last bytes.
func TestGoneWhilePaused(t *testing.T) {
	t.Run("tcp reset", func(t *testing.T) {
		ours, peer := dialled(t, "tcp")
		s := detach(t, ours)
		testGone(t, s, func() {
			if err := peer.(*net.TCPConn).SetLinger(0); err != nil {
				t.Fatal(err)
			}
			peer.Close()
		}, "", unix.ECONNRESET)
	})
	t.Run("unix", func(t *testing.T) {
		ours, peer := dialled(t, "unix")
		s := detach(t, ours)
		mustWrite(t, peer, []byte("last words"))
		testGone(t, s, func() { peer.Close() }, "last words", io.EOF)
	})
}

func testGone(t *testing.T, s *Stream, kill func(), lastWords string, end error) {
	l := startLoop(t)
	r := newReadAll()
	told := make(chan bool, 100)
	r.hungUp = func(_ *Stream, gone bool) { told <- gone }
	s.PauseRead()
	attach(t, l, s, r)
	kill()
	for !wait(t, told) { // half closed first is possible
	}
	turns(t, l, 10)
	if len(told) != 0 {
		t.Errorf("told %d times more", len(told))
	}
	call(t, l, s.ResumeRead)
	r.until(t, l, func() bool { return r.err != nil })
	if r.err != end || string(r.got) != lastWords {
		t.Errorf("got %q, %v; want %q, %v", r.got, r.err, lastWords, end)
	}
}

// TestWriteFails: what the peer said before it left is read, then the error.
func TestWriteFails(t *testing.T) {
	for _, short := range []bool{false, true} { // a handler that believes a short read
		l := startLoop(t)
		s, peer := detached(t)
		var got []byte
		end := make(chan error, 1)
		s.PauseRead()
		attach(t, l, s, &hooks{readable: func(s *Stream) {
			for {
				p := make([]byte, 100)
				n, err := s.Read(p)
				got = append(got, p[:n]...)
				if err != nil && err != ErrWouldBlock {
					s.Close()
					end <- err
				}
				if err != nil || short {
					return
				}
			}
		}})
		mustWrite(t, peer, []byte("FATAL: goodbye"))
		if err := peer.(*net.UnixConn).CloseRead(); err != nil {
			t.Fatal(err)
		}
		call(t, l, func() {
			s.Write([]byte("too late"))
			s.Write([]byte("much too late"))
			s.ResumeRead()
		})
		if err := wait(t, end); err != unix.EPIPE {
			t.Errorf("got %v, want EPIPE", err)
		}
		if string(got) != "FATAL: goodbye" {
			t.Errorf("got %q", got)
		}
	}
}

// TestWriteFailsWhilePaused: HungUp tells it.
func TestWriteFailsWhilePaused(t *testing.T) {
	l := startLoop(t)
	s, peer := detached(t)
	told := make(chan bool, 10)
	s.PauseRead()
	attach(t, l, s, &hooks{hungUp: func(_ *Stream, gone bool) { told <- gone }})
	if err := peer.(*net.UnixConn).CloseRead(); err != nil {
		t.Fatal(err)
	}
	call(t, l, func() { s.Write([]byte("too late")) })
	for !wait(t, told) {
	}
}

// TestWritableOnlyWhenSent: a queue that is lost is not a queue that is sent.
func TestWritableOnlyWhenSent(t *testing.T) {
	l := startLoop(t)
	s, peer := detached(t)
	end := make(chan error, 1)
	attach(t, l, s, &hooks{
		readable: func(s *Stream) {
			if _, err := s.Read(l.Scratch()); err != nil && err != ErrWouldBlock {
				s.Close()
				end <- err
			}
		},
		writable: func(s *Stream) { t.Error("Writable") },
	})
	call(t, l, func() {
		for s.Queued() == 0 {
			s.Write(make([]byte, 64<<10))
		}
	})
	peer.Close()
	if err := wait(t, end); err == nil {
		t.Error("the stream ended without an error")
	}
}

func TestEmptyRead(t *testing.T) {
	l := startLoop(t)
	s, _ := detached(t)
	attach(t, l, s, &hooks{})
	call(t, l, func() {
		if n, err := s.Read(nil); n != 0 || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	})
}

// TestQueueIsBounded: a peer that takes what it is sent slowly, without ever
// taking all, does not make the bytes that it took stay.
func TestQueueIsBounded(t *testing.T) {
	l := startLoop(t)
	s, peer := detached(t)
	attach(t, l, s, &hooks{})
	const chunk = 64 << 10
	most := 0
	next, want := byte(0), byte(0)
	for range 100 {
		now := 0
		fill := func() {
			for s.Queued() < 4*chunk {
				p := make([]byte, chunk)
				for i := range p {
					p[i] = next
					next = next*5 + 1
				}
				s.Write(p)
			}
			now, most = s.Queued(), max(most, cap(s.out))
		}
		call(t, l, fill)
		for before := now; now == before; call(t, l, func() { now = s.Queued() }) {
			for _, b := range mustRead(t, peer, chunk/4) {
				if b != want {
					t.Fatal("bytes are out of order")
				}
				want = want*5 + 1
			}
		}
	}
	if most > 32*chunk {
		t.Errorf("the queue grew to %d bytes", most)
	}
}

func TestCloseInEachCallback(t *testing.T) {
	fill := func(s *Stream) {
		for s.Queued() == 0 {
			s.Write(make([]byte, 64<<10))
		}
	}
	for name, start := range map[string]func(t *testing.T, l *Loop, s, other *Stream, peer net.Conn, h *hooks, done func(*Stream)){
		"readable": func(t *testing.T, l *Loop, s, other *Stream, peer net.Conn, h *hooks, done func(*Stream)) {
			call(t, l, func() { h.readable = done })
			mustWrite(t, peer, []byte("x"))
		},
		"yielded": func(t *testing.T, l *Loop, s, other *Stream, peer net.Conn, h *hooks, done func(*Stream)) {
			call(t, l, func() { h.readable = done })
			call(t, l, func() { s.Yield(); other.Yield() })
		},
		"writable": func(t *testing.T, l *Loop, s, other *Stream, peer net.Conn, h *hooks, done func(*Stream)) {
			call(t, l, func() { h.writable = done; fill(s) })
			go func() { _, _ = io.Copy(io.Discard, peer) }()
		},
		"hung up": func(t *testing.T, l *Loop, s, other *Stream, peer net.Conn, h *hooks, done func(*Stream)) {
			call(t, l, func() {
				h.hungUp = func(s *Stream, _ bool) { done(s) }
				s.PauseRead()
			})
			peer.Close()
		},
		"parked": func(t *testing.T, l *Loop, s, other *Stream, peer net.Conn, h *hooks, done func(*Stream)) {
			call(t, l, func() {
				h.parked = func(s *Stream, l *Loop) {
					if err := s.Unpark(l); err != nil {
						t.Error(err)
					}
					done(s)
				}
				s.Park()
			})
			mustWrite(t, peer, []byte("x"))
		},
		"deferred": func(t *testing.T, l *Loop, s, other *Stream, peer net.Conn, h *hooks, done func(*Stream)) {
			call(t, l, func() {
				h.readable = func(s *Stream) { l.Defer(func(any) { done(s) }, nil) }
			})
			mustWrite(t, peer, []byte("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLoop(t)
			s, peer := detached(t)
			other, _ := detached(t)
			h := &hooks{}
			closed := make(chan struct{}, 10)
			done := func(s *Stream) {
				s.Close()
				s.Close() // again does nothing
				other.Close()
				s.Write([]byte("dropped"))
				s.PauseRead()
				s.ResumeRead()
				s.Yield()
				if !s.Closed() || s.Loop() != nil {
					t.Error("not closed")
				}
				closed <- struct{}{}
			}
			attach(t, l, s, h)
			attach(t, l, other, h)
			start(t, l, s, other, peer, h, done)
			wait(t, closed)
			turns(t, l, 5)
			if len(closed) != 0 {
				t.Error("called after Close")
			}
			if streams.get(s.fd) == s {
				t.Error("still in the table")
			}
		})
	}
}

// TestParkInWritable: a stream that is given up while its own event is being
// handled is not touched any more: it may have another owner by then.
func TestParkInWritable(t *testing.T) {
	l := startLoop(t)
	s, peer := detached(t)
	parked := make(chan struct{})
	attach(t, l, s, &hooks{
		writable: func(s *Stream) {
			l.Defer(func(any) { s.Park(); close(parked) }, nil)
		},
		readable: func(s *Stream) {
			if s.parked.Load() {
				t.Error("Readable on a parked stream")
			}
		},
		parked: func(s *Stream, l *Loop) {
			if err := s.Unpark(l); err != nil {
				t.Error(err)
			}
			s.Close()
		},
	})
	call(t, l, func() {
		// Room and bytes come in one event.
		total := 0
		for s.Queued() == 0 {
			s.Write(make([]byte, 64<<10))
			total += 64 << 10
		}
		mustRead(t, peer, total-s.Queued())
		mustWrite(t, peer, []byte("x"))
	})
	wait(t, parked)
}

// TestParkRemembersYield: a stream that was due another Readable when it was
// parked gets it from Unpark, and Yield works afterwards.
func TestParkRemembersYield(t *testing.T) {
	for _, same := range []bool{true, false} {
		l, other := startLoop(t), startLoop(t)
		if same {
			other = l
		}
		s, _ := detached(t)
		readable := make(chan *Loop, 10)
		attach(t, l, s, &hooks{readable: func(s *Stream) { readable <- s.Loop() }})
		call(t, l, func() { s.Yield(); s.Park() })
		turns(t, l, 3)
		if len(readable) != 0 {
			t.Error("Readable on a parked stream")
		}
		for range 3 {
			call(t, other, func() {
				if !s.parked.Load() {
					s.Yield()
				} else if err := s.Unpark(other); err != nil {
					t.Error(err)
				}
			})
			if wait(t, readable) != other {
				t.Error("Readable on the wrong loop")
			}
		}
		turns(t, other, 3)
		if len(readable) != 0 {
			t.Error("Readable once too often")
		}
	}
}

// parcel is a stream that two loops take from each other, as a pool does.
type parcel struct {
	hooks
	t   *testing.T
	s   *Stream
	mu  sync.Mutex
	own *Loop // who has it; guarded by mu

	// Owned by whoever owns s.
	next  byte // the byte that must come next
	count int
	max   int
	done  chan struct{}
}

// take makes l the owner, if nobody is.
func (p *parcel) take(l *Loop) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own != nil || p.s.Closed() {
		return
	}
	p.own = l
	if err := p.s.Unpark(l); err != nil {
		p.t.Error(err)
	}
	l.Defer(func(any) { p.drop(l) }, nil)
}

func (p *parcel) drop(l *Loop) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own == l && !p.s.Closed() {
		p.read(p.s)
		p.own = nil
		if !p.s.Closed() {
			p.s.Park()
		}
	}
}

func (p *parcel) read(s *Stream) {
	var buf [100]byte
	for !s.Closed() {
		n, err := s.Read(buf[:])
		for _, b := range buf[:n] {
			if b != p.next {
				p.t.Errorf("byte %d is %d, want %d", p.count, b, p.next)
			}
			p.next++
			p.count++
		}
		if p.count == p.max {
			s.Close()
			close(p.done)
		}
		if err == ErrWouldBlock {
			return
		}
		if err != nil {
			p.t.Error(err)
			s.Close()
		}
	}
}

// TestPassedBetweenLoops passes a stream to and fro while bytes arrive: none is
// lost, none comes twice, and the last is found though nobody looks for it.
func TestPassedBetweenLoops(t *testing.T) {
	const total = 20000
	run := func(t *testing.T, s *Stream, peer io.Writer) {
		loops := [2]*Loop{startLoop(t), startLoop(t)}
		p := &parcel{t: t, s: s, max: total, done: make(chan struct{})}
		p.parked = func(_ *Stream, l *Loop) { p.take(l) }
		p.readable = p.read
		s.Park()
		attach(t, loops[0], s, p)

		var wg sync.WaitGroup
		stop := make(chan struct{})
		for _, l := range loops {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						l.Call(func() { p.take(l) })
					}
				}
			})
		}
		rng := rand.New(rand.NewPCG(1, 2))
		var next byte
		for sent := 0; sent < total; {
			chunk := make([]byte, min(1+rng.IntN(40), total-sent))
			for i := range chunk {
				chunk[i] = next
				next++
			}
			mustWrite(t, peer, chunk)
			if sent += len(chunk); total-sent < total/10 {
				// The rest finds its way by itself.
				select {
				case <-stop:
				default:
					close(stop)
				}
			}
		}
		wg.Wait()
		wait(t, p.done)
	}
	t.Run("plain", func(t *testing.T) {
		s, peer := detached(t)
		run(t, s, peer)
	})
	t.Run("tls", func(t *testing.T) {
		s, peer := detachedTLS(t, tlsVersions[1])
		run(t, s, peer)
	})
}

func TestDetach(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			ours, peer := dialled(t, network)
			mustWrite(t, peer, []byte("login+early"))
			tr := NewTransport(ours)
			if got := mustRead(t, tr, 6); string(got) != "login+" {
				t.Fatalf("got %q", got)
			}
			local := tr.LocalAddr().String()
			s, err := tr.Detach(nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ours.Read(make([]byte, 1)); err == nil {
				t.Error("the net.Conn is still open")
			}
			if tr.LocalAddr().String() != local {
				t.Error("the address is lost")
			}
			l := startLoop(t)
			r := newReadAll()
			attach(t, l, s, r)
			r.until(t, l, func() bool { return len(r.got) >= 5 })
			mustWrite(t, peer, []byte(" late"))
			r.until(t, l, func() bool { return bytes.Equal(r.got, []byte("early late")) })
			call(t, l, s.Close)
			if n, err := peer.Read(make([]byte, 1)); err == nil {
				t.Errorf("read %d bytes from a closed stream", n)
			}
		})
	}
	t.Run("not a socket", func(t *testing.T) {
		ours, peer := net.Pipe()
		if _, err := NewTransport(ours).Detach(nil); err == nil {
			t.Error("no error")
		}
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("not closed: %v", err)
		}
	})
}
