package evloop

import (
	"time"

	"golang.org/x/sys/unix"
)

// poller is a level-triggered epoll instance and the eventfd that wakes it.
type poller struct {
	epfd, evfd int
	buf        [maxEvents]unix.EpollEvent
}

func (p *poller) open() error {
	var err error
	if p.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if p.evfd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		unix.Close(p.epfd)
		return err
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeFD}
	if err := unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, p.evfd, &e); err != nil {
		p.close()
		return err
	}
	return nil
}

func (p *poller) close() {
	unix.Close(p.evfd)
	unix.Close(p.epfd)
}

// wake makes wait return. Any goroutine may call it.
func (p *poller) wake() {
	one := [8]byte{0: 1}
	_, _ = unix.Write(p.evfd, one[:]) // EAGAIN: already full of wake-ups
}

func (p *poller) woken() {
	var b [8]byte
	_, _ = unix.Read(p.evfd, b[:])
}

func epollBits(i interest) uint32 {
	var e uint32
	if i&wantRead != 0 {
		e |= unix.EPOLLIN
	}
	if i&wantWrite != 0 {
		e |= unix.EPOLLOUT
	}
	if i&wantHangup != 0 {
		e |= unix.EPOLLRDHUP
	}
	return e
}

func (p *poller) add(fd int, i interest) error {
	e := unix.EpollEvent{Events: epollBits(i), Fd: int32(fd)}
	return unix.EpollCtl(p.epfd, unix.EPOLL_CTL_ADD, fd, &e)
}

func (p *poller) mod(fd int, i interest) error {
	e := unix.EpollEvent{Events: epollBits(i), Fd: int32(fd)}
	return unix.EpollCtl(p.epfd, unix.EPOLL_CTL_MOD, fd, &e)
}

func (p *poller) del(fd int) error {
	return unix.EpollCtl(p.epfd, unix.EPOLL_CTL_DEL, fd, nil)
}

func (p *poller) wait(ev []event, timeout time.Duration) (int, error) {
	ms := -1
	if timeout >= 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	n, err := unix.EpollWait(p.epfd, p.buf[:len(ev)], ms)
	if err == unix.EINTR {
		return 0, nil
	}
	for i := range p.buf[:max(n, 0)] {
		e := &p.buf[i]
		var w what
		if e.Events&unix.EPOLLIN != 0 {
			w |= evRead
		}
		if e.Events&unix.EPOLLOUT != 0 {
			w |= evWrite
		}
		if e.Events&unix.EPOLLRDHUP != 0 {
			w |= evHangup
		}
		if e.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			w |= evGone
		}
		ev[i] = event{fd: int(e.Fd), what: w}
	}
	return n, err
}
