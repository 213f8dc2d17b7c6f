package backend

import (
	"context"
	"errors"
	"strings"

	"github.com/pgvalet/pgvalet/auth"
)

// Reason is why a login failed, for counters. There are few, so that each can be
// a figure of its own.
type Reason uint8

// The reasons.
const (
	OtherReason         Reason = iota
	NoCredentials              // the source of AWS credentials gave none
	CredentialsExpired         // … or expired ones
	RoleNotAssumable           // STS does not let us assume the role
	WebIdentityRefused         // STS does not take the web identity token
	ClockWrong                 // AWS says that our clock is wrong
	CredentialsNotThere        // the source of AWS credentials did not answer, or with an error
	TokenRefused               // the server did not take the IAM token, and does not say why
	LoginThrottled             // there were too many logins in a moment
	NotInRDSIAM                // the server asks for a password where a token was to do
	TokenTooLong               // the server hung up on the token, or would
	PasswordRefused            // it did not take the password, or wants one that is not known
	HBARefused                 // its pg_hba.conf does not let us in like this
	CertificateRefused         // its certificate is not right
	TLSBroken                  // there is no TLS, or the handshake broke off
	DNSFailure                 // its name has no address
	NotReachable               // nothing accepts connections there
	NoAnswer                   // it did not answer in time
	HungUp                     // it closed the connection
	NotReady                   // it starts, stops, or recovers
	ServerFull                 // it has no connection to spare
	NoSuchDatabase             // the database is not there, or not for this user
	ConfigurationWrong         // the configuration cannot work
	ProtocolBroken             // it says what no PostgreSQL says
	RoleRefused                // it knows who we are, and the role may not log in
	ReasonCount
)

// String returns the reason as the console and the metrics name it.
func (r Reason) String() string {
	return [...]string{
		"other", "no_credentials", "credentials_expired", "role_not_assumable", "web_identity_refused", "clock_wrong", "credentials_unreachable",
		"token_refused", "throttled", "not_in_rds_iam", "token_too_long", "password_refused", "hba_refused", "certificate", "tls",
		"dns", "unreachable", "timeout", "hung_up", "not_ready", "server_full", "no_database", "configuration", "protocol", "role_refused",
	}[r]
}

// Explanation is what is known of a failed login beyond its message, for
// clients too: it names no address, key or account.
type Explanation struct {
	Reason Reason
	Detail string // "" or a sentence
	Hint   string // what to look at next; "" or a sentence
}

// Explain explains an error of Connect.
func Explain(err error) Explanation {
	if said, ok := errors.AsType[*LoginError](err); ok {
		return said.explain()
	}
	e, ok := errors.AsType[*ConnectError](err)
	if !ok {
		return Explanation{}
	}
	x := e.explain()
	if x.Hint == "" {
		x.Hint = e.hint
	}
	return x
}

// proxyTexts are what RDS Proxy says, whatever the SQLSTATE. Source: Amazon RDS
// User Guide, "Troubleshooting for RDS Proxy".
var proxyTexts = []struct {
	begin string
	Explanation
}{
	{"IAM authentication failed for user", proxyRefused},
	{"The IAM authentication failed for the role", proxyRefused},
	{"The IAM authentication failed because of too many competing requests", Explanation{LoginThrottled, "", throttledHint}},
	{"This RDS Proxy requires TLS connections", Explanation{HBARefused, "", tlsHint}},
	{"IAM authentication is allowed only with SSL connections", Explanation{HBARefused, "", tlsHint}},
	{"IAM is allowed only with SSL connections", Explanation{HBARefused, "", tlsHint}},
	{"This RDS proxy has no credentials for the role", Explanation{NoSuchDatabase, "", "The proxy needs a Secrets Manager secret for this role, or IAM authentication from end to end (DefaultAuthScheme IAM_AUTH)."}},
	{"RDS Proxy supports only IAM, MD5, or SCRAM authentication", Explanation{HBARefused, "", "Set the authentication of this role at the proxy to IAM."}},
	{"RDS supports only IAM or MD5 authentication", Explanation{HBARefused, "", "Set the authentication of this role at the proxy to IAM."}},
	{"The password that was provided for the role", Explanation{PasswordRefused, "", "With server_auth = iam, the proxy must require IAM authentication for this role (IAMAuth); else the password must be that of the role's secret in Secrets Manager."}},
	{"The maximum number of client connections to the proxy exceeded", Explanation{ServerFull, "", "The proxy takes no more clients: look at the pool sizes of all who use it."}},
	{"Rate of connection to proxy exceeded", Explanation{LoginThrottled, "", throttledHint}},
	{"Feature not supported: RDS Proxy currently doesn't support streaming replication", Explanation{ConfigurationWrong, "", "Replication needs an endpoint of the database itself as host."}},
	{"Feature not supported: RDS Proxy currently doesn't support the option", Explanation{ConfigurationWrong, "", "Take it out of what the database's entry sets (client_encoding, datestyle, timezone, application_name)."}},
	{"Timed-out waiting to acquire database connection", Explanation{ServerFull, "", "The proxy has no connection to the database to spare: look at MaxConnectionsPercent and at the pool sizes of those who use it."}},
}

// proxyRefused is for a token that RDS Proxy does not take.
var proxyRefused = Explanation{TokenRefused, "", refusedHint("rds-db:connect") + " The IAM policy must name the proxy's own resource ID (prx-…)."}

const (
	throttledHint = "Logins are tried again by themselves. Look at iam_login_rate, over everything that logs in to this endpoint, and at server_lifetime: sessions should be few and long."
	tlsHint       = "Set server_tls_sslmode to verify-full, and server_tls_ca_file."
)

// byProxy explains what RDS Proxy itself says.
func (e *LoginError) byProxy() (x Explanation, ok bool) {
	if isDSQL(e.at.action) {
		return Explanation{}, false
	}
	for _, p := range proxyTexts {
		if strings.HasPrefix(e.Message, p.begin) {
			return p.Explanation, true
		}
	}
	return Explanation{}, false
}

func (e *LoginError) explain() Explanation {
	if x, ok := e.byProxy(); ok {
		if x.Reason == TokenRefused {
			x.Hint = strings.TrimSpace(e.suspicion + " " + x.Hint)
		}
		return x
	}
	x := Explanation{Detail: e.Detail, Hint: e.Hint}
	dsql, ofDSQL := e.byDSQL()
	advise := func(r Reason, hint string) Explanation {
		x.Reason = r
		if x.Hint == "" {
			x.Hint = hint
		}
		return x
	}
	switch {
	case e.tokenRefused():
		return e.explainRefused()
	case ofDSQL && strings.HasPrefix(dsql, dsqlWakesUp):
		return advise(NotReady, "The cluster was inactive and wakes up; the login is tried again by itself.")
	case ofDSQL && e.Code == "53300":
		return advise(ServerFull, "The cluster has no connection to spare: the pool sizes of all who use it add up to more than its quota of connections.")
	case e.Code == "28000" && !e.at.authenticated && (strings.HasSuffix(e.Message, "no encryption") || strings.HasSuffix(e.Message, "SSL off")):
		return advise(HBARefused, tlsHint)
	case e.Code == "28000" && strings.Contains(e.Message, "pg_hba.conf"):
		return advise(HBARefused, "The server's pg_hba.conf has no line for this address, user and database.")
	case e.Code == "28P01" && e.at.tokenSent:
		return advise(NotInRDSIAM, grantHint)
	case e.Code == "28000" && e.at.authenticated:
		return advise(RoleRefused, "The role is not there, or may not log in: ALTER ROLE … LOGIN lets it.")
	case e.Code == "28P01" || e.Code == "28000":
		return advise(PasswordRefused, "Check the user and the password that the pooler has for the server.")
	case e.Code == "57P03" || e.Code == "57P01" || e.Code == "57P02":
		return advise(NotReady, "The server is starting, stopping or recovering; the login is tried again by itself.")
	case e.Code == "57014":
		return advise(NoAnswer, "The server ended the login because it took too long: its authentication_timeout, on a small RDS instance mostly for want of memory for IAM. It is tried again by itself.")
	case e.Code == "53400":
		return advise(LoginThrottled, throttledHint)
	case e.Code == "53300" && strings.HasPrefix(e.Message, "too many connections for role"):
		return advise(ServerFull, "The role has a limit of its own (ALTER ROLE … CONNECTION LIMIT): the pool sizes of all who use it add up to more.")
	case e.Code == "53300" && strings.HasPrefix(e.Message, "too many connections for database"):
		return advise(ServerFull, "The database has a limit of its own (ALTER DATABASE … CONNECTION LIMIT): the pool sizes of all who use it add up to more.")
	case e.Code == "53300":
		return advise(ServerFull, "The server has no connection to spare: the pool sizes of all who use it add up to more than its max_connections.")
	case e.Code == "3D000" || e.Code == "42501":
		return advise(NoSuchDatabase, "Check dbname, and that the user may CONNECT to it.")
	case strings.HasPrefix(e.Code, "53"):
		return advise(ServerFull, "The server is short of memory or disk space: on RDS look at FreeableMemory and FreeStorageSpace. The login is tried again by itself.")
	case e.Code == "55000":
		return advise(NoSuchDatabase, "The database takes no connections: ALTER DATABASE … ALLOW_CONNECTIONS true lets it, unless it is being made or dropped.")
	case e.Code == "08P01":
		return advise(ProtocolBroken, "")
	}
	return x
}

// explainRefused is for an IAM token that the server did not take. What it says
// beyond that names whom it knows the token's signer as: that is for the log.
func (e *LoginError) explainRefused() Explanation {
	detail := "The server does not say why it refuses an IAM token."
	if e.Hint != "" {
		detail = "The pooler's log has what the server says of it."
	}
	hint := e.suspicion
	if strings.HasPrefix(e.Hint, dsqlTooOld) {
		hint = "The server says that the signature has expired: this machine's clock is slow."
	}
	action := e.at.action
	if _, ok := e.byDSQL(); ok && !isDSQL(action) { // it was taken for RDS
		action = "dsql:DbConnect"
		hint = "The server is Aurora DSQL: set server_auth to dsql."
	}
	return Explanation{TokenRefused, detail, strings.TrimSpace(hint + " " + refusedHint(action))}
}

// What Aurora DSQL says of a connection that it does not accept, whatever the
// SQLSTATE: users have seen 28000 and 08006 with the same words. Source: Aurora
// DSQL User Guide, "Cluster quotas and database limits"; reports of users.
const (
	dsqlNotAccepted = "unable to accept connection, "
	dsqlDenied      = "access denied"
	dsqlWakesUp     = "waking up cluster"
	dsqlTooOld      = "Signature expired" // a hint
)

// byDSQL returns why Aurora DSQL does not accept a connection.
func (e *LoginError) byDSQL() (why string, ok bool) {
	if n := len(dsqlNotAccepted); len(e.Message) >= n && strings.EqualFold(e.Message[:n], dsqlNotAccepted) {
		return e.Message[n:], true
	}
	return "", false
}

// grantHint is for a role that RDS asks for a password.
const grantHint = "GRANT rds_iam TO this role in the database, and see that IAM database authentication is enabled for the instance or cluster."

func (e *ConnectError) explain() Explanation {
	switch e.Kind {
	case NoToken:
		return explainNoToken(e.Err)
	case ConnectFailed:
		return Explanation{NotReachable, "", "Check host and port, that the database runs, and the security groups between here and there. The login is tried again by itself."}
	case ConnectTimeout:
		return Explanation{NoAnswer, "", "Check host and port, and the security groups and routes between here and there; a database that is overloaded may need a longer server_connect_timeout. The login is tried again by itself."}
	case DNSFailed:
		return Explanation{DNSFailure, "", "Check the name in host, and this machine's resolver. The login is tried again by itself."}
	case TLSRefused:
		return Explanation{TLSBroken, "", "The server has no TLS, or something in front of it; server_tls_sslmode insists on it."}
	case TLSFailed:
		return Explanation{TLSBroken, "", "Check that host and port are those of a PostgreSQL server, and server_tls_protocols."}
	case BadCertificate:
		return Explanation{Reason: CertificateRefused}
	case ConnectionLost:
		if e.tokenTooLong {
			return Explanation{
				TokenTooLong, "The server closed the connection without a word when it got the IAM token.",
				"PostgreSQL does so with a password that is too long for it: the session token of these credentials may be too long (use a role with fewer session tags and policies).",
			}
		}
		if e.noProcess {
			return Explanation{ServerFull, "", "The server cannot start a process for the connection, mostly for want of memory: on RDS look at FreeableMemory. The login is tried again by itself."}
		}
		return Explanation{HungUp, "", "The server, or what is in front of it, went away during the login. It is tried again by itself."}
	case AuthImpossible:
		if e.notInRDSIAM {
			return Explanation{Reason: NotInRDSIAM}
		}
		if e.tokenTooLong {
			return Explanation{TokenTooLong, "", "The session token of these credentials is too long: use a role with fewer session tags and policies."}
		}
		return Explanation{PasswordRefused, "", "Check the user and the password that the pooler has for the server."}
	case BadTarget:
		return Explanation{ConfigurationWrong, "", "The pooler's log says which setting it is; pgvalet check says so before the start."}
	case BrokenProtocol:
		return Explanation{ProtocolBroken, "", "Check that host and port are those of a PostgreSQL server."}
	}
	return Explanation{}
}

// explainNoToken says why there is no IAM token.
func explainNoToken(err error) Explanation {
	e, ok := errors.AsType[*auth.CredentialError](err)
	switch {
	case ok:
		return Explanation{causeReasons[e.Cause], "", sentence(e.Next())}
	case errors.Is(err, context.DeadlineExceeded):
		return Explanation{CredentialsNotThere, "", "Look at the source of the AWS credentials: an agent or proxy that hangs, a firewall, or a missing VPC endpoint (STS) on the way."}
	}
	if errors.Is(err, ErrNoClientToken) {
		return Explanation{NoCredentials, "", "With server_auth = client_token, servers are opened with the tokens of clients: log in with a new one."}
	}
	return Explanation{Reason: ConfigurationWrong} // what is to be signed makes no sense
}

// causeReasons are the reasons behind the causes.
var causeReasons = map[auth.Cause]Reason{
	auth.NoCredentials:         NoCredentials,
	auth.ProfileMissing:        NoCredentials,
	auth.ConfigUnreadable:      NoCredentials,
	auth.IncompleteCredentials: NoCredentials,
	auth.OtherCause:            NoCredentials,
	auth.ExpiredCredentials:    CredentialsExpired,
	auth.SSOExpired:            CredentialsExpired,
	auth.ClockWrong:            ClockWrong,
	auth.InvalidKeys:           CredentialsExpired,
	auth.RoleNotAssumable:      RoleNotAssumable,
	auth.WebIdentityExpired:    WebIdentityRefused,
	auth.WebIdentityMissing:    WebIdentityRefused,
	auth.EndpointRefused:       CredentialsNotThere,
	auth.EndpointHung:          CredentialsNotThere,
	auth.EndpointUnreachable:   CredentialsNotThere,
	auth.ProcessFailed:         CredentialsNotThere,
	auth.EndpointThrottled:     CredentialsNotThere,
	auth.RegionDisabled:        CredentialsNotThere,
	auth.RoleTooLong:           RoleNotAssumable,
}

// ErrNoClientToken is why a target whose tokens are those of clients
// (server_auth = client_token) has none.
var ErrNoClientToken = errors.New("no client of this database and user has presented one that is still valid")

// whyNoToken is for clients.
func whyNoToken(err error) string {
	e, ok := errors.AsType[*auth.CredentialError](err)
	switch {
	case ok:
		return e.Cause.String()
	case errors.Is(err, context.DeadlineExceeded):
		return "the source of the aws credentials does not answer"
	case errors.Is(err, ErrNoClientToken):
		return ErrNoClientToken.Error()
	}
	return ""
}

// sentence makes a sentence of what the log has behind a semicolon.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	if !strings.HasSuffix(s, "?") && !strings.HasSuffix(s, ".") {
		s += "."
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
