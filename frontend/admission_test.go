package frontend

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func tcpFrom(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }

// lineUp has tickets wait for the only slot, one after the other, and returns
// the order in which they get it once it is free.
func lineUp(t *testing.T, a *admission, names []string, tickets map[string]*ticket) []string {
	t.Helper()
	holder := a.newTicket(tcpFrom("192.0.2.99"))
	if err := holder.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	for _, name := range names {
		go func() {
			if err := tickets[name].acquire(t.Context()); err != nil {
				t.Error(err)
			}
			mu.Lock()
			order = append(order, name)
			mu.Unlock()
			tickets[name].release()
		}()
		synctest.Wait()
	}
	if len(order) > 0 {
		t.Fatalf("%v did not wait", order)
	}
	holder.release()
	synctest.Wait()
	return order
}

func TestAdmissionTakesSourcesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1)
		names := []string{"a1", "a2", "a3", "a4", "b1", "c1", "b2"}
		tickets := make(map[string]*ticket)
		for _, name := range names {
			tickets[name] = a.newTicket(tcpFrom("192.0.2." + map[byte]string{'a': "1", 'b': "2", 'c': "3"}[name[0]]))
		}
		got := lineUp(t, a, names, tickets)
		want := []string{"a1", "b1", "c1", "a2", "b2", "a3", "a4"}
		if !slices.Equal(got, want) {
			t.Errorf("order %v, want %v", got, want)
		}
		if a.free != 1 || len(a.queues) != 0 || len(a.turns) != 0 {
			t.Errorf("left: %d free, %d queues, %d turns", a.free, len(a.queues), len(a.turns))
		}
	})
}

func TestAdmissionFinishesOldLoginsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1)
		tickets := make(map[string]*ticket)
		for _, name := range []string{"first", "second", "third"} {
			tickets[name] = a.newTicket(tcpFrom("192.0.2.1"))
		}
		got := lineUp(t, a, []string{"third", "first", "second"}, tickets)
		if want := []string{"first", "second", "third"}; !slices.Equal(got, want) {
			t.Errorf("order %v, want %v", got, want)
		}
	})
}

func TestAdmissionGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAdmission(1)
		holder, waiter, next := a.newTicket(tcpFrom("192.0.2.1")), a.newTicket(tcpFrom("192.0.2.2")), a.newTicket(tcpFrom("192.0.2.2"))
		if err := holder.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithDeadlineCause(t.Context(), time.Now().Add(time.Minute), errLoginTimeout)
		defer cancel()
		if err := waiter.acquire(ctx); !errors.Is(err, errLoginTimeout) {
			t.Errorf("acquire = %v, want %v", err, errLoginTimeout)
		}
		waiter.release() // holds nothing: gives nothing back
		if err := waiter.acquire(ctx); !errors.Is(err, errLoginTimeout) {
			t.Errorf("acquire with a dead context = %v", err)
		}
		if len(a.queues) != 0 || len(a.turns) != 0 || a.free != 0 {
			t.Errorf("left: %d free, %d queues, %d turns", a.free, len(a.queues), len(a.turns))
		}
		holder.release()
		if err := next.acquire(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestAdmissionUnderStorm checks that no slot is lost or doubled when logins
// come, compute, wait and give up at random.
func TestAdmissionUnderStorm(t *testing.T) {
	const slots = 3
	a := newAdmission(slots)
	var computing, most, times atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			k := a.newTicket(tcpFrom("192.0.2." + string(rune('1'+i%7))))
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if rand.N(3) == 0 {
					go cancel()
				}
				if k.acquire(ctx) == nil {
					most.Store(max(most.Load(), computing.Add(1)))
					times.Add(1)
					computing.Add(-1)
					k.release()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if most.Load() > slots || times.Load() == 0 {
		t.Errorf("%d computed at once, want at most %d; %d in all", most.Load(), slots, times.Load())
	}
	if a.free != slots || len(a.queues) != 0 || len(a.turns) != 0 {
		t.Errorf("left: %d free, want %d; %d queues, %d turns", a.free, slots, len(a.queues), len(a.turns))
	}
}

func TestSourceOf(t *testing.T) {
	for _, tt := range []struct {
		a, b net.Addr
		same bool
	}{
		{tcpFrom("192.0.2.1"), tcpFrom("192.0.2.1"), true},
		{tcpFrom("192.0.2.1"), tcpFrom("::ffff:192.0.2.1"), true},
		{tcpFrom("192.0.2.1"), tcpFrom("192.0.2.2"), false},
		{tcpFrom("2001:db8::1"), tcpFrom("2001:db8::2"), true},
		{tcpFrom("2001:db8:0:1::1"), tcpFrom("2001:db8:0:2::1"), false},
		{&net.UnixAddr{Net: "unix"}, &net.UnixAddr{Net: "unix", Name: "@"}, true},
		{&net.UnixAddr{Net: "unix"}, tcpFrom("192.0.2.1"), false},
	} {
		if same := sourceOf(tt.a) == sourceOf(tt.b); same != tt.same {
			t.Errorf("%v and %v: same %v, want %v", tt.a, tt.b, same, tt.same)
		}
	}
}
