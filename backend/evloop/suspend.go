package evloop

import "time"

// suspendedTurn is how often a suspended loop looks whether more can be sent,
// and at its mail. What cannot be read yet would make the poller return at once
// every time.
const suspendedTurn = 5 * time.Millisecond

// Suspend makes the loop read nothing, accept no deadlines, and only send what
// is queued, until Resume. What is posted still runs.
func (l *Loop) Suspend() { l.suspended = true }

// Resume undoes Suspend.
func (l *Loop) Resume() {
	l.suspended = false
	for _, s := range l.flushed {
		if s.OwnedBy(l) && s.Queued() == 0 {
			s.handler.Writable(s)
			l.runDeferred()
		}
	}
	l.flushed = nil
}

// standStill is one turn of a suspended loop.
func (l *Loop) standStill(ev []event) error {
	<-time.After(suspendedTurn)
	n, err := l.poll.wait(ev, 0)
	if err != nil {
		return err
	}
	l.now = time.Now()
	for i := range ev[:n] {
		e := &ev[i]
		if e.fd == wakeFD {
			l.poll.woken()
			continue
		}
		if s := streams.get(e.fd); s != nil && s.OwnedBy(l) && e.what&evWrite != 0 && s.Queued() > 0 && s.flush() {
			l.flushed = append(l.flushed, s)
		}
	}
	l.runMailbox(false)
	l.runDeferred()
	return nil
}
