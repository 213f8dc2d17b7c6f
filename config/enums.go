package config

// PoolMode is when a server goes back to its pool.
type PoolMode uint8

// The pool modes: PgBouncer's, and one of our own.
const (
	PoolModeUnset PoolMode = iota // "": inherit
	PoolModeSession
	PoolModeTransaction
	PoolModeStatement
	PoolModePassthrough // a server of its own for each client
)

// String returns the mode as the file and the console write it.
func (m PoolMode) String() string {
	return [...]string{"", "session", "transaction", "statement", "passthrough"}[m]
}

// AuthType is how a client proves who it is.
type AuthType uint8

// The authentication types that pgvalet accepts from clients.
const (
	AuthTrust AuthType = iota
	AuthPlain
	AuthMD5
	AuthScram
	AuthAny  // whoever says so, without a password
	AuthCert // a client certificate
	AuthHBA  // as auth_hba_file says for each client
	AuthIAM  // an RDS IAM token as the password
	AuthPAM
	AuthLDAP
)

// String returns the type as the file writes it.
func (t AuthType) String() string {
	return [...]string{"trust", "plain", "md5", "scram-sha-256", "any", "cert", "hba", "iam", "pam", "ldap"}[t]
}

// SSLMode is one of libpq's six sslmodes.
type SSLMode uint8

// The sslmodes, weakest first: comparisons rely on this order.
const (
	SSLDisable SSLMode = iota
	SSLAllow
	SSLPrefer
	SSLRequire
	SSLVerifyCA
	SSLVerifyFull
)

// String returns the mode as the file writes it.
func (m SSLMode) String() string {
	return [...]string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}[m]
}

// ServerAuth is how pgvalet logs in to a database.
type ServerAuth uint8

// The ways to log in to a database.
const (
	ServerAuthPassword    ServerAuth = iota
	ServerAuthIAM                    // an RDS IAM token
	ServerAuthDSQL                   // an Aurora DSQL token
	ServerAuthClientToken            // the token that the client logged in with
)

// String returns the value as the file writes it.
func (a ServerAuth) String() string { return [...]string{"password", "iam", "dsql", "client_token"}[a] }

// MakesTokens reports whether pgvalet logs in with tokens that it makes from AWS
// credentials.
func (a ServerAuth) MakesTokens() bool { return a == ServerAuthIAM || a == ServerAuthDSQL }

// LoadBalanceHosts is how a list of hosts is used.
type LoadBalanceHosts uint8

// The uses of a list of hosts.
const (
	LoadBalanceRoundRobin LoadBalanceHosts = iota
	LoadBalanceDisable                     // stay with a host until it fails
)

// String returns the value as the file and the console write it.
func (l LoadBalanceHosts) String() string { return [...]string{"round-robin", "disable"}[l] }

// LogFormat is the form of a log line.
type LogFormat uint8

// The log formats.
const (
	LogConsole LogFormat = iota
	LogJSON
)

// String returns the format as the file writes it.
func (f LogFormat) String() string { return [...]string{"console", "json"}[f] }

// TLSProtocols is an inclusive range of TLS versions, as crypto/tls numbers
// them (tls.VersionTLS12 …).
type TLSProtocols struct{ Min, Max uint16 }

// Secret is a password from the configuration file. It prints redacted.
type Secret string

// String hides the value.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText hides the value from encoders.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the value itself.
func (s Secret) Reveal() string { return string(s) }
