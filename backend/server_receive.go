package backend

import (
	"errors"
	"fmt"

	"github.com/pgvalet/pgvalet/backend/wire"
)

// This file is how a server's replies are matched with what it was asked.

// errOutOfStep means that a server's replies do not match what it was asked.
// There is no way to know whose they are: the connection is given up.
var errOutOfStep = errors.New("reply does not match any outstanding request")

// errReplyTooLong bounds messages that must be seen whole.
var errReplyTooLong = errors.New("reply is too long")

// maxWhole bounds the replies that must be seen whole: ParameterStatus,
// CommandComplete, ReadyForQuery.
const maxWhole = 64 << 20

// maxError is the longest ErrorResponse that is looked at.
const maxError = 16 << 10

// replies accounts for the messages in data and gives the holder its share. It
// returns the start of a message that cannot be judged yet.
func (s *Server) replies(data []byte) ([]byte, error) {
	run, pos := 0, 0 // data[run:pos] is to be forwarded
	for {
		if s.left > 0 {
			n := min(s.left, len(data)-pos)
			s.left -= n
			if !s.leftForward {
				s.holder.Forward(data[run:pos])
				run = pos + n
			}
			pos += n
			if s.left > 0 {
				break
			}
		}
		if s.requests.len() > 0 && s.silent(s.requests.at(0)) {
			s.holder.Forward(data[run:pos])
			run = pos
			s.answerSilent()
		}
		typ, n, ok := wire.Header(data[pos:])
		if !ok {
			break
		}
		if n < wire.HeaderLen {
			s.holder.Forward(data[run:pos])
			return nil, fmt.Errorf("message %q from server: %w", typ, errOutOfStep)
		}
		body := data[pos+wire.HeaderLen : min(pos+n, len(data))]
		if typ == wire.ReadyForQuery || typ == wire.ParameterStatus || typ == wire.CommandComplete || typ == wire.ErrorResponse && n <= maxError {
			if len(body) < n-wire.HeaderLen {
				if n > maxWhole {
					s.holder.Forward(data[run:pos])
					return nil, fmt.Errorf("message %q from server: %w", typ, errReplyTooLong)
				}
				break
			}
		}
		fwd, err := s.account(typ, body)
		if err != nil {
			s.holder.Forward(data[run:pos]) // the holder's without a doubt
			return nil, fmt.Errorf("message %q from server: %w", typ, err)
		}
		if !fwd {
			s.holder.Forward(data[run:pos])
			run = pos + wire.HeaderLen + len(body)
		}
		pos += wire.HeaderLen + len(body)
		s.left, s.leftForward = n-wire.HeaderLen-len(body), fwd
	}
	s.holder.Forward(data[run:pos])
	return data[pos:], nil
}

// silent reports whether the server will say nothing to r when its turn has
// come: it was never sent, or is the end of a COPY that is over.
func (s *Server) silent(r *request) bool {
	return r.action == fake || r.kind == wire.CopyDone && !s.copy.active()
}

// answerSilent takes the silent requests from the head of the queue, and makes
// up the replies to those that were never sent.
func (s *Server) answerSilent() {
	for s.requests.len() > 0 && s.silent(s.requests.at(0)) {
		switch r := s.requests.pop(); r.kind {
		case wire.Parse:
			s.holder.Forward(wire.MsgParseComplete)
		case wire.Close:
			s.holder.Forward(wire.MsgCloseComplete)
			s.holder.Closed(r.undo)
		}
	}
}

// account matches one reply with the oldest request and reports whether the
// holder gets it. body may be incomplete, except where replies makes sure.
func (s *Server) account(typ byte, body []byte) (bool, error) {
	var head *request
	var kind byte
	if s.requests.len() > 0 {
		head = s.requests.at(0)
		kind = head.kind
	}
	ours := head != nil && head.action != forward
	if s.copy.inDoubt() && settles(typ) {
		s.copy.doubt = noDoubt // the ReadyForQuery would have come before
	}
	switch typ {
	case wire.NoticeResponse:
		return !ours, nil
	case wire.NotificationResponse:
		return true, nil
	case wire.ParameterStatus:
		s.parameterStatus(body)
		return !ours, nil

	case wire.ReadyForQuery:
		if s.copy.doubt == spoiled || len(body) != 1 {
			return false, errOutOfStep
		}
		if s.copy.ready(kind) {
			s.aborted, s.carried = false, 0
			if head == nil {
				s.tx = body[0]
			}
			if !ours {
				s.holder.Ready(body[0])
			}
			return !ours, nil
		}
		if kind != wire.Sync && kind != wire.Query && kind != wire.FunctionCall {
			return false, errOutOfStep
		}
		s.requests.pop()
		s.copy.end()
		s.dropCopyDone()
		if s.requests.len() == 0 {
			s.tx = body[0]
		}
		s.carried = 0
		if !ours {
			s.holder.Ready(body[0])
		}
		return !ours, nil

	case wire.ErrorResponse:
		if head != nil && head.stmt != nil && stalePlan(body) {
			head.stmt.retire()
		}
		switch string(wire.ErrorField(body, 'C')) {
		case "25006":
			s.readOnly = true
		case "26000":
			if s.DoubtSQL(); head != nil && head.stmt != nil {
				s.Doubt() // a function may have had it forget them all
			}
		}
		return s.errorResponse(head), nil

	case wire.ParseComplete:
		if kind != wire.Parse {
			return false, errOutOfStep
		}
		r := s.requests.pop()
		if r.unnamed {
			s.unnamedPending--
		}
		if r.stmt != nil {
			s.prepared.byStmt[r.stmt].there = true
			s.settle(r.stmt)
			s.statements.accepted(r.stmt, s.pool)
		}
	case wire.BindComplete:
		if kind != wire.Bind {
			return false, errOutOfStep
		}
		s.requests.pop()
	case wire.CloseComplete:
		if kind != wire.Close {
			return false, errOutOfStep
		}
		r := s.requests.pop()
		if r.stmt != nil {
			s.prepared.byStmt[r.stmt].there = false
			s.settle(r.stmt)
		}
		if r.undo != nil {
			s.holder.Closed(r.undo)
		}
	case wire.ParameterDescription:
		if kind != wire.Describe {
			return false, errOutOfStep
		}
	case wire.NoData:
		if kind != wire.Describe {
			return false, errOutOfStep
		}
		s.requests.pop()
	case wire.RowDescription:
		switch kind {
		case wire.Describe:
			s.requests.pop()
		case wire.Query:
		default:
			return false, errOutOfStep
		}
	case wire.DataRow, wire.CopyOutResponse, wire.CopyData, wire.CopyDone:
		if kind != wire.Execute && kind != wire.Query {
			return false, errOutOfStep
		}
	case wire.CopyInResponse, wire.CopyBothResponse:
		if kind != wire.Execute && kind != wire.Query || typ == wire.CopyBothResponse && !s.walsender {
			return false, errOutOfStep
		}
		s.beginCopyIn(kind)
		if ours {
			s.finish() // whoever asked for it is gone
		}
	case wire.CommandComplete:
		if kind != wire.Execute && kind != wire.Query {
			return false, errOutOfStep
		}
		if kind == wire.Query && s.copy.active() && s.requests.len() > 1 && s.requests.at(1).kind == wire.CopyDone {
			s.requests.remove(1) // or the next COPY of the same query would take it for its own
		}
		s.copy.end()
		s.commandComplete(head, body)
		s.endExecute(kind)
	case wire.EmptyQueryResponse, wire.PortalSuspended:
		if kind != wire.Execute && (kind != wire.Query || typ == wire.PortalSuspended) {
			return false, errOutOfStep
		}
		s.endExecute(kind)
	case wire.FunctionCallResponse:
		if kind != wire.FunctionCall {
			return false, errOutOfStep
		}
	default:
		return false, errOutOfStep
	}
	return !ours, nil
}

func (s *Server) endExecute(kind byte) {
	if kind == wire.Execute {
		s.requests.pop()
	}
}

// errorResponse accounts for an ErrorResponse. After one in the extended
// protocol the server ignores everything up to the next Sync.
func (s *Server) errorResponse(head *request) bool {
	if head == nil {
		s.leaving = true // unasked: the server is about to close the connection
		return true
	}
	act := head.action
	s.copy.failed(head.kind)
	if head.extended() {
		n := 0
		for n < s.requests.len() && s.requests.at(n).kind != wire.Sync {
			n++
		}
		s.aborted = n == s.requests.len()
		for i := 1; i < n && s.copy.inDoubt(); i++ {
			if s.requests.at(i).kind != wire.CopyDone {
				s.copy.spoil()
			}
		}
		// The newest first, so that the holder can undo one after the other.
		for i := n - 1; i >= 0; i-- {
			s.drop(*s.requests.at(i))
		}
		for range n {
			s.requests.pop()
		}
	} else if head.undo != nil {
		s.drop(*head)
		head.undo = nil
	}
	if act == internal {
		s.failed = true
	}
	return act != internal && act != quiet
}

// drop undoes what was expected of a request that the server has ignored or
// refused.
func (s *Server) drop(r request) {
	if r.stmt != nil && (r.kind == wire.Parse || r.kind == wire.Close) {
		s.settle(r.stmt)
	}
	if r.unnamed {
		// Whatever was there before is there still: another client's, maybe.
		if s.unnamedPending--; s.unnamedPending > 0 {
			return
		}
		s.unnamed = 0
	}
	if r.undo != nil && s.holder != nil {
		s.holder.Aborted(r.kind, r.undo)
	}
}

func (s *Server) parameterStatus(body []byte) {
	name, rest, ok := wire.CString(body)
	value, _, ok2 := wire.CString(rest)
	if !ok || !ok2 {
		return
	}
	i := s.tracked.Index(string(name))
	if i < 0 {
		return
	}
	now := Var{string(value), true}
	if i != applicationName && s.Vars[i] != now {
		s.doubtMeaning()
	}
	s.Vars[i], s.VarsChanged = now, true
}
