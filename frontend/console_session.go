package frontend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/pool"
)

const (
	// maxConsoleMessage is the longest message that the console takes.
	maxConsoleMessage = 64 << 10
	// maxConsoleStatements bounds the prepared statements of one session;
	// drivers keep some hundreds.
	maxConsoleStatements = 1000
)

// consoleSession is one client of the console. It is run by one goroutine.
type consoleSession struct {
	// Static after newConsoleSession.
	console *Console
	login   *Login
	log     *zap.Logger
	reader  *watchedReader
	backend *pgproto3.Backend

	// Owned by run.
	statements map[string]*consoleStatement
	portals    map[string]*consolePortal
	skipping   bool // an error is answered: everything up to Sync is ignored
	suspender  bool // it has done SUSPEND

	mu        sync.Mutex // guards the fields below
	requestAt time.Time  // when the last command began
	prepared  int        // len(statements)
	waiting   context.CancelCauseFunc
}

func newConsoleSession(c *Console, l *Login) *consoleSession {
	s := &consoleSession{
		console:    c,
		login:      l,
		log:        c.o.Log.Named(l.Label()),
		reader:     &watchedReader{login: l, count: c.count},
		statements: make(map[string]*consoleStatement),
		portals:    make(map[string]*consolePortal),
		requestAt:  l.Since,
	}
	s.backend = pgproto3.NewBackend(s.reader, countingWriter{l.Conn(), c.count})
	s.backend.SetMaxBodyLen(maxConsoleMessage)
	return s
}

// countingWriter counts what is sent.
type countingWriter struct {
	io.Writer
	count func(received, sent int)
}

// Write implements io.Writer.
func (w countingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.count(0, n)
	return n, err
}

// info is the session in SHOW CLIENTS.
func (s *consoleSession) info() ClientInfo {
	l := s.login
	s.mu.Lock()
	defer s.mu.Unlock()
	i := ClientInfo{ConnInfo: pool.ConnInfo{
		ID: l.ID, Database: consoleName, User: l.User, State: "idle", Addr: l.Addr, LocalAddr: l.LocalAddr,
		ConnectedAt: l.Since, RequestAt: s.requestAt, Prepared: s.prepared,
	}}
	i.FD, i.PeerPID = describeSocket(l.Transport.NetConn())
	for _, p := range l.Params {
		if p.Name == "application_name" {
			i.ApplicationName = p.Value
		}
	}
	if l.TLS != nil {
		state := l.TLS.ConnectionState()
		i.TLS = &state
	}
	return i
}

// run serves the client until it leaves or is closed.
func (s *consoleSession) run() {
	keys := &s.console.o.Sessions.keys
	pid := keys.add(s)
	err := s.welcome(pid)
	for err == nil {
		var m pgproto3.FrontendMessage
		if m, err = s.backend.Receive(); err == nil {
			err = s.message(m)
		}
	}
	why := s.farewell(err)
	if s.suspender && s.console.o.Sessions.Resume() {
		s.log.Info("admin disappeared when suspended, doing RESUME")
	}
	keys.remove(pid, s)
	s.login.Conn().Close()
	s.login.Release()
	s.console.remove(s)
	if s.console.o.Config().LogDisconnections {
		s.log.Info("closing because: " + why + " (age=" + strconv.Itoa(int(time.Since(s.login.Since).Seconds())) + "s)")
	}
}

// welcome ends the login, with what PgBouncer's console says of itself.
func (s *consoleSession) welcome(pid uint32) error {
	if err := s.login.Write(nil); err != nil {
		return err
	}
	s.backend.Send(&pgproto3.AuthenticationOk{})
	for _, p := range [...]Parameter{
		{"server_version", imitated + "/bouncer"},
		{"client_encoding", "UTF8"},
		{"server_encoding", "UTF8"},
		{"DateStyle", "ISO"},
		{"TimeZone", "GMT"},
		{"standard_conforming_strings", "on"},
		{"is_superuser", "on"},
	} {
		s.backend.Send(&pgproto3.ParameterStatus{Name: p.Name, Value: p.Value})
	}
	s.backend.Send(&pgproto3.BackendKeyData{ProcessID: pid, SecretKey: s.console.o.Sessions.keys.secretOf(pid, s)})
	s.backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return s.backend.Flush()
}

// errTerminate ends a session whose client has said goodbye.
var errTerminate = errors.New("client close request")

// farewell returns why the session ends, after it has told the client what was
// wrong with its message if that is the reason.
func (s *consoleSession) farewell(err error) string {
	var (
		network net.Error
		tooLong *pgproto3.ExceededMaxBodyLenErr
	)
	switch {
	case s.console.ctx.Err() != nil:
		return "shutdown"
	case errors.Is(err, errTerminate):
		return err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errClientGone):
		return errClientGone.Error()
	case errors.Is(err, net.ErrClosed):
		return errKilled.Message
	case errors.As(err, &network):
		return "client connection lost: " + err.Error()
	case errors.As(err, &tooLong):
		err = fatal("54000", fmt.Sprintf("message of %d bytes is too long for the console", tooLong.ActualBodyLen))
	default:
		err = fatal("08P01", "bad packet: "+printable(err.Error()))
	}
	s.complain(err)
	if s.backend.Flush() == nil {
		s.drain()
	}
	return err.Error()
}

// message answers one message. An error ends the session.
func (s *consoleSession) message(m pgproto3.FrontendMessage) error {
	switch m.(type) {
	case *pgproto3.Terminate:
		return errTerminate
	case *pgproto3.Sync:
		s.skipping = false
		s.ready()
	case *pgproto3.CopyData, *pgproto3.CopyDone, *pgproto3.CopyFail:
		// Left over from a COPY that has failed, as far as the protocol
		// knows: they are ignored.
	default:
		if s.skipping {
			return nil
		}
		var err error
		q, simple := m.(*pgproto3.Query)
		if simple {
			err = s.query(q.String)
		} else {
			err = s.extended(m)
		}
		if err != nil {
			if endsSession(err) {
				return err
			}
			s.complain(err)
			s.skipping = !simple
		}
		if simple {
			s.ready()
		}
	}
	return s.backend.Flush() // every time, so that a pipeline cannot pile up replies
}

// endsSession tells the errors that are not answered and gone on from.
func endsSession(err error) bool {
	var answer *Error
	return !errors.As(err, &answer)
}

// ready ends a request, and with it the transaction that portals live in.
func (s *consoleSession) ready() {
	clear(s.portals)
	s.backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
}

// complain sends an error.
func (s *consoleSession) complain(err error) {
	var e *Error
	if !errors.As(err, &e) {
		e = errInternal
	}
	if s.console.o.Config().LogPoolerErrors {
		s.log.Warn("pooler error: " + printable(e.Message))
	}
	s.backend.Send(&pgproto3.ErrorResponse{Severity: e.Severity, SeverityUnlocalized: e.Severity, Code: e.Code, Message: e.Message})
}

func (s *consoleSession) notice(message, detail string) {
	s.backend.Send(&pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: message, Detail: detail})
}

// query answers a simple query. Nothing is run unless all of it is understood.
func (s *consoleSession) query(sql string) error {
	delete(s.statements, "") // as in PostgreSQL
	list, err := s.console.parse(sql)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		s.backend.Send(&pgproto3.EmptyQueryResponse{})
	}
	for _, st := range list {
		rows, err := s.execute(st)
		if err != nil {
			return err
		}
		if st.command.columns != nil {
			s.backend.Send(rowDescription(st.command.columns, nil))
		}
		for _, r := range rows {
			s.backend.Send(dataRow(st.command.columns, nil, r))
		}
		s.backend.Send(&pgproto3.CommandComplete{CommandTag: []byte(st.tag)})
	}
	return nil
}

// execute runs one command and returns its rows.
func (s *consoleSession) execute(st *consoleStatement) ([][]any, error) {
	s.mu.Lock()
	s.requestAt = time.Now()
	s.mu.Unlock()
	defer s.console.countQuery()()
	if admin, _ := consoleRights(s.console.o.Config(), s.login); st.command.admin && !admin {
		return nil, errAdminNeeded
	}
	if st.command.rows != nil {
		return st.command.rows(s.console), nil
	}
	return nil, st.command.run(s, st)
}
