package frontend

import (
	"context"
	"time"

	"github.com/pgvalet/pgvalet/pool"
)

// flushCheck is how often SUSPEND looks whether all is sent.
const flushCheck = 10 * time.Millisecond

// Suspend stops reading from clients and servers, and returns when everything
// that had been read is sent. Clients that do not take it within
// suspend_timeout, or whose server does not, are closed. When ctx ends before,
// everything goes on as if nothing had happened.
func (c *Sessions) Suspend(ctx context.Context) error {
	if !c.suspend(true) {
		return pool.ErrAlreadyPaused
	}
	var late <-chan time.Time
	if limit := c.config().SuspendTimeout; limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		late = t.C
	}
	tick := time.NewTicker(flushCheck)
	defer tick.Stop()
	for {
		unsent := 0
		c.each(func(s *session) {
			if s.unsent() {
				unsent++
			}
		})
		if unsent == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-late:
			c.each(func(s *session) {
				if s.unsent() {
					s.end("suspend_timeout") // it could not be told
				}
			})
		case <-ctx.Done():
			c.Resume()
			return ctx.Err()
		}
	}
}

// unsent reports whether bytes from or to the client wait to be sent.
func (s *session) unsent() bool {
	return s.stream.Queued() > 0 || s.srv != nil && s.srv.Stream.Queued() > 0
}

// Resume undoes Suspend; it reports whether there was anything to undo.
func (c *Sessions) Resume() bool { return c.suspend(false) }

// suspend tells the loops, if it is news.
func (c *Sessions) suspend(on bool) bool {
	c.loopsTold.Lock()
	defer c.loopsTold.Unlock()
	if c.suspended.Swap(on) == on {
		return false
	}
	for _, w := range c.workers {
		if on {
			w.loop.Call(w.loop.Suspend)
		} else {
			w.loop.Call(w.loop.Resume)
		}
	}
	return true
}

// Suspended reports whether Suspend is in force.
func (c *Sessions) Suspended() bool { return c.suspended.Load() }
