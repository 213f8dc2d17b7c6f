package frontend

import (
	"encoding/hex"
	"fmt"

	"go.uber.org/zap"
)

// What ends the session of a client that has logged in. The texts are
// PgBouncer's; see errors.go for the codes.
var (
	// Timeouts: the codes that PostgreSQL has for its own.
	errQueryTimeout           = fatal("57014", "query timeout")
	errQueryTimeoutWaiting    = fatal("57014", "query_timeout")
	errQueryWaitTimeout       = fatal("53300", "query_wait_timeout")
	errIdleTransactionTimeout = fatal("25P03", "idle transaction timeout")
	errTransactionTimeout     = fatal("25P04", "transaction timeout")
	errClientIdle             = fatal("57P05", "client_idle_timeout")

	errServerLost       = fatal("08006", "server conn crashed?")
	errServerParameter  = fatal("22023", "invalid server parameter")
	errPQExec           = fatal("0A000", "PQexec disallowed")
	errTransactionBlock = fatal("0A000", "transaction blocks not allowed in statement pooling mode")

	// The administrator.
	errKilled         = fatal("57P01", "admin forced disconnect")
	errServerShutdown = fatal("57P01", "server shutting down")
	errReplaced       = fatal("57P01", "database configuration changed")
	errRemoved        = fatal("57P01", "database removed")
	errServerDown     = fatal("08001", "client_login_timeout (server down)")
)

// badPacket is for a message whose length is impossible or forbidden.
func badPacket(typ byte, n, limit int) error {
	if n > limit {
		return fatal("08P01", fmt.Sprintf("message %q of %d bytes is longer than max_packet_size (%d)", typ, n, limit))
	}
	var hdr [5]byte
	hdr[0] = typ
	hdr[1], hdr[2], hdr[3], hdr[4] = byte(uint32(n-1)>>24), byte(uint32(n-1)>>16), byte(uint32(n-1)>>8), byte(uint32(n-1))
	return errBadHeader.with("'" + hex.EncodeToString(hdr[:]) + "'")
}

func unknownPacket(typ byte) error { return fatal("08P01", fmt.Sprintf("unknown pkt %q", typ)) }

func brokenPacket(name string) error { return fatal("08P01", "broken "+name+" packet") }

// logPoolerError says what a client was told, and, if that is not the same, the
// whole reason.
func (s *session) logPoolerError(e *Error, err error) {
	if !s.w.sessions.config().LogPoolerErrors {
		return
	}
	if err.Error() == e.Message {
		s.log().Warn("pooler error: " + e.Message)
	} else {
		s.log().Warn("pooler error: "+e.Message, zap.Error(err))
	}
}
