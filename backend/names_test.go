package backend

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"
)

// fakeDNS answers look-ups.
type fakeDNS struct {
	addrs   []string
	err     error
	lookUps int
}

func (f *fakeDNS) lookUp(context.Context, string) ([]netip.Addr, error) {
	f.lookUps++
	var addrs []netip.Addr
	for _, a := range f.addrs {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, f.err
}

// forgetAt makes everything known of the name older.
func (n *Names) forgetAt(host string, age time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[host].at = n.hosts[host].at.Add(-age)
}

func TestNames(t *testing.T) {
	missing := &net.DNSError{Err: "no such host", IsNotFound: true}
	broken := &net.DNSError{Err: "server misbehaving"}
	f := &fakeDNS{}
	n := NewNames(f.lookUp)
	n.Configure(time.Minute, 2*time.Minute)
	step := func(what string, age time.Duration, addrs []string, err error, wantLookUps int, want string) {
		t.Helper()
		if n.hosts["db"] != nil {
			n.forgetAt("db", age)
		}
		f.addrs, f.err, f.lookUps = addrs, err, 0
		got, gotErr := n.addresses(t.Context(), "db")
		said := fmt.Sprint(got)
		if gotErr != nil {
			said = gotErr.Error()
		}
		if f.lookUps != wantLookUps || said != want {
			t.Errorf("%s: %d look-ups, %s; want %d, %s", what, f.lookUps, said, wantLookUps, want)
		}
	}
	two := []string{"10.0.0.1", "::ffff:10.0.0.2"}
	step("first", 0, two, nil, 1, "[10.0.0.1 10.0.0.2]")
	step("the other address is next", 50*time.Second, nil, broken, 0, "[10.0.0.2 10.0.0.1]")
	step("dns_max_ttl", 20*time.Second, []string{"10.0.0.3"}, nil, 1, "[10.0.0.3]")
	step("trouble", 2*time.Minute, nil, broken, 1, "lookup : server misbehaving")
	step("trouble is not remembered", 0, []string{"10.0.0.3"}, nil, 1, "[10.0.0.3]")
	step("no such name", 2*time.Minute, nil, missing, 1, "lookup : no such host")
	step("which is remembered", time.Minute+50*time.Second, []string{"10.0.0.3"}, nil, 0, "lookup : no such host")
	step("for dns_nxdomain_ttl", 20*time.Second, []string{"10.0.0.3"}, nil, 1, "[10.0.0.3]")
	n.Configure(0, 0)
	step("not at all", 0, []string{"10.0.0.4"}, nil, 1, "[10.0.0.4]")
}

// TestNamesGone: an address that a name has lost is gone, but not one of a name
// whose answers take turns, and not while nobody knows.
func TestNamesGone(t *testing.T) {
	f := &fakeDNS{}
	n := NewNames(f.lookUp)
	answer := func(err error, addrs ...string) {
		f.addrs, f.err = addrs, err
		_, _ = n.addresses(context.Background(), "db")
	}
	gone := func(want bool, addr string) {
		t.Helper()
		if got := n.Gone("db", netip.MustParseAddr(addr)); got != want {
			t.Errorf("with the answer %v: %s gone %v, want %v", f.addrs, addr, got, want)
		}
	}
	gone(false, "10.0.0.1")
	answer(nil, "10.0.0.1", "10.0.0.2")
	gone(false, "10.0.0.1")
	answer(nil, "10.0.0.2")
	gone(true, "10.0.0.1")
	gone(false, "10.0.0.2")
	answer(errors.New("trouble"))
	gone(false, "10.0.0.2")
	answer(&net.DNSError{IsNotFound: true})
	gone(false, "10.0.0.2") // nothing better is known
	answer(nil, "10.0.0.1") // it has come back: a name whose answers take turns
	gone(false, "10.0.0.1")
	gone(false, "10.0.0.2")
	gone(true, "10.0.0.9")
	n.mu.Lock()
	for a := range n.hosts["db"].seen {
		n.hosts["db"].seen[a] = time.Now().Add(-2 * rotation)
	}
	n.mu.Unlock()
	answer(nil, "10.0.0.1")
	gone(true, "10.0.0.2")
}

func TestNamesSnapshot(t *testing.T) {
	f := &fakeDNS{addrs: []string{"10.0.0.1"}}
	n := NewNames(f.lookUp)
	n.Configure(time.Minute, time.Minute)
	if _, err := n.addresses(t.Context(), "there"); err != nil {
		t.Fatal(err)
	}
	f.addrs, f.err = nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	if _, err := n.addresses(t.Context(), "gone"); err == nil {
		t.Fatal("a name that does not exist has addresses")
	}
	n.forgetAt("gone", 2*time.Minute)
	got := n.Snapshot()
	if len(got) != 2 || got[0].Host != "gone" || got[0].TTL != 0 || got[0].Addrs != nil ||
		got[1].Host != "there" || got[1].TTL < 50*time.Second || fmt.Sprint(got[1].Addrs) != "[10.0.0.1]" {
		t.Errorf("%+v", got)
	}
}
