package frontend

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
)

// failing is a listener whose Accept returns errors, one after the other, and
// then says that it is closed.
type failing struct {
	net.Listener
	errs []error
}

func (l *failing) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return nil, net.ErrClosed
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
}

func (l *failing) Close() error   { return nil }
func (l *failing) Addr() net.Addr { return &net.TCPAddr{} }

func TestServeOutlivesWantOfDescriptors(t *testing.T) {
	f := start(t, testConfig())
	ln := &failing{errs: []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED}}
	if err := f.Serve(ln); err != nil || len(ln.errs) > 0 {
		t.Errorf("Serve = %v, %d errors left", err, len(ln.errs))
	}
	if n := f.logs.FilterMessage("accept failed").Len(); n != 3 {
		t.Errorf("%d failures logged", n)
	}
	if err := f.Serve(&failing{errs: []error{syscall.EINVAL}}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Serve = %v", err)
	}
}

func TestServeAfterClose(t *testing.T) {
	a := NewAcceptor(testOptions(t, testConfig()).AcceptorOptions)
	a.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Serve(ln); err != nil {
		t.Error(err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is open: %v", err)
	}
}
