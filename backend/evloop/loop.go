package evloop

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgvalet/pgvalet/backend/evloop/record"
)

const (
	// bufferSize is how much is read at once. In bulk transfers a large read
	// saves system calls; small ones cost nothing extra.
	bufferSize = 64 << 10

	// bulkPause is how long the loop leaves the sender of bulk data alone; the
	// kernel adds about 50 us.
	bulkPause = 100 * time.Microsecond

	// enough events in one turn gain nothing by still more.
	enough = 16

	// After giving way for longer than longWait the loop does not do so for
	// the time of hurry: one in a thousand requests may notice.
	longWait = 2 * time.Millisecond
	hurry    = 2 * time.Second

	// SweepInterval is how often deadlines are looked at.
	SweepInterval = 100 * time.Millisecond
)

// task is a function and its argument, apart, so that posting one that exists
// already needs no closure.
type task struct {
	fn  func(any)
	arg any
}

// Loop is one event loop. Run drives it; everything else, unless it says
// otherwise, is for the goroutine of Run.
type Loop struct {
	// Static after New.
	ID    int
	poll  poller
	sweep func(now time.Time) bool

	// Owned by Run.
	now         time.Time
	scratch     []byte   // for handlers: what Stream.Read reads into
	sealed      []byte   // TLS records on their way to a socket
	cipher      []byte   // TLS records from a socket
	opened      []byte   // what is in one of them
	unused      [][]byte // memory for what streams keep
	writer      *Stream  // whose Write is filling sealed
	againList   []*Stream
	againRun    []*Stream
	deferred    []task
	armed       bool
	nextSweep   time.Time
	hurried     time.Time // until then the loop does not give way
	turns, bulk int       // calls of Readable in this turn; those that reported Bulk
	isBulk      bool      // the Readable under way has reported Bulk
	suspended   bool      // see Suspend
	flushed     []*Stream // while suspended: whose Writable is due
	scheduled   time.Time // when Run was last known to the Go scheduler

	stopped atomic.Bool
	done    chan struct{}

	mu      sync.Mutex // guards the fields below
	mailbox []task
	spare   []task // the mailbox's other buffer
	woken   bool   // a wake-up is on its way
	closed  bool
}

// New returns a loop. sweep, if not nil, is called about every SweepInterval
// after Arm, for as long as it returns true.
func New(id int, sweep func(now time.Time) bool) (*Loop, error) {
	l := &Loop{
		ID:      id,
		sweep:   sweep,
		now:     time.Now(),
		scratch: make([]byte, bufferSize),
		cipher:  make([]byte, bufferSize),
		opened:  make([]byte, record.MaxLen),
		unused:  make([][]byte, 0, 64),
		done:    make(chan struct{}),
	}
	if err := l.poll.open(); err != nil {
		return nil, fmt.Errorf("event loop: %w", err)
	}
	return l, nil
}

// Now is the time at which the present batch of events began: one reading of
// the clock serves them all.
func (l *Loop) Now() time.Time { return l.now }

// Scratch is a buffer for the length of one handler call.
func (l *Loop) Scratch() []byte { return l.scratch }

// Arm makes the sweep run: something has a deadline.
func (l *Loop) Arm() {
	if !l.armed {
		l.armed = true
		l.nextSweep = l.now.Add(SweepInterval)
	}
}

// Attach gives a detached stream to the loop. Any goroutine may call it; from
// then on the stream belongs to the loop. On error it is still the caller's.
func (l *Loop) Attach(s *Stream, h Handler) error {
	due := s.again && !s.parked.Load() // else Unpark sees to it
	if due {
		s.again = false
	}
	if err := l.attach(s, h); err != nil {
		return fmt.Errorf("attach to event loop: %w", err)
	}
	if due {
		l.Post(func(any) {
			if !s.parked.Load() && s.loop.Load() == l {
				s.Yield()
			}
		}, nil)
	}
	return nil
}

func (l *Loop) attach(s *Stream, h Handler) error {
	l.mu.Lock() // the poller must not be closed meanwhile
	defer l.mu.Unlock()
	if l.closed {
		return errors.New("it has stopped")
	}
	s.handler = h
	s.interest = wantRead | wantHangup | wantGone
	s.loop.Store(l)
	if err := l.poll.add(s.fd, s.interest); err != nil {
		s.loop.Store(nil)
		return err
	}
	// Last: an event of the descriptor's previous owner may be on its way, and
	// whoever finds the stream owns it.
	streams.set(s.fd, s)
	return nil
}

// Post runs fn(arg) on the loop's goroutine, soon. Any goroutine may call it.
// It reports false when the loop has stopped and fn will not run.
func (l *Loop) Post(fn func(any), arg any) bool { return l.put(task{fn, arg}, true) }

// Leave is Post for what has time until something else wakes the loop. It still
// runs before whatever is posted later.
func (l *Loop) Leave(fn func(any), arg any) bool { return l.put(task{fn, arg}, false) }

func (l *Loop) put(t task, wake bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.mailbox = append(l.mailbox, t)
	if wake && !l.woken {
		l.woken = true
		l.poll.wake() // under the lock: the poller is not closed meanwhile
	}
	return true
}

// Defer runs fn(arg) after the present handler has returned. Only the loop's
// own goroutine may call it.
func (l *Loop) Defer(fn func(any), arg any) {
	l.deferred = append(l.deferred, task{fn, arg})
}

// Call runs fn on the loop's goroutine and waits until it has returned; it
// reports false when the loop has stopped. It must not be called from a loop.
func (l *Loop) Call(fn func()) bool {
	ran := make(chan struct{})
	if !l.Post(func(any) { fn(); close(ran) }, nil) {
		return false
	}
	select {
	case <-ran:
		return true
	case <-l.done:
		// The loop runs what was posted before it stopped.
		select {
		case <-ran:
			return true
		default:
			return false
		}
	}
}

// Stop makes Run return after the turn it is in. Any goroutine may call it.
// Streams still attached are not closed.
func (l *Loop) Stop() {
	l.stopped.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.poll.wake()
	}
}

// Run drives the loop until Stop.
func (l *Loop) Run() error {
	defer close(l.done)
	defer l.poll.close()
	defer l.runMailbox(true)
	var ev [maxEvents]event
	n := 0
	for !l.stopped.Load() {
		if l.suspended {
			if err := l.standStill(ev[:]); err != nil {
				return fmt.Errorf("event loop %d: %w", l.ID, err)
			}
			continue
		}
		// The Go runtime takes a goroutine that has not passed its scheduler for
		// 10 ms for one that hogs a processor: its monitor wakes up every 20 us
		// to take the processor away whenever we wait in the poller.
		if l.now.Sub(l.scheduled) > 5*time.Millisecond {
			l.scheduled = l.now
			runtime.Gosched()
		}
		if l.bulk > 0 && l.bulk == l.turns && len(l.againList) == 0 {
			sleepThread(bulkPause)
		}
		l.bulk, l.turns = 0, 0
		if n > 1 && n < enough && !l.now.Before(l.hurried) {
			l.giveWay()
		}
		var err error
		n, err = l.poll.wait(ev[:], l.timeout())
		if err != nil {
			return fmt.Errorf("event loop %d: %w", l.ID, err)
		}
		l.now = time.Now()
		for i := range ev[:n] {
			l.handle(&ev[i])
		}
		l.runAgain()
		l.runMailbox(false)
		l.runDeferred()
		if l.armed && !l.now.Before(l.nextSweep) {
			l.armed = false // sweep itself may Arm
			if l.sweep != nil && l.sweep(l.now) {
				l.Arm()
			}
			l.runDeferred()
		}
	}
	return nil
}

// Bulk is called by a handler's Readable that has read a part of something
// large, and nobody waits for the next bytes in particular. When nothing else
// goes on, the loop then gives the sender a moment to send more: a read for
// each small piece costs several times as much as one for many of them.
func (l *Loop) Bulk() { l.isBulk = true }

// readable calls a stream's handler, and counts.
func (l *Loop) readable(s *Stream) {
	l.turns++
	s.handler.Readable(s)
	if l.isBulk {
		l.isBulk = false
		l.bulk++
	}
}

// giveWay lets those run first who wait for our processor: servers and clients
// on this machine. They have more for us when we look again, and many events in
// one turn cost less each. Where nobody waits it is one system call. Whoever
// keeps us waiting for long is not given way to again for a while.
func (l *Loop) giveWay() {
	start := time.Now()
	yieldThread()
	if now := time.Now(); now.Sub(start) > longWait {
		l.hurried = now.Add(hurry)
	}
}

// timeout is how long the poller may wait: -1 for ever.
func (l *Loop) timeout() time.Duration {
	if len(l.againList) > 0 {
		return 0
	}
	if !l.armed {
		return -1
	}
	return max(0, l.nextSweep.Sub(l.now))
}

func (l *Loop) runDeferred() {
	// What runs may defer more: it is run in turn.
	for i := 0; i < len(l.deferred); i++ {
		t := l.deferred[i]
		l.deferred[i] = task{}
		t.fn(t.arg)
	}
	l.deferred = l.deferred[:0]
}

// runMailbox runs what was posted until now: mail that breeds mail must not
// starve sockets. After the last time nothing can be posted.
func (l *Loop) runMailbox(last bool) {
	l.mu.Lock()
	l.closed = last
	mail := l.mailbox
	l.mailbox = l.spare[:0]
	l.mu.Unlock()
	for i, t := range mail {
		mail[i] = task{}
		t.fn(t.arg)
		l.runDeferred()
	}
	l.mu.Lock()
	l.spare = mail[:0]
	l.woken = len(l.mailbox) > 0
	if l.woken {
		l.poll.wake() // whoever posted meanwhile may have seen woken, and sent none
	}
	l.mu.Unlock()
}
