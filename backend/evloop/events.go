package evloop

func (l *Loop) handle(e *event) {
	if e.fd == wakeFD {
		l.poll.woken()
		return
	}
	s := streams.get(e.fd)
	if s == nil {
		return // closed since the poller looked
	}
	if s.parked.Load() {
		s.handler.Parked(s, l)
		l.runDeferred()
		return
	}
	if s.loop.Load() != l {
		return // moved to another loop since the poller looked
	}
	if e.what&evWrite != 0 && s.Queued() > 0 && s.flush() {
		s.handler.Writable(s)
		l.runDeferred()
		if s.parked.Load() || s.loop.Load() != l {
			return
		}
	}
	if e.what&^evWrite == 0 {
		return
	}
	s.empty = false
	if !s.paused {
		if !s.again { // else it has its turn in runAgain
			l.readable(s)
			l.runDeferred()
		}
		return
	}
	gone := e.what&evGone != 0
	hup := e.what&evHangup != 0
	switch i := s.interest &^ wantRead; {
	case gone:
		s.want(0) // no poller can be told to keep silent about it
	case hup || i == s.interest:
		s.want(i &^ wantHangup)
	default:
		s.want(i)
	}
	if gone || hup {
		s.handler.HungUp(s, gone)
		l.runDeferred()
	}
}

func (l *Loop) runAgain() {
	if len(l.againList) == 0 {
		return
	}
	l.againRun, l.againList = l.againList, l.againRun[:0]
	for i, s := range l.againRun {
		l.againRun[i] = nil
		if s == nil || s.parked.Load() || s.loop.Load() != l {
			continue
		}
		s.again = false
		switch {
		case !s.paused:
			l.readable(s)
		case s.err != nil:
			s.want(0)
			s.handler.HungUp(s, true)
		}
		l.runDeferred()
	}
}
