package frontend

import (
	"context"
	"testing"
	"time"
)

// While everything is suspended nothing is answered, and nothing is lost.
func TestSuspend(t *testing.T) {
	r := newRig(t, "event_loops = 2")
	c := r.client()
	c.do("select 1")
	if err := r.sessions.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.query("select 2")
	c.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if got := c.receive(); got != "TIMEOUT" {
		t.Errorf("while suspended: %s", got)
	}
	c.conn.SetReadDeadline(time.Now().Add(testTimeout))
	if !r.sessions.Suspended() || !r.sessions.Resume() || r.sessions.Resume() {
		t.Error("it was not suspended, or twice")
	}
	c.want("T", "D 2", "C SELECT 1", "Z I")
}

// heldUp returns a client that does not read the result of a query.
func heldUp(r *rig) *wireClient {
	c := r.client()
	c.query("select lpad('', 100000, '-') from generate_series(1, 200)")
	r.await("the client is held up", func() (held bool) {
		r.look(c, func(s *session) { held = s.srv != nil && s.stream.Queued() > 0 && s.srv.Stream.Paused() })
		return held
	})
	return c
}

// SUSPEND waits until clients have what was read for them; after it they get
// the rest.
func TestSuspendFlushes(t *testing.T) {
	r := newRig(t, "")
	c := heldUp(r)
	done := make(chan error)
	go func() { done <- r.sessions.Suspend(context.Background()) }()
	r.await("it is suspended", r.sessions.Suspended)
	select {
	case err := <-done:
		t.Fatalf("a client is held up, but SUSPEND is done: %v", err)
	case <-time.After(5 * flushCheck):
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.want("T")
		for range 200 {
			if _, err := c.front.Receive(); err != nil {
				t.Error(err)
				return
			}
		}
		c.want("C SELECT 200", "Z I")
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	select {
	case <-read:
		t.Error("more was sent than what had been read")
	case <-time.After(5 * flushCheck):
	}
	r.sessions.Resume()
	<-read
}

// A client that does not take its bytes is closed after suspend_timeout.
func TestSuspendTimeout(t *testing.T) {
	r := newRig(t, "suspend_timeout = 0.05")
	heldUp(r)
	if err := r.sessions.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.sessions.Resume()
	if n := r.sessions.Count(); n != 0 {
		t.Errorf("%d clients are left", n)
	}
}

// A SUSPEND that nobody waits for has not happened.
func TestSuspendIsCancelled(t *testing.T) {
	r := newRig(t, "")
	heldUp(r)
	ctx, cancel := context.WithTimeout(t.Context(), 3*flushCheck)
	defer cancel()
	if err := r.sessions.Suspend(ctx); err == nil {
		t.Error("a client is held up, but SUSPEND is done")
	}
	if r.sessions.Suspended() {
		t.Error("still suspended")
	}
}
