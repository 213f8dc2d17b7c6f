//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package evloop

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// poller is a kqueue and the pipe that wakes it. Filters exist only while they
// are wanted, which makes them as level-triggered as epoll.
type poller struct {
	kq   int
	pipe [2]int
	buf  [maxEvents]unix.Kevent_t

	mu  sync.Mutex // guards set: add and del come from other goroutines too
	set map[int]interest
}

func (p *poller) open() error {
	var err error
	if p.kq, err = unix.Kqueue(); err != nil {
		return err
	}
	unix.CloseOnExec(p.kq)
	if err := unix.Pipe(p.pipe[:]); err != nil {
		unix.Close(p.kq)
		return err
	}
	for _, fd := range p.pipe {
		unix.CloseOnExec(fd)
		if err := unix.SetNonblock(fd, true); err != nil {
			p.close()
			return err
		}
	}
	p.set = make(map[int]interest)
	return p.change(p.pipe[0], 0, wantRead)
}

func (p *poller) close() {
	unix.Close(p.pipe[0])
	unix.Close(p.pipe[1])
	unix.Close(p.kq)
}

// wake makes wait return. Any goroutine may call it.
func (p *poller) wake() {
	_, _ = unix.Write(p.pipe[1], []byte{1}) // EAGAIN: already full of wake-ups
}

func (p *poller) woken() {
	var b [64]byte
	for {
		if n, err := unix.Read(p.pipe[0], b[:]); n < len(b) || err != nil {
			return
		}
	}
}

// change installs and removes filters to get from one interest to another.
// The read filter also reports the peer's hang-up, so wantHangup alone keeps a
// read filter whose low-water mark no data reaches.
func (p *poller) change(fd int, from, to interest) error {
	var ch [2]unix.Kevent_t
	n := 0
	add := func(filter, flags int, fflags uint32, data int64) {
		unix.SetKevent(&ch[n], fd, filter, flags)
		ch[n].Fflags = fflags
		ch[n].Data = data
		n++
	}
	const read = wantRead | wantHangup
	switch {
	case from&read == to&read:
	case to&wantRead != 0:
		add(unix.EVFILT_READ, unix.EV_ADD|unix.EV_ENABLE, 0, 0)
	case to&wantHangup != 0:
		add(unix.EVFILT_READ, unix.EV_ADD|unix.EV_ENABLE, unix.NOTE_LOWAT, 1<<30)
	default:
		add(unix.EVFILT_READ, unix.EV_DELETE, 0, 0)
	}
	switch {
	case from&wantWrite == to&wantWrite:
	case to&wantWrite != 0:
		add(unix.EVFILT_WRITE, unix.EV_ADD|unix.EV_ENABLE, 0, 0)
	default:
		add(unix.EVFILT_WRITE, unix.EV_DELETE, 0, 0)
	}
	if n == 0 {
		return nil
	}
	_, err := unix.Kevent(p.kq, ch[:n], nil, nil)
	return err
}

func (p *poller) update(fd int, to interest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	from := p.set[fd]
	if to == 0 {
		delete(p.set, fd)
	} else {
		p.set[fd] = to
	}
	return p.change(fd, from, to)
}

func (p *poller) add(fd int, i interest) error { return p.update(fd, i) }
func (p *poller) mod(fd int, i interest) error { return p.update(fd, i) }
func (p *poller) del(fd int) error             { return p.update(fd, 0) }

func (p *poller) wait(ev []event, timeout time.Duration) (int, error) {
	var ts *unix.Timespec
	if timeout >= 0 {
		t := unix.NsecToTimespec(int64(timeout))
		ts = &t
	}
	n, err := unix.Kevent(p.kq, nil, p.buf[:len(ev)], ts)
	if err == unix.EINTR {
		return 0, nil
	}
	for i := range p.buf[:max(n, 0)] {
		k := &p.buf[i]
		e := event{fd: int(k.Ident)}
		if e.fd == p.pipe[0] {
			e.fd = wakeFD
		}
		switch int(k.Filter) {
		case unix.EVFILT_READ:
			e.what = evRead
			if k.Flags&unix.EV_EOF != 0 {
				e.what |= evHangup
				if k.Fflags != 0 { // the socket's error: reset, timed out
					e.what |= evGone
				}
			}
		case unix.EVFILT_WRITE:
			e.what = evWrite
			if k.Flags&unix.EV_EOF != 0 {
				e.what |= evGone
			}
		}
		ev[i] = e
	}
	return n, err
}
