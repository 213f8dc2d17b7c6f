package backend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
)

const (
	// maxKey bounds a cancel key, as protocol 3.2 does.
	maxKey = 256

	sslRequestCode = 1234<<16 | 5679 // PostgreSQL: src/include/libpq/pqcomm.h
)

// session is one connection while it logs in.
type session struct {
	*attempt
	stream io.ReadWriter // the Transport, or the TLS connection over it
	login  Login
	stage  string // what the server is being waited for, for errors
	at     progress
	auth   exchange
	began  time.Time // of the step that goes on

	tokenAt time.Time // when the token was sent

	taken int    // bytes that have come, of maxLogin
	body  []byte // of the message received last
}

// login opens one connection and logs in on it.
func (a *attempt) login(e encryption) (*Login, error) {
	began := time.Now()
	conn, err := a.t.dial(a.ctx, a.addr)
	a.t.trace(StepTCP, began, err, func() string { return conn.LocalAddr().String() + " to " + conn.RemoteAddr().String() })
	if err != nil {
		return nil, err
	}
	s := &session{attempt: a, login: Login{
		Transport: evloop.NewTransport(conn),
		Addr:      conn.RemoteAddr(),
		LocalAddr: conn.LocalAddr(),
	}}
	s.stream = s.login.Transport
	stop := context.AfterFunc(a.ctx, func() { _ = conn.SetDeadline(longAgo) })
	err = s.run(e)
	if !stop() && err == nil {
		err = s.lost(a.ctx.Err()) // the deadline strikes now or has struck
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &s.login, nil
}

func (s *session) run(e encryption) error {
	s.began = time.Now()
	err := s.encrypt(e)
	if e != plain {
		s.t.trace(StepTLS, s.began, err, s.describeTLS)
	}
	if err != nil {
		return err
	}
	s.began = time.Now()
	err = s.enter()
	if s.auth.asked || err == nil {
		s.t.trace(StepLogin, s.began, err, func() string { return fmt.Sprintf("as %s, server process %d", s.t.User, s.login.PID) })
	} else {
		s.t.trace(StepRequest, s.began, err, nil)
	}
	return err
}

// enter is the login after encryption has been settled.
func (s *session) enter() error {
	if err := s.authenticate(); err != nil {
		return err
	}
	if err := s.untilReady(); err != nil {
		return err
	}
	if s.t.ConnectQuery != "" {
		if err := s.connectQuery(); err != nil {
			return err
		}
	}
	return s.quiet()
}

// encrypt asks for TLS. It reads the one byte that answers and no more: what
// somebody slips in after it ends up in the handshake, which fails.
func (s *session) encrypt(e encryption) error {
	if e == plain {
		return nil
	}
	s.stage = "the answer to the SSLRequest"
	var b [8]byte
	binary.BigEndian.PutUint32(b[:], uint32(len(b)))
	binary.BigEndian.PutUint32(b[4:], sslRequestCode)
	if err := s.send(b[:]); err != nil {
		return err
	}
	if _, err := io.ReadFull(s.stream, b[:1]); err != nil {
		return s.lost(err)
	}
	switch b[0] {
	case 'S':
	case 'N':
		if e == tlsIfHas {
			return nil
		}
		return connectError(TLSRefused, "sslmode is %s", s.t.SSLMode)
	case 'E':
		// So does a PostgreSQL that cannot fork (report_fork_failure_to_client in
		// postmaster.c). As libpq, do not read it: nobody has shown yet who speaks.
		return &ConnectError{Kind: ConnectionLost, noProcess: true, Err: errors.New("the server answered the SSLRequest with an error: it seems to have no process for the connection")}
	default:
		return connectError(BrokenProtocol, "the server answered the SSLRequest with %q", b[0])
	}
	s.stage = "the TLS handshake"
	conn, err := s.login.Transport.Client(s.t.tlsConfig())
	if err != nil {
		if s.ctx.Err() != nil {
			return s.lost(err)
		}
		return s.t.handshakeError(err)
	}
	s.login.TLS, s.stream, s.at.overTLS = conn, conn, true
	return nil
}

// startup is the StartupMessage. pgproto3's has its parameters in random order.
func (t *Target) startup() ([]byte, error) {
	params := append([]Parameter{{"user", t.User}, {"database", t.DBName}}, t.Params...)
	b := binary.BigEndian.AppendUint32(make([]byte, 4, 256), pgproto3.ProtocolVersion30)
	for _, p := range params {
		if p.Name == "" || strings.ContainsRune(p.Name+p.Value, 0) {
			return nil, connectError(BadTarget, "startup parameter %q is empty or has a zero byte", p.Name)
		}
		b = append(b, p.Name...)
		b = append(b, 0)
		b = append(b, p.Value...)
		b = append(b, 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b, nil
}

// untilReady takes what the server says between the end of authentication and
// its first ReadyForQuery.
func (s *session) untilReady() error {
	s.stage = "the end of the login"
	for {
		typ, body, err := s.receive()
		if err != nil {
			return err
		}
		switch typ {
		case wire.ReadyForQuery:
			return s.ready(body)
		case wire.BackendKeyData:
			var m pgproto3.BackendKeyData
			if err := m.Decode(body); err != nil {
				return broken(err)
			}
			if len(m.SecretKey) > maxKey {
				return connectError(BrokenProtocol, "cancel key of %d bytes", len(m.SecretKey))
			}
			s.login.PID, s.login.Key = m.ProcessID, m.SecretKey
		default:
			if err := s.asynchronous(typ, body); err != nil {
				return err
			}
		}
	}
}

// connectQuery runs the target's ConnectQuery. Its result is of no interest
// and may be large.
func (s *session) connectQuery() error {
	s.stage = "the connect_query"
	if err := s.send(wire.AppendQuery(nil, s.t.ConnectQuery)); err != nil {
		return err
	}
	s.taken = 0
	for {
		typ, n, err := s.header()
		if err != nil {
			return err
		}
		switch typ {
		case wire.RowDescription, wire.DataRow, wire.CommandComplete, wire.EmptyQueryResponse,
			wire.CopyOutResponse, wire.CopyData, wire.CopyDone, wire.NotificationResponse:
			if _, err := io.CopyN(io.Discard, s.stream, int64(n)); err != nil {
				return s.lost(err)
			}
			continue
		}
		body, err := s.rest(n)
		if err != nil {
			return err
		}
		switch typ {
		case wire.ReadyForQuery:
			return s.ready(body)
		case wire.CopyInResponse:
			fail, err := (&pgproto3.CopyFail{Message: "connect_query has no data to copy"}).Encode(nil)
			if err != nil {
				return err
			}
			if err := s.send(fail); err != nil {
				return err
			}
		case wire.ErrorResponse:
			e, err := decodeError(body)
			if err != nil {
				return err
			}
			s.t.warn("connect_query", e)
		default:
			if err := s.asynchronous(typ, body); err != nil {
				return err
			}
		}
	}
}

// ready takes ReadyForQuery: a server that is not idle is of no use.
func (s *session) ready(body []byte) error {
	if string(body) != "I" {
		return connectError(BrokenProtocol, "the server is not idle after %s (transaction status %q)", s.stage, body)
	}
	return nil
}

// asynchronous takes messages that may come at any time, and errors. A type
// that is neither ends the login.
func (s *session) asynchronous(typ byte, body []byte) error {
	switch typ {
	case wire.ParameterStatus:
		var m pgproto3.ParameterStatus
		if err := m.Decode(body); err != nil {
			return broken(err)
		}
		s.setParam(Parameter{m.Name, m.Value})
		return nil
	case wire.NoticeResponse:
		e, err := decodeError(body)
		if err == nil {
			s.t.warn("notice during login", e)
		}
		return err
	case wire.NegotiateProtocolVersion:
		// We ask for 3.0, the oldest there is, so only options can be unknown.
		var m pgproto3.NegotiateProtocolVersion
		if err := m.Decode(body); err != nil {
			return broken(err)
		}
		s.t.warn("startup options", fmt.Errorf("the server does not know %q", m.UnrecognizedOptions))
		return nil
	case wire.ErrorResponse:
		e, err := decodeError(body)
		if err != nil {
			return err
		}
		e.at = s.at
		return e
	default:
		return connectError(BrokenProtocol, "message of type %q while waiting for %s", typ, s.stage)
	}
}

func (s *session) setParam(p Parameter) {
	i := slices.IndexFunc(s.login.Params, func(q Parameter) bool { return q.Name == p.Name })
	if i < 0 {
		s.login.Params = append(s.login.Params, p)
	} else {
		s.login.Params[i] = p
	}
}

func decodeError(body []byte) (*LoginError, error) {
	// A NoticeResponse has the same format.
	var m pgproto3.ErrorResponse
	if err := m.Decode(body); err != nil {
		return nil, broken(err)
	}
	return newLoginError(&m), nil
}

func broken(err error) error { return &ConnectError{Kind: BrokenProtocol, Err: err} }
