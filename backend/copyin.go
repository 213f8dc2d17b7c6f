package backend

import "github.com/pgvalet/pgvalet/backend/wire"

// copyIn is what is known of a COPY that the server reads, and of the answers
// that the last one may have left behind. In that state the server ignores Sync,
// and takes any message that is not a part of the COPY for its end, by way of an
// error (src/backend/commands/copyfromparse.c, CopyGetData). If the COPY fails
// there is no telling whether what came behind its data was read as a part of
// it, or is answered: a trigger or a cancel request may have struck before.
type copyIn struct {
	phase copyPhase
	sync  bool // a Sync was sent while the server read, and taken for ignored
	other bool // the end that was sent is another request
	doubt doubt
}

type copyPhase uint8

const (
	noCopy      copyPhase = iota
	copyReading           // the server reads CopyData
	copyEnded             // … and the end of it has been sent
)

// doubt is how much the answers of the server can be told apart after a COPY
// that failed.
type doubt uint8

const (
	noDoubt   doubt = iota
	extra           // there may be one ReadyForQuery more than was asked for
	extraNext       // … after that of the simple query that failed
	spoiled         // nobody can tell what the server will answer
)

// begin notes that the server now reads CopyData.
func (c *copyIn) begin() { c.phase = copyReading }

// end notes that it does not any more.
func (c *copyIn) end() { c.phase, c.sync, c.other = noCopy, false, false }

// active reports whether the server reads, or has yet to read the end.
func (c *copyIn) active() bool { return c.phase != noCopy }

// reading reports whether the server has not been sent the end of the data.
func (c *copyIn) reading() bool { return c.phase == copyReading }

// endSent notes a CopyDone or CopyFail.
func (c *copyIn) endSent() { c.phase = copyEnded }

// interrupted notes another request in the place of the end.
func (c *copyIn) interrupted() { c.phase, c.other = copyEnded, true }

// failed notes that the request that the COPY belongs to, of the given kind, has
// failed.
func (c *copyIn) failed(kind byte) {
	switch {
	case !c.active():
	case c.other:
		c.spoil()
	case c.sync && c.doubt == noDoubt:
		if c.doubt = extra; kind == wire.Query {
			c.doubt = extraNext
		}
	}
	c.end()
}

// inDoubt reports whether there may be one ReadyForQuery too many.
func (c *copyIn) inDoubt() bool { return c.doubt == extra || c.doubt == extraNext }

func (c *copyIn) spoil() { c.doubt = spoiled }

// settles reports whether a message of the given type settles a doubt: it is the
// answer to a later request than the one that a ReadyForQuery may be missing of.
func settles(typ byte) bool {
	switch typ {
	case wire.ReadyForQuery, wire.NoticeResponse, wire.NotificationResponse, wire.ParameterStatus:
		return false
	}
	return true
}

// ready notes a ReadyForQuery, where one is due for a request of the given kind
// (0: for none). It reports whether it is the one too many.
func (c *copyIn) ready(kind byte) bool {
	switch {
	case c.doubt == extra && kind != wire.Sync:
		c.doubt = noDoubt
		return true
	case c.doubt == extraNext:
		c.doubt = extra
	}
	return false
}

// beginCopyIn notes that the server now reads CopyData: requests that were sent
// before this was known get no answer of their own.
func (s *Server) beginCopyIn(kind byte) {
	s.copy.begin()
	for s.requests.len() > 1 && s.requests.at(1).kind == wire.Sync {
		s.requests.remove(1)
		s.copy.sync = true
	}
	if s.requests.len() == 1 {
		return
	}
	if s.requests.at(1).kind == wire.CopyDone {
		s.copy.endSent()
	} else if kind == wire.Query {
		r := *s.requests.at(1)
		s.requests.remove(1)
		s.drop(r)
		s.copy.interrupted()
	}
}

// dropCopyDone forgets ends of COPY that the server ignores because no COPY is
// under way any more.
func (s *Server) dropCopyDone() {
	for s.requests.len() > 0 && s.requests.at(0).kind == wire.CopyDone && !s.copy.active() {
		s.requests.pop()
	}
}
