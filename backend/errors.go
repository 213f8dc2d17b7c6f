package backend

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// LoginError is what the server itself said when it refused a login, in the
// words of its ErrorResponse.
type LoginError struct {
	Severity, Code, Message, Detail, Hint string

	at        progress
	suspicion string // what is likely to be wrong with an IAM token that was refused; "" or a sentence
}

// progress is how far a login had come when the server ended it.
type progress struct {
	overTLS       bool   // the connection was encrypted
	authenticated bool   // the server had accepted who we are
	tokenSent     bool   // it had seen an IAM token
	action        string // what IAM must allow for that token
}

func newLoginError(m *pgproto3.ErrorResponse) *LoginError {
	return &LoginError{Severity: m.Severity, Code: m.Code, Message: m.Message, Detail: m.Detail, Hint: m.Hint}
}

// Error returns all of it, on one line, for the log.
func (e *LoginError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (SQLSTATE %s)", e.Severity, e.Message, e.Code)
	if e.Detail != "" {
		fmt.Fprintf(&b, ", detail: %s", e.Detail)
	}
	if e.Hint != "" {
		fmt.Fprintf(&b, ", hint: %s", e.Hint)
	}
	return b.String()
}

// ClientMessage returns the server's message, which PgBouncer forwards too.
func (e *LoginError) ClientMessage() string { return e.Message }

// SQLSTATE returns the server's code.
func (e *LoginError) SQLSTATE() string { return e.Code }

// Kind classifies what goes wrong without the server saying so.
type Kind uint8

// The kinds of ConnectError.
const (
	ConnectFailed  Kind = iota // no TCP or unix connection: refused, no route, no such socket
	ConnectTimeout             // not logged in within Target.ConnectTimeout
	DNSFailed                  // Target.Host has no address
	TLSRefused                 // the server has no TLS and sslmode insists on it
	TLSFailed                  // the handshake broke off, for another reason than the certificate
	BadCertificate             // its authority is unknown, or its name or time is wrong
	ConnectionLost             // the server closed the connection before the login was complete
	AuthImpossible             // the server asks for what we do not have, or may not send, or failed to prove itself
	NoToken                    // no IAM token could be made
	BrokenProtocol             // the server sent what the protocol does not allow
	BadTarget                  // the target itself cannot be logged in to
)

var kinds = [...]struct{ message, sqlstate string }{
	ConnectFailed:  {"connect failed", "08001"},
	ConnectTimeout: {"connect timeout", "08001"},
	DNSFailed:      {"server DNS lookup failed", "08001"},
	TLSRefused:     {"server refused SSL", "08001"},
	TLSFailed:      {"server TLS handshake failed", "08001"},
	BadCertificate: {"server certificate verify failed", "08001"},
	ConnectionLost: {"server conn crashed?", "08006"},
	AuthImpossible: {"server login failed", "28000"},
	NoToken:        {"server login failed: no IAM token", "28000"},
	BrokenProtocol: {"server login failed: protocol violation", "08P01"},
	BadTarget:      {"server login failed: bad configuration", "08001"},
}

// ConnectError is any reason for not being logged in but the server's own.
type ConnectError struct {
	Kind Kind
	Err  error // the reason in full, for the log; never a password or token

	// reason, when not empty, is what clients are told after "server login
	// failed: ", in PgBouncer's words where it has some.
	reason string
	// hint, when not empty, is for clients too: what to look at next.
	hint         string
	tokenTooLong bool // it was not sent, or seems to be why the server closed the connection
	noProcess    bool // the server has none for the connection
	notInRDSIAM  bool // the server asked for a password where a token was to do
}

// ClientMessage is a short text that a client may see; it names no address.
// The texts are PgBouncer's where it has one for the case.
func (e *ConnectError) ClientMessage() string {
	m := kinds[e.Kind].message
	if e.reason != "" {
		m += ": " + e.reason
	}
	return m
}

// SQLSTATE returns the code that belongs to ClientMessage. The codes are those
// of PostgreSQL's documentation, appendix "PostgreSQL Error Codes".
func (e *ConnectError) SQLSTATE() string { return kinds[e.Kind].sqlstate }

// Error returns the reason in full, for the log.
func (e *ConnectError) Error() string { return kinds[e.Kind].message + ": " + e.Err.Error() }

// Unwrap returns Err.
func (e *ConnectError) Unwrap() error { return e.Err }

func connectError(k Kind, format string, args ...any) error {
	return &ConnectError{Kind: k, Err: fmt.Errorf(format, args...)}
}

// authImpossible is a ConnectError of that kind; reason is for clients.
func authImpossible(reason, format string, args ...any) error {
	return &ConnectError{Kind: AuthImpossible, Err: fmt.Errorf(format, args...), reason: reason}
}

// attemptErrors is what came of several attempts at one login. The one that
// says most is first: errors.As finds it.
type attemptErrors []error

func (e attemptErrors) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e attemptErrors) Unwrap() []error { return e }
