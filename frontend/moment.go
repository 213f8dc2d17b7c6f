package frontend

import "time"

// moment is a point in time as a session keeps it: how long it is after the
// making of the Sessions. A time.Time takes three times as much memory.
type moment time.Duration

// sub returns how much later m is than o.
func (m moment) sub(o moment) time.Duration { return time.Duration(m - o) }

// moment returns t as a moment.
func (c *Sessions) moment(t time.Time) moment { return moment(t.Sub(c.began)) }

// now is the loop's present time.
func (w *worker) now() moment { return w.sessions.moment(w.loop.Now()) }

// timeOf returns when m was by the present clock, whatever that has shown then.
func (w *worker) timeOf(m moment) time.Time { return w.loop.Now().Add(m.sub(w.now())) }
