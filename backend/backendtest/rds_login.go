package backendtest

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap"
)

// The limits have their names from PostgreSQL's pqcomm.h and auth.c.
const (
	maxStartupPacketLength = 10000
	maxAuthTokenLength     = 65535 // of a password message with its length word

	cancelRequestCode = 1234<<16 | 5678
	sslRequestCode    = 1234<<16 | 5679
	gssEncRequestCode = 1234<<16 | 5680
)

// negotiate answers encryption requests and returns the packet that follows
// them, a startup message or a cancel request. It reads no byte beyond.
func (s *rdsSession) negotiate() ([]byte, error) {
	for gssAsked := false; ; {
		packet, err := readStartupPacket(s.conn)
		if err != nil {
			return nil, err
		}
		switch code := requestCode(packet); {
		case code == sslRequestCode && s.knobs.NoTLS:
			if _, err := s.conn.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		case code == sslRequestCode && !s.secure:
			if _, err := s.conn.Write([]byte{'S'}); err != nil {
				return nil, err
			}
			conn := tls.Server(s.raw, &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: s.knobs.MaxTLS, GetCertificate: s.rds.certificate})
			if err := conn.HandshakeContext(s.rds.ctx); err != nil {
				return nil, err
			}
			s.conn, s.secure = conn, true
			s.rds.count(func(st *Stats) { st.Handshakes++ })
		case code == gssEncRequestCode && !gssAsked:
			gssAsked = true
			if _, err := s.conn.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		default:
			return packet, nil
		}
	}
}

// startup reads the startup message and applies the part of pg_hba.conf that
// needs no authentication.
func (s *rdsSession) startup(packet []byte) error {
	if version := requestCode(packet); version>>16 != 3 {
		return fatal("0A000", "postmaster.c", 2222, "ProcessStartupPacket",
			"unsupported frontend protocol %d.%d: server supports 3.0 to 3.0", version>>16, version&0xffff)
	}
	params, ok := startupParameters(packet)
	if !ok {
		return fatal("08P01", "postmaster.c", 2334, "ProcessStartupPacket",
			"invalid startup packet layout: expected terminator as last byte")
	}
	s.user, s.db = params["user"], params["database"]
	if s.user == "" {
		return fatal("28000", "postmaster.c", 2351, "ProcessStartupPacket",
			"no PostgreSQL user name specified in startup packet")
	}
	if s.db == "" {
		s.db = s.user
	}
	if s.secure {
		return nil
	}
	s.rds.countRefused(NoTLS)
	host, _, err := net.SplitHostPort(s.raw.RemoteAddr().String())
	if err != nil {
		return err
	}
	if s.isIAM() {
		return fatal("28000", "auth.c", 476, "ClientAuthentication",
			"pg_hba.conf rejects connection for host \"%s\", user \"%s\", database \"%s\", no encryption", host, s.user, s.db)
	}
	return fatal("28000", "auth.c", 544, "ClientAuthentication",
		"no pg_hba.conf entry for host \"%s\", user \"%s\", database \"%s\", no encryption", host, s.user, s.db)
}

func (s *rdsSession) isIAM() bool { return slices.Contains(s.knobs.IAMUsers, s.user) }

func (s *rdsSession) authenticate() error {
	if s.isIAM() {
		return s.authenticateIAM()
	}
	return s.authenticatePassword()
}

func (s *rdsSession) authenticateIAM() error {
	token, err := s.askPassword(&pgproto3.AuthenticationCleartextPassword{})
	if err != nil {
		return err
	}
	if token == "" {
		s.rds.countRefused(EmptyPassword)
		return fatal("28P01", "auth.c", 757, "recv_password_packet", "empty password returned by client")
	}
	if s.knobs.MaxToken > 0 && len(token) > s.knobs.MaxToken {
		return fmt.Errorf("invalid message length %d", len(token)+5)
	}
	s.rds.countToken(token)
	at := time.Now()
	s.rds.sleep(s.knobs.AuthLatency)
	key, err := s.rds.verify(token, s.user)
	s.rds.logLogin(at, s.user, key, err)
	if err == nil {
		s.rds.count(func(st *Stats) { st.Logins++ })
		s.rds.log.Info("connection authenticated", zap.String("user", s.user), zap.String("database", s.db), zap.Stringer("key", key))
		return nil
	}
	var refused *TokenError
	if !errors.As(err, &refused) {
		return err
	}
	s.rds.countRefused(refused.Reason)
	s.rds.log.Error(refused.Reason.logLine(s.user, key.Principal),
		zap.String("reason", string(refused.Reason)), zap.String("detail", refused.Detail))
	if s.rds.dsql {
		return fatal("28000", "", 0, "", "unable to accept connection, access denied")
	}
	return fatal("28000", "auth.c", 334, "auth_failed", "PAM authentication failed for user \"%s\"", s.user)
}

// authenticatePassword goes through a password exchange whose end is certain,
// like PostgreSQL with a role that has no password.
func (s *rdsSession) authenticatePassword() error {
	var err error
	if s.knobs.Challenge == MD5 {
		challenge := &pgproto3.AuthenticationMD5Password{}
		rand.Read(challenge.Salt[:])
		_, err = s.askPassword(challenge)
	} else {
		err = s.askSCRAM()
	}
	if err != nil {
		return err
	}
	s.rds.countRefused(NotIAM)
	return fatal("28P01", "auth.c", 334, "auth_failed", "password authentication failed for user \"%s\"", s.user)
}

// askSCRAM exchanges messages with the client up to its proof.
func (s *rdsSession) askSCRAM() error {
	if err := s.send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"}}); err != nil {
		return err
	}
	first, err := s.readAuthMessage()
	if err != nil {
		return err
	}
	_, nonce, ok := strings.Cut(string(first), ",r=")
	if !ok {
		return fatal("08P01", "auth-scram.c", 815, "read_attr_value", "malformed SCRAM message")
	}
	nonce, _, _ = strings.Cut(nonce, ",")
	var random [34]byte // 18 bytes of nonce and 16 of salt
	rand.Read(random[:])
	serverFirst := "r=" + nonce + base64.StdEncoding.EncodeToString(random[:18]) +
		",s=" + base64.StdEncoding.EncodeToString(random[18:]) + ",i=4096"
	if err := s.send(&pgproto3.AuthenticationSASLContinue{Data: []byte(serverFirst)}); err != nil {
		return err
	}
	_, err = s.readAuthMessage()
	return err
}

// askPassword sends a challenge and returns the PasswordMessage's content.
func (s *rdsSession) askPassword(challenge pgproto3.BackendMessage) (string, error) {
	if err := s.send(challenge); err != nil {
		return "", err
	}
	body, err := s.readAuthMessage()
	if err != nil {
		return "", err
	}
	password, rest, ok := strings.Cut(string(body), "\x00")
	if !ok || rest != "" {
		return "", fatal("08P01", "auth.c", 739, "recv_password_packet", "invalid password packet size")
	}
	return password, nil
}

// readAuthMessage reads one 'p' message and nothing beyond. If it is too long
// PostgreSQL hangs up without a word, so the client is not told that error.
func (s *rdsSession) readAuthMessage() ([]byte, error) {
	var header [5]byte
	if _, err := io.ReadFull(s.conn, header[:]); err != nil {
		return nil, err
	}
	if header[0] != 'p' {
		return nil, fatal("08P01", "auth.c", 718, "recv_password_packet",
			"expected password response, got message type %d", header[0])
	}
	length := binary.BigEndian.Uint32(header[1:])
	if length < 4 || length > maxAuthTokenLength {
		return nil, fmt.Errorf("invalid message length %d", length)
	}
	body := make([]byte, length-4)
	_, err := io.ReadFull(s.conn, body)
	return body, err
}

func (s *rdsSession) send(msg pgproto3.BackendMessage) error {
	buf, err := msg.Encode(nil)
	if err != nil {
		return err
	}
	_, err = s.conn.Write(buf)
	return err
}

// fail tells the client why, if that is for the client to know.
func (s *rdsSession) fail(err error) {
	var refused *fatalError
	if !errors.As(err, &refused) {
		s.rds.log.Debug("login", zap.Error(err))
		return
	}
	s.rds.log.Debug(refused.Error())
	if err := s.send(&refused.response); err != nil {
		s.rds.log.Debug("login", zap.Error(err))
	}
}

// fatalError is an error that the client is told as it is.
type fatalError struct{ response pgproto3.ErrorResponse }

func (e *fatalError) Error() string {
	return e.response.Severity + ": " + e.response.Message + " (SQLSTATE " + e.response.Code + ")"
}

// fatal makes an error with the fields that PostgreSQL 15 sends.
func fatal(code, file string, line int32, routine, format string, args ...any) *fatalError {
	return &fatalError{pgproto3.ErrorResponse{
		Severity:            "FATAL",
		SeverityUnlocalized: "FATAL",
		Code:                code,
		Message:             fmt.Sprintf(format, args...),
		File:                file,
		Line:                line,
		Routine:             routine,
	}}
}

// readStartupPacket reads one untyped packet, whole, and nothing beyond.
func readStartupPacket(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n < 8 || n > maxStartupPacketLength {
		return nil, fmt.Errorf("invalid length of startup packet: %d", n)
	}
	packet := make([]byte, n)
	copy(packet, length[:])
	_, err := io.ReadFull(r, packet[4:])
	return packet, err
}

// requestCode returns a startup packet's protocol version or request code.
func requestCode(packet []byte) uint32 { return binary.BigEndian.Uint32(packet[4:]) }

// startupParameters reads the name and value pairs of a startup message.
func startupParameters(packet []byte) (params map[string]string, ok bool) {
	params = make(map[string]string)
	rest := string(packet[8:])
	for {
		var name, value string
		if name, rest, ok = strings.Cut(rest, "\x00"); !ok {
			return nil, false
		}
		if name == "" {
			return params, rest == ""
		}
		if value, rest, ok = strings.Cut(rest, "\x00"); !ok {
			return nil, false
		}
		params[name] = value
	}
}
