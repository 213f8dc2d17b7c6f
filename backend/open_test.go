package backend

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"
)

// TestOpenAtNextAddress: an address that says nothing leaves time for the next.
func TestOpenAtNextAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	silent, err := net.Listen("tcp", "127.0.0.2:"+strconv.Itoa(port))
	if err != nil {
		t.Skip("there is no second address on the loopback interface: ", err)
	}
	defer silent.Close()
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte{'S'})
		_, _ = conn.Read(make([]byte, 8))
	}()
	target := &Target{Host: "db.example", Port: port, ConnectTimeout: 2 * leastShare}
	target.Names = NewNames(func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}, nil
	})
	began := time.Now()
	conn, err := Open(testContext(t), target, true)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().String(); got != ln.Addr().String() {
		t.Errorf("connected to %s", got)
	}
	if took := time.Since(began); took < leastShare {
		t.Errorf("the first address had only %v", took)
	}
}
