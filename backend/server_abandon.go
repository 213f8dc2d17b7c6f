package backend

import "github.com/pgvalet/pgvalet/backend/wire"

// Abandon takes the server from a holder that is gone: nobody sees the replies
// to what is outstanding. It has the server come to a ReadyForQuery, and reports
// whether it can get there at all: not with half a message sent.
func (s *Server) Abandon() bool {
	if s.sendLeft > 0 || s.copy.doubt == spoiled {
		return false
	}
	for i := range s.requests.len() {
		r := s.requests.at(i)
		if r.undo != nil && r.kind == wire.Close {
			s.holder.Closed(r.undo)
		}
		r.undo = nil
		if r.action != fake {
			r.action = internal
		}
	}
	s.leftForward = false
	s.finish()
	return true
}

// finish sends what brings the server to a ReadyForQuery: the end of a COPY, a
// Sync. A batch that has not been ended by its sender must come to nothing, but
// a Sync commits it: an error goes before.
func (s *Server) finish() {
	copying, ended := s.CopyIn(), s.tx != 0
	if n := s.requests.len(); n > 0 && !copying && s.requests.at(n-1).ends() {
		ended = true
	}
	ended = ended && !s.aborted
	var b []byte
	switch {
	case copying:
		b = wire.AppendCopyFail(b, "client disconnected")
		s.push(request{kind: wire.CopyFail, action: internal})
	case !ended && !s.aborted:
		b = append(b, msgBindNothing...)
		s.push(request{kind: wire.Bind, action: internal})
	}
	if !ended {
		b = append(b, wire.MsgSync...)
		s.push(request{kind: wire.Sync, action: internal})
	}
	if len(b) > 0 {
		s.Stream.Write(b)
	}
}

// msgBindNothing is a Bind of a statement that does not exist: its name tells
// whoever reads the server's log why.
var msgBindNothing = []byte("B\x00\x00\x00\x1f\x00client disconnected\x00\x00\x00\x00\x00\x00\x00")
