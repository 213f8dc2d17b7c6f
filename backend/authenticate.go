package backend

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/wire"
)

// exchange is what has been said about who we are.
type exchange struct {
	asked bool // the server has chosen its method; it gets no second choice
	scram *auth.ScramClient
	final bool // the server has proved that it knows the password
}

// authenticate sends the startup message and answers what the server asks,
// until it is content.
func (s *session) authenticate() error {
	startup, err := s.t.startup()
	if err != nil {
		return err
	}
	s.stage = "the answer to the startup message"
	if err := s.send(startup); err != nil {
		return err
	}
	for !s.at.authenticated {
		typ, body, err := s.receive()
		if err != nil {
			return err
		}
		if typ == wire.Authentication {
			err = s.answer(body)
		} else {
			err = s.asynchronous(typ, body)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// answer deals with one authentication message.
func (s *session) answer(body []byte) error {
	if len(body) < 4 {
		return connectError(BrokenProtocol, "authentication message of %d bytes", len(body))
	}
	method := binary.BigEndian.Uint32(body)
	if (method == pgproto3.AuthTypeOk || method == pgproto3.AuthTypeCleartextPassword) && len(body) != 4 {
		return connectError(BrokenProtocol, "authentication message of %d bytes", len(body))
	}
	if !s.auth.asked {
		s.requested(method)
	}
	switch method {
	case pgproto3.AuthTypeOk:
		if s.auth.scram != nil && !s.auth.final {
			return authImpossible("invalid server signature", "the server ended SCRAM without proof that it knows the password")
		}
		if s.t.IAM != nil && !s.at.tokenSent {
			// It believes everybody: that proves nothing of the token.
			return authImpossible("server did not ask for the IAM token", "the server let role %q in without asking for the IAM token", s.t.User)
		}
		s.at.authenticated = true
		return nil
	case pgproto3.AuthTypeSASLContinue:
		return s.continueSASL(body[4:])
	case pgproto3.AuthTypeSASLFinal:
		return s.finishSASL(body[4:])
	}
	if s.auth.asked {
		return connectError(BrokenProtocol, "the server asks for authentication twice")
	}
	s.auth.asked = true
	s.stage = "the answer to the password"
	if s.t.IAM != nil && method != pgproto3.AuthTypeCleartextPassword {
		return &ConnectError{
			Kind: AuthImpossible, notInRDSIAM: true, hint: s.t.notAskedHint(method),
			reason: "server did not ask for a cleartext password: its role is not a member of rds_iam, or IAM database authentication is disabled",
			Err:    fmt.Errorf("server did not ask for a cleartext password: role %q is not a member of rds_iam, or IAM database authentication is disabled (GRANT rds_iam TO %[1]q)", s.t.User),
		}
	}
	switch method {
	case pgproto3.AuthTypeCleartextPassword:
		return s.sendCleartext()
	case pgproto3.AuthTypeMD5Password:
		var m pgproto3.AuthenticationMD5Password
		if err := m.Decode(body); err != nil {
			return broken(err)
		}
		response, ok := s.t.Password.MD5Response(s.t.User, m.Salt)
		if !ok {
			return s.wrongPasswordType("an md5 password")
		}
		return s.sendPassword(response)
	case pgproto3.AuthTypeSASL:
		return s.startSASL(body)
	default:
		return authImpossible("unsupported authentication method", "the server asks for authentication method %d", method)
	}
}

func (s *session) wrongPasswordType(wanted string) error {
	if s.t.Password.Kind() == auth.SecretNone {
		return authImpossible("wrong password type", "the server asks for %s, and there is no password for user %q", wanted, s.t.User)
	}
	if s.t.Password.Kind() == auth.SecretScram && wanted == "SCRAM" {
		return authImpossible("wrong password type", "the server asks for SCRAM, and the stored secret of user %q opens it only after a client has logged in with SCRAM as that user", s.t.User)
	}
	return authImpossible("wrong password type", "the server asks for %s, for which the stored password of user %q does not serve", wanted, s.t.User)
}

// sendCleartext sends the token or the password as it is. The password goes
// over a connection without TLS only if sslmode does not insist on TLS, or on a
// unix socket.
func (s *session) sendCleartext() error {
	if s.t.IAM == nil {
		password, ok := s.t.Password.Plain()
		if !ok {
			return s.wrongPasswordType("a cleartext password")
		}
		return s.sendPassword(password)
	}
	if s.login.TLS == nil {
		return connectError(BadTarget, "an IAM token is not sent without TLS") // connectIAM sees to that
	}
	token := s.token.Reveal()
	if len(token) > maxPassword {
		return &ConnectError{
			Kind: AuthImpossible, tokenTooLong: true, reason: "IAM token too long",
			Err: fmt.Errorf("the IAM token has %d bytes, and PostgreSQL takes no more than %d", len(token), maxPassword),
		}
	}
	s.at.tokenSent, s.at.action, s.tokenAt = true, s.t.IAM.Key.Action(), time.Now()
	return s.sendPassword(token)
}

// maxPassword is the longest that PostgreSQL takes. It hangs up without a word on
// a longer one (PG_MAX_AUTH_TOKEN_LENGTH in src/include/libpq/auth.h).
const maxPassword = 65530

func (s *session) sendPassword(p string) error {
	if len(p) > maxPassword {
		return authImpossible("password too long", "the password has %d bytes, and PostgreSQL takes no more than %d", len(p), maxPassword)
	}
	b, err := (&pgproto3.PasswordMessage{Password: p}).Encode(nil)
	if err != nil {
		return err
	}
	return s.send(b)
}

// startSASL begins SCRAM, bound to the TLS connection if the server can do that.
func (s *session) startSASL(body []byte) error {
	var m pgproto3.AuthenticationSASL
	if err := m.Decode(body); err != nil {
		return broken(err)
	}
	password, ok := s.t.Password.Plain()
	if !ok && s.t.Keys == nil {
		return s.wrongPasswordType("SCRAM")
	}
	var binding []byte
	if s.login.TLS != nil {
		// Some certificates cannot be bound to; that is no reason not to log in.
		binding, _ = auth.TLSServerEndPoint(s.login.TLS.ConnectionState().PeerCertificates[0])
	}
	var scram *auth.ScramClient
	var err error
	if ok {
		scram, err = auth.NewScramClient(password, m.AuthMechanisms, binding)
	} else {
		scram, err = auth.NewScramClientWithKeys(s.t.Keys, m.AuthMechanisms, binding)
	}
	if err != nil {
		return authImpossible("none of the server's SASL authentication mechanisms are supported", "%w", err)
	}
	first, err := scram.First()
	if err != nil {
		return authImpossible("SASL authentication failed", "%w", err)
	}
	s.auth.scram = scram
	b, err := (&pgproto3.SASLInitialResponse{AuthMechanism: scram.Mechanism(), Data: first}).Encode(nil)
	if err != nil {
		return err
	}
	return s.send(b)
}

func (s *session) continueSASL(data []byte) error {
	if s.auth.scram == nil {
		return connectError(BrokenProtocol, "SASL continues before it began")
	}
	response, err := s.auth.scram.Continue(data)
	if err != nil {
		return authImpossible("SASL authentication failed", "%w", err)
	}
	b, err := (&pgproto3.SASLResponse{Data: response}).Encode(nil)
	if err != nil {
		return err
	}
	return s.send(b)
}

func (s *session) finishSASL(data []byte) error {
	if s.auth.scram == nil {
		return connectError(BrokenProtocol, "SASL ends before it began")
	}
	if err := s.auth.scram.Final(data); err != nil {
		return authImpossible("invalid server signature", "%w", err)
	}
	s.auth.final = true
	return nil
}
