package frontend

import "github.com/pgvalet/pgvalet/backend/wire"

// seenWhole is the size up to which a message must be here whole before its client
// gets a server: a client that stops in the middle of one holds none.
const seenWhole = 4096

// requests takes the client's messages in data to the server, as far as they go
// now, and returns the rest.
func (s *session) requests(data []byte) []byte {
	for len(data) > 0 && s.state == sessionOpen {
		if s.left > 0 {
			n := min(s.left, len(data))
			s.carry(data[:n])
			data = data[n:]
			continue
		}
		typ, n, ok := wire.Header(data)
		if !ok {
			break
		}
		if n < wire.HeaderLen || n > s.limits.maxPacket {
			s.fatal(badPacket(typ, n, s.limits.maxPacket))
			return nil
		}
		m := data[:min(n, len(data))]
		if s.srv == nil && len(m) < n && n <= seenWhole {
			break
		}
		var used int
		if s.skip != skipNothing {
			used = s.skipRequest(typ, n, m)
		} else {
			used = s.request(typ, n, m)
		}
		if used == 0 {
			break
		}
		data = data[used:]
	}
	s.unnamed.keep()
	return data
}

// carry takes bytes of a message whose header has been dealt with.
func (s *session) carry(p []byte) {
	s.left -= len(p)
	if s.leftDrop {
		return
	}
	s.w.toServer.Add(p)
	s.unnamed.carry(p, s.left)
	s.srv.SetSendLeft(s.left)
	if s.left == 0 && s.srv.Outstanding() == 0 {
		// The server was done before the message was: the end of a COPY that
		// has failed. Settle decides again.
		s.flush()
		s.Settle()
	}
}

// begin carries a message of n bytes, of which m is here.
func (s *session) begin(n int, m []byte) int {
	s.left, s.leftDrop = n-len(m), false
	s.w.toServer.Add(m)
	s.srv.SetSendLeft(s.left)
	return len(m)
}

// drop reads past a message of n bytes, of which m is here.
func (s *session) drop(n int, m []byte) int {
	s.left, s.leftDrop = n-len(m), true
	return len(m)
}

// request deals with one message of n bytes, of which m is here. It returns how
// many bytes of m it is done with: 0 if it must see more of it, or has to wait,
// or has ended the session.
func (s *session) request(typ byte, n int, m []byte) int {
	switch typ {
	case wire.Query:
		if s.limits.noPQExec {
			s.fatal(errPQExec)
			return 0
		}
		if s.tracking() {
			if used, wait := s.sqlNames(n, m); used > 0 || wait {
				return used
			}
		}
		if !s.need() {
			return 0
		}
		s.asking()
		s.forgetting(m[wire.HeaderLen:])
		s.srv.Expect(wire.Query)
		return s.begin(n, m)
	case wire.Parse:
		return s.parse(n, m)
	case wire.Bind:
		return s.bind(n, m)
	case wire.Describe, wire.Close:
		return s.describeOrClose(typ, n, m)
	case wire.Execute, wire.FunctionCall:
		if !s.need() {
			return 0
		}
		s.asking()
		s.srv.Expect(typ)
		return s.begin(n, m)
	case wire.Sync:
		if s.srv == nil { // nothing to wait for
			s.w.toClient.Add(wire.MsgReadyIdle)
			return s.drop(n, m)
		}
		s.asking()
		s.unnamed.synced()
		s.srv.Expect(wire.Sync)
		return s.begin(n, m)
	case wire.Flush:
		if s.srv == nil {
			return s.drop(n, m)
		}
		return s.begin(n, m)
	case wire.CopyData:
		if s.srv == nil { // late: the COPY has failed
			return s.drop(n, m)
		}
		return s.begin(n, m)
	case wire.CopyDone, wire.CopyFail:
		if s.srv == nil {
			return s.drop(n, m)
		}
		s.srv.Expect(typ)
		return s.begin(n, m)
	case wire.Terminate:
		s.goodbye = true
		s.flush()
		s.end("client close request")
		return 0
	}
	s.fatal(unknownPacket(typ))
	return 0
}

// asking notes when a query begins, for the statistics and query_timeout.
func (s *session) asking() {
	if s.srv.TxStatus() != 0 {
		s.requestAt = s.w.now()
		if s.srv.TxStatus() == 'I' {
			s.xactAt = s.requestAt
		}
	}
}
