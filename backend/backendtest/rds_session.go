package backendtest

import (
	"io"
	"net"
	"time"

	"go.uber.org/zap"
)

const (
	// loginTimeout is PostgreSQL's default authentication_timeout.
	loginTimeout = time.Minute
	dialTimeout  = 10 * time.Second
)

// rdsSession is one client connection of the stand-in.
type rdsSession struct {
	rds   *RDS
	knobs Knobs // as they were at accept
	raw   net.Conn

	// Owned by serve.
	conn   net.Conn // raw, or TLS on top of it
	secure bool
	user   string
	db     string

	// Guarded by rds.mu.
	upstream net.Conn
	closed   bool
}

// close closes both sides, so that whatever blocks on them returns. rds.mu
// must be held.
func (s *rdsSession) close() {
	s.closed = true
	s.raw.Close()
	if s.upstream != nil {
		s.upstream.Close()
	}
}

func (s *rdsSession) serve() {
	defer func() {
		s.conn.Close() // says goodbye if it is TLS
		s.rds.mu.Lock()
		defer s.rds.mu.Unlock()
		s.close()
		delete(s.rds.sessions, s)
		s.rds.stats.Open = len(s.rds.sessions)
		s.rds.notify()
	}()
	s.rds.sleep(s.knobs.AcceptLatency)
	if err := s.raw.SetDeadline(time.Now().Add(loginTimeout)); err != nil {
		return
	}
	if s.knobs.NoProcess {
		s.refuseWithoutProcess()
		return
	}
	packet, err := s.negotiate()
	if err != nil {
		s.rds.log.Debug("startup", zap.Error(err))
		return
	}
	if requestCode(packet) == cancelRequestCode {
		s.cancel(packet)
		return
	}
	if err := s.startup(packet); err != nil {
		s.fail(err)
		return
	}
	if err := s.refusal(false); err != nil {
		s.fail(err)
		return
	}
	if err := s.authenticate(); err != nil {
		s.fail(err)
		return
	}
	if err := s.refusal(true); err != nil {
		s.fail(err)
		return
	}
	s.relay(packet)
}

// refuseWithoutProcess says what the postmaster says that cannot fork, in the
// format of protocol 2 (report_fork_failure_to_client in postmaster.c). It reads
// the client's packet first: the end of a connection that is not read from may
// overtake what was said.
func (s *rdsSession) refuseWithoutProcess() {
	if _, err := readStartupPacket(s.conn); err != nil {
		return
	}
	_, _ = s.conn.Write([]byte("Ecould not fork new process for connection: Cannot allocate memory\n\x00"))
}

func (s *rdsSession) dialUpstream() (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(s.rds.ctx, s.knobs.Network, s.knobs.Address)
	if err != nil {
		return nil, err
	}
	s.rds.mu.Lock()
	defer s.rds.mu.Unlock()
	s.upstream = conn
	if s.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	return conn, nil
}

// cancel passes a CancelRequest on and, like PostgreSQL, closes the connection
// when the request has been dealt with.
func (s *rdsSession) cancel(packet []byte) {
	upstream, err := s.dialUpstream()
	if err != nil {
		s.rds.log.Warn("cancel", zap.Error(err))
		return
	}
	if err := upstream.SetDeadline(time.Now().Add(loginTimeout)); err != nil {
		return
	}
	if _, err := upstream.Write(packet); err != nil {
		s.rds.log.Warn("cancel", zap.Error(err))
		return
	}
	s.rds.count(func(st *Stats) { st.Cancels++ })
	if _, err := io.Copy(io.Discard, upstream); err != nil {
		s.rds.log.Warn("cancel", zap.Error(err))
	}
}

// relay logs in to the real PostgreSQL with the client's own startup packet
// and splices the two connections, from the server's first message on. (So a
// NegotiateProtocolVersion, which PostgreSQL sends before it asks for a
// password, comes after it here.)
func (s *rdsSession) relay(packet []byte) {
	upstream, err := s.dialUpstream()
	if err != nil {
		s.rds.log.Warn("PostgreSQL behind the stand-in", zap.Error(err))
		return
	}
	if err := s.raw.SetDeadline(time.Time{}); err != nil {
		return
	}
	if _, err := upstream.Write(packet); err != nil {
		return
	}
	hangUp := func() {
		s.conn.Close()
		upstream.Close()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer hangUp()
		io.Copy(s.conn, upstream)
	}()
	io.Copy(upstream, s.conn)
	hangUp()
	<-done
}
