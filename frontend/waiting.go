package frontend

import "github.com/pgvalet/pgvalet/pool"

// waiting is a session's place in a pool's queue. Idle sessions have none: it
// comes from the worker's spare ones, and goes back there when no more is heard
// of it.
type waiting struct {
	pool.Waiter
	s *session // whose it is; nil while it is spare
}

// acquire asks the session's pool for a server. When it returns neither a lease
// nor an error, the session is in the queue, and granted or refused follows.
func (s *session) acquire() (*pool.Lease, error) {
	t := s.w.place()
	t.s, t.ID = s, s.id
	l, err := s.pool.Acquire(&t.Waiter)
	if l == nil && err == nil {
		s.waiting = t
		return nil, nil
	}
	s.w.vacate(t)
	return l, err
}

// leaveQueue ends a wait; it reports false if a server, or the reason why there
// is none, has come or is on its way.
func (s *session) leaveQueue() bool {
	if s.waiting == nil || !s.pool.Leave(&s.waiting.Waiter) {
		return false
	}
	s.w.vacate(s.waiting)
	return true
}

// maxPlaces bounds the spare places of a worker. Where clients always wait, most
// places are taken.
const maxPlaces = 1000

// place returns a place in a queue that nobody has.
func (w *worker) place() *waiting {
	if n := len(w.places); n > 0 {
		t := w.places[n-1]
		w.places = w.places[:n-1]
		return t
	}
	t := &waiting{}
	t.Loop = w.loop
	t.Granted = func(l *pool.Lease) { w.vacate(t).granted(l) }
	t.Refused = func(err error) { w.vacate(t).refused(err) }
	return t
}

// vacate takes back a place that nothing more comes for; it returns whose it
// was.
func (w *worker) vacate(t *waiting) *session {
	s := t.s
	t.s, s.waiting = nil, nil
	if len(w.places) < maxPlaces {
		w.places = append(w.places, t)
	}
	return s
}
