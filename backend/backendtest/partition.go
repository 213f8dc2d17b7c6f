package backendtest

import (
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Partition is an address on loopback whose packets nobody answers: the queue of
// a listening socket that does not accept is full, so that the kernel drops what
// asks for a connection.
type Partition struct {
	ln    net.Listener
	queue []net.Conn // those that fill it
	wg    sync.WaitGroup
}

// StartPartition starts one that lasts until the end of the test, or until Heal.
// The test is skipped where the kernel does not play along.
func StartPartition(t testing.TB) *Partition {
	t.Helper()
	ln, err := listenWithoutQueue()
	if err != nil {
		t.Fatal(err)
	}
	p := &Partition{ln: ln}
	t.Cleanup(func() {
		p.ln.Close()
		p.hangUp()
		p.wg.Wait()
	})
	for {
		conn, err := net.DialTimeout("tcp", p.Addr(), 500*time.Millisecond)
		if err != nil {
			return p
		}
		if p.queue = append(p.queue, conn); len(p.queue) > 100 {
			t.Skip("this system takes connections that nobody accepts")
		}
	}
}

func listenWithoutQueue() (net.Listener, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "partition")
	defer f.Close() // the listener has a copy
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return nil, fmt.Errorf("bind: %w", err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return net.FileListener(f)
}

// Addr returns the address, 127.0.0.1:port.
func (p *Partition) Addr() string { return p.ln.Addr().String() }

func (p *Partition) hangUp() {
	for _, conn := range p.queue {
		conn.Close()
	}
}

// Heal has connections reach a server from now on.
func (p *Partition) Heal(addr string) {
	p.hangUp()
	p.wg.Go(func() {
		for {
			conn, err := p.ln.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				conn.Close()
				continue
			}
			for _, way := range [...][2]net.Conn{{conn, server}, {server, conn}} {
				p.wg.Go(func() {
					_, _ = io.Copy(way[0], way[1]) // until one side closes
					conn.Close()
					server.Close()
				})
			}
		}
	})
}
