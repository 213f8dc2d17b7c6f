package frontend

import (
	"errors"
	"slices"
	"time"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// worker is what the sessions of one event loop share. It belongs to the loop.
type worker struct {
	sessions *Sessions
	loop     *evloop.Loop

	list     []*session // all of them; session.place is the index
	passages map[*passage]struct{}
	parting  map[*passage]moment // of these, which are about to end, and since when
	giveBack func(any)           // returnLease
	places   []*waiting          // that no session has
	toServer evloop.Gather
	toClient evloop.Gather

	cfg         *config.Config // what the sessions' limits come from
	idleLimited bool           // some session has a limit on being idle
}

// notAdopted is the place of a session that its worker does not know yet.
const notAdopted = -1

// take gives a session to the loop. It is called by the goroutine of the login;
// on error the session's stream is still the caller's. The loop is not woken:
// the client's first request does that soon, and whoever wants to see all
// sessions posts, which comes behind what is left here.
func (w *worker) take(s *session) error {
	linked := s.lease != nil // afterwards it is the loop's to look
	if err := w.loop.Attach(s.stream, s); err != nil {
		return err
	}
	leave := w.loop.Leave
	if w.sessions.config().ClientIdleTimeoutFor(s.user) > 0 || linked {
		leave = w.loop.Post // the sweep must know of the session, or its server have a reader
	}
	if !leave(adopt, s) {
		return errors.New("shutting down")
	}
	return nil
}

// adopt runs on the session's loop, once its client says something and in any
// case when the loop reads its mail: what comes second finds it done.
func adopt(arg any) {
	s := arg.(*session)
	if s.place != notAdopted {
		return
	}
	w := s.w
	s.stats.ClientLogins++
	s.place = int32(len(w.list))
	w.list = append(w.list, s)
	s.configure(w.config())
	if s.limits.idle > 0 {
		w.idleLimited = true
		w.loop.Arm()
	}
	if s.lease != nil {
		s.link()
	}
}

func (w *worker) remove(s *session) {
	last := w.list[len(w.list)-1]
	w.list[s.place] = last
	last.place = s.place
	w.list[len(w.list)-1] = nil
	w.list = w.list[:len(w.list)-1]
}

// config returns the present configuration, and sees to it that the sessions
// have its limits.
func (w *worker) config() *config.Config {
	if c := w.sessions.config(); c != w.cfg {
		w.cfg = c
		w.idleLimited = false
		for _, s := range w.list {
			s.configure(c)
			w.idleLimited = w.idleLimited || s.limits.idle > 0
		}
	}
	return w.cfg
}

// resetQuery is what is run on a server before it goes back.
func (w *worker) resetQuery(mode config.PoolMode) string {
	if c := w.config(); mode == config.PoolModeSession || c.ServerResetQueryAlways {
		return c.ServerResetQuery
	}
	return ""
}

// returnLease gives back a clean server.
func (w *worker) returnLease(arg any) {
	arg.(*pool.Lease).Return(w.loop, w.resetQuery(config.PoolModeTransaction))
}

// sweep looks for sessions whose time is up; it reports whether there are any
// that can run out of time.
func (w *worker) sweep(now time.Time) bool {
	w.config()
	present := w.sessions.moment(now)
	busy := w.idleLimited
	for i := range slices.Backward(w.list) { // end removes the session from the list
		if i >= len(w.list) {
			continue
		}
		if s := w.list[i]; s.srv != nil || s.state != sessionOpen {
			busy = true
			s.checkBusy(present)
		} else if over(present, s.readyAt, s.limits.idle) {
			s.fatal(errClientIdle)
		}
	}
	for t, since := range w.parting {
		busy = true
		if over(present, since, sessionLinger) {
			t.end(t.why)
		}
	}
	return busy
}

// over reports whether more than limit has passed since t.
func over(now, t moment, limit time.Duration) bool { return limit > 0 && now.sub(t) > limit }

// checkBusy looks at the timeouts of a session that is not idle.
func (s *session) checkBusy(now moment) {
	l := &s.limits
	switch s.state {
	case sessionLingering:
		if over(now, s.readyAt, sessionLinger) {
			s.close()
		}
	case sessionWaiting:
		switch {
		case over(now, s.requestAt, l.queryWait):
			s.fatal(errQueryWaitTimeout.because(s.pool.Failure()))
		case over(now, s.requestAt, l.query):
			s.fatal(errQueryTimeoutWaiting)
		case over(now, s.requestAt, l.queryNotify) && !s.notified:
			s.notified = true
			s.stream.Write(wire.AppendError(nil, wire.NoticeResponse, "NOTICE", "00000", "No server connection available in postgres backend, client being queued"))
		}
	case sessionOpen, sessionSyncing:
		if s.lease.Replication != backend.NoReplication {
			return // its streams are no queries, and last
		}
		tx := s.srv.TxStatus()
		switch {
		case tx == 0 && over(now, s.requestAt, l.query):
			s.fatal(errQueryTimeout)
		case (tx == 'T' || tx == 'E') && over(now, s.readyAt, l.idleTransaction):
			s.fatal(errIdleTransactionTimeout)
		case tx != 'I' && over(now, s.xactAt, l.transaction):
			s.fatal(errTransactionTimeout)
		case s.mode == config.PoolModeSession && tx == 'I' && s.w.cfg.ServerFastClose && s.lease.Stale():
			s.fatal(errReplaced)
		case s.mode == config.PoolModeSession && tx == 'I' && over(now, s.readyAt, l.idle):
			s.fatal(errClientIdle)
		}
	}
}
