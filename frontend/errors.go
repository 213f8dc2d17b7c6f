package frontend

import (
	"context"
	"errors"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/wire"
	"github.com/pgvalet/pgvalet/pool"
)

// Error is what a client is told when something fails, in an ErrorResponse.
type Error struct {
	Severity string // FATAL: the connection ends with it
	Code     string // SQLSTATE
	Message  string
	Detail   string // more about the cause; "" for none
	Hint     string // what to look at next; "" for none
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Append appends the ErrorResponse to dst.
func (e *Error) Append(dst []byte) []byte {
	return wire.AppendErrorFields(dst, wire.ErrorResponse, e.Severity, e.Code, e.Message, e.Detail, e.Hint)
}

// with returns the error with detail behind its message.
func (e *Error) with(detail string) *Error {
	c := *e
	c.Message += detail
	return &c
}

// because returns the error with what is known of a login to the server that
// failed; nil leaves it as it is.
func (e *Error) because(err error) *Error {
	if err == nil {
		return e
	}
	c, why := *e, clientErrorFor(err)
	c.Detail, c.Hint = "The last login to the server failed: "+why.Message, why.Hint
	return &c
}

func fatal(code, message string) *Error {
	return &Error{Severity: "FATAL", Code: code, Message: message}
}

// loginFailed is what a client is told about a login to the server.
func loginFailed(code, message string, err error) *Error {
	x := backend.Explain(err)
	e := fatal(code, message)
	e.Detail, e.Hint = x.Detail, x.Hint
	return e
}

// Every error that pgvalet itself has for a client. The texts are PgBouncer's,
// because tools and people know them; the SQLSTATEs are those that PostgreSQL
// uses for the same situation, because drivers decide by them. A text that ends
// in a space is completed by Error.with.
var (
	// Start-up (backend_startup.c in PostgreSQL).
	errBadHeader        = fatal("08P01", "bad packet header: ")
	errOldProtocol      = fatal("0A000", "old V2 protocol not supported")
	errStartupLayout    = fatal("08P01", "invalid startup packet layout: expected terminator as last byte")
	errNoUser           = fatal("28000", "no username supplied")
	errUserTooLong      = fatal("28000", "username too long")
	errParameter        = fatal("0A000", "unsupported startup parameter: ")
	errOption           = fatal("0A000", "unsupported startup parameter in options: ")
	errOptionsSyntax    = fatal("0A000", "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed")
	errReplicationValue = fatal("22023", `invalid value for parameter "replication": `)

	// Encryption.
	errTLSRequired = fatal("28000", "SSL required")
	errInjected    = fatal("08P01", "received unencrypted data after SSL request")

	// Authentication (auth.c and auth-sasl.c in PostgreSQL).
	errPassword       = fatal("28P01", "password authentication failed")
	errEmptyPassword  = fatal("28P01", "empty password returned by client")
	errSASL           = fatal("28P01", "SASL authentication failed")
	errMechanism      = fatal("08P01", "client selected an invalid SASL authentication mechanism")
	errTrust          = fatal("28000", `"trust" authentication failed`)
	errRejected       = fatal("28000", "login rejected")
	errNoMethod       = fatal("28000", "no authentication method is found")
	errCert           = fatal("28000", "certificate authentication failed")
	errPeer           = fatal("28000", "unix socket login rejected")
	errLDAP           = fatal("28000", "LDAP authentication failed")
	errIAM            = fatal("28000", "IAM authentication failed: ")
	errIAMRefused     = errIAM.with("the server has refused the token; check that its credentials have not expired, that their policy allows rds-db:connect for this user, and that the role is a member of rds_iam")
	errIAMTooMany     = errIAM.with("the server has refused too many tokens for this user from this address, or too many are being checked; try again in a few seconds")
	errIAMNotProved   = fatal("57P03", "IAM authentication failed: the server cannot be asked about the token now; try again later")
	errIAMWithoutTLS  = errIAM.with("a token is taken over TLS only (sslmode=require or better)")
	errNoUserFound    = fatal("28000", "no such user")
	errNotPassword    = fatal("08P01", "expected password response, got message type ")
	errPasswordPacket = fatal("08P01", "invalid password packet size")

	// Authorization and limits.
	errNoDatabase        = fatal("3D000", "no such database: ")
	errPassage           = fatal("0A000", "the database is in passthrough mode: connect with TLS under its server's own name, or to its passthrough_port")
	errNotAllowed        = fatal("42501", "not allowed")
	errDisabled          = fatal("55000", "database ")
	errAuthDisabled      = fatal("55000", "authentication database ")
	errTooManyOfDatabase = fatal("53300", "client connections exceeded (max_db_client_connections)")
	errTooManyOfUser     = fatal("53300", "client connections exceeded (max_user_client_connections)")
	errTooMany           = fatal("53300", "no more connections allowed (max_client_conn)")
	errShuttingDown      = fatal("57P03", "pooler is shutting down")

	// PostgreSQL ends a login at its authentication_timeout with query_canceled.
	errLoginTimeout = fatal("57014", "client_login_timeout")

	// Anything that is not in this table: its own text is for the log only.
	errInternal = fatal("XX000", "bouncer config error")
)

// clientErrorFor returns what to tell the client about err. The texts of
// errors that are not meant for clients stay inside.
func clientErrorFor(err error) *Error {
	var (
		known *Error
		down  *pool.ServerDownError
		retry *pool.RetryError
		said  *backend.LoginError
		conn  *backend.ConnectError
	)
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, pool.ErrShuttingDown):
		return errServerShutdown
	case errors.Is(err, pool.ErrDatabaseRemoved):
		return errRemoved
	case errors.As(err, &down):
		if down.Err == nil || errors.Is(down.Err, context.DeadlineExceeded) || errors.Is(down.Err, context.Canceled) {
			return errServerDown
		}
		why := clientErrorFor(down.Err)
		e := errServerDown.with(": " + why.Message)
		e.Detail, e.Hint = why.Detail, why.Hint
		return e
	case errors.As(err, &retry):
		e := *clientErrorFor(retry.Err)
		e.Message = "server login has been failing, cached error: " + e.Message + " (server_login_retry)"
		return &e
	case errors.As(err, &said):
		return loginFailed(said.SQLSTATE(), said.ClientMessage(), err)
	case errors.As(err, &conn):
		return loginFailed(conn.SQLSTATE(), conn.ClientMessage(), err)
	case errors.Is(err, context.DeadlineExceeded):
		return errLoginTimeout
	}
	return errInternal
}
