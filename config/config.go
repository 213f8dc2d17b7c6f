// Package config turns a configuration file into one typed, validated Config.
//
// It reads files and nothing else: it opens no socket and knows no other
// package of pgvalet. Everything a file can say is parsed here, once: what
// leaves this package are durations, modes and paths, never strings to be
// parsed again. A Config is immutable once it is in use; a reload builds a new
// one, which takes over what cannot change (KeepFixed).
package config

import (
	"io/fs"
	"time"
)

// SystemCAs as server_tls_ca_file stands for the system's certificate
// authorities, as libpq's sslrootcert=system does.
const SystemCAs = "system"

// Config is one configuration file, complete: defaults filled in, relative
// paths made absolute, contradictions refused.
type Config struct {
	Path      string // absolute path of the file
	INI       bool   // the file is PgBouncer's .ini, not TOML
	Settings         // section [pgvalet]
	Databases map[string]*Database
	AutoDB    *Database // entry "*", the template of databases without an entry; nil: none
	Users     map[string]*User
	Peers     map[int]*Peer // by id

	// What the file says that has no effect, or a surprising one.
	Warnings []*Error

	passages map[string]*Database // by the names that lead to them
}

// Settings are the process-wide settings; each field is the setting of the
// same name in snake case. A zero duration or limit means "off" or "no limit"
// unless its documentation says otherwise.
type Settings struct {
	// Where and how clients connect.
	ListenAddr      []string // host names or addresses; "*" is every interface; empty: unix socket only
	ListenPort      int      // 0: the system chooses
	UnixSocketDir   string   // empty: no unix socket; "@name": the abstract namespace
	UnixSocketMode  fs.FileMode
	UnixSocketGroup string
	MaxClientConn   int
	ListenBacklog   int
	SoReuseport     bool
	PeerID          int // 0: no peers

	AuthType        AuthType
	AuthFile        string
	AuthHBAFile     string
	AuthIdentFile   string
	AuthUser        string
	AuthQuery       string
	AuthDBName      string
	AuthLDAPOptions Secret // may hold a password
	ScramIterations int
	AdminUsers      []string
	StatsUsers      []string

	ApplicationNameAddHost bool
	DisablePQExec          bool
	LoginNotifyMessage     string

	ClientTLSSSLMode   SSLMode
	ClientTLSKeyFile   string
	ClientTLSCertFile  string
	ClientTLSCAFile    string
	ClientTLSProtocols TLSProtocols
	ClientTLSCiphers   string
	ClientTLS13Ciphers string
	ClientTLSECDHCurve string
	ClientTLSDHEParams string

	// Pools.
	PoolMode                 PoolMode
	DefaultPoolSize          int // 0: no limit
	MinPoolSize              int
	ReservePoolSize          int
	ReservePoolTimeout       time.Duration // 0: the reserve is never used
	MaxDBConnections         int
	MaxDBClientConnections   int
	MaxUserConnections       int
	MaxUserClientConnections int
	AutodbIdleTimeout        time.Duration
	PoolIdleTimeout          time.Duration
	MaxPreparedStatements    int // 0: named statements are not tracked
	IgnoreStartupParams      []string
	TrackExtraParameters     []string
	ServerResetQuery         string
	ServerResetQueryAlways   bool
	ServerCheckQuery         string // "<empty>": an empty query; "": no check
	ServerCheckDelay         time.Duration
	ServerRoundRobin         bool
	ServerFastClose          bool
	ServerLoginParallel      int
	IAMLoginRate             int // logins per second to one endpoint

	DNSMaxTTL          time.Duration
	DNSNXDomainTTL     time.Duration
	DNSZoneCheckPeriod time.Duration
	ResolvConf         string

	ServerTLSSSLMode   SSLMode
	ServerTLSCAFile    string // SystemCAs: the system's certificate authorities
	ServerTLSKeyFile   string
	ServerTLSCertFile  string
	ServerTLSProtocols TLSProtocols
	ServerTLSCiphers   string
	ServerTLS13Ciphers string

	// Timeouts.
	ServerLifetime         time.Duration // 0: one use
	ServerIdleTimeout      time.Duration
	ServerConnectTimeout   time.Duration
	ServerLoginRetry       time.Duration
	QueryTimeout           time.Duration
	QueryWaitTimeout       time.Duration
	QueryWaitNotify        time.Duration
	CancelWaitTimeout      time.Duration
	ClientIdleTimeout      time.Duration
	ClientLoginTimeout     time.Duration
	IdleTransactionTimeout time.Duration
	TransactionTimeout     time.Duration
	SuspendTimeout         time.Duration

	// Process.
	LogFile           string // empty: stderr only
	LogFormat         LogFormat
	PidFile           string
	Verbose           int
	LogConnections    bool
	LogDisconnections bool
	LogPoolerErrors   bool
	LogStats          bool
	StatsPeriod       time.Duration
	EventLoops        int // 0: max(1, cores/2)
	MaxPacketSize     int
	User              string // the system's user to become after the start
	ConfFile          string
	JobName           string
	Syslog            bool
	SyslogIdent       string
	SyslogFacility    string

	TCPKeepalive    bool
	TCPKeepidle     time.Duration // 0: the system's
	TCPKeepintvl    time.Duration // 0: the system's
	TCPKeepcnt      int           // 0: the system's
	TCPUserTimeout  int           // milliseconds; 0: the system's
	TCPSocketBuffer int           // bytes; 0: the system's
	TCPDeferAccept  int           // seconds
	PktBuf          int           // bytes
	SbufLoopcnt     int
}

// Database is one entry of [databases].
type Database struct {
	Name   string // the name clients ask for
	DBName string // the real database; defaults to Name

	Host     string // see Hosts: names, addresses, or directories of unix sockets, with commas between; defaults to UnixSocketDir
	Port     int
	User     string // forced server user; empty: the client's own
	Password Secret // for User; empty: auth_file has it

	ServerAuth     ServerAuth
	IAMRegion      string // never empty after Load when ServerAuth is ServerAuthIAM
	IAMHost        string // the endpoint that tokens are signed for; defaults to Host
	IAMPort        int    // defaults to Port
	IAMProfile     string // section of the AWS configuration files; empty: the SDK's choice
	IAMRoleARN     string // role to assume; empty: none
	IAMExternalID  string // for IAMRoleARN
	IAMSessionName string // for IAMRoleARN
	ServerTLSName  string // the name the certificate must carry; defaults to IAMHost when that was set, else Host; empty: each of several hosts its own

	// Empty: the global one.
	AuthUser   string
	AuthQuery  string
	AuthDBName string

	PassthroughPort  int      // 0: none of its own
	PassthroughNames []string // that lead to it by SNI; never empty after Load with PoolModePassthrough, unless Host is an address

	PoolMode         PoolMode // PoolModeUnset: the global one
	ConnectQuery     string
	LoadBalanceHosts LoadBalanceHosts

	// -1: the global setting (PoolSize: default_pool_size). The For methods of
	// Config return what holds.
	PoolSize               int
	MinPoolSize            int
	ReservePoolSize        int
	MaxDBConnections       int
	MaxDBClientConnections int
	ServerLifetime         time.Duration
	QueryWaitTimeout       time.Duration
	ServerLoginParallel    int
	IAMLoginRate           int

	// Sent in the server's StartupMessage when not empty.
	ClientEncoding  string
	DateStyle       string
	TimeZone        string
	ApplicationName string
}

// User is one entry of [users]. A value of -1 means that the entry says
// nothing and the database's or the global setting holds.
type User struct {
	Name                     string
	PoolMode                 PoolMode
	PoolSize                 int
	ReservePoolSize          int
	MaxUserConnections       int
	MaxUserClientConnections int
	QueryTimeout             time.Duration
	QueryWaitTimeout         time.Duration
	IdleTransactionTimeout   time.Duration
	TransactionTimeout       time.Duration
	ClientIdleTimeout        time.Duration
}

// Peer is one entry of [peers]: another process that clients may send the
// cancel requests of this one to.
type Peer struct {
	ID       int
	Host     string // name, address, or directory of a unix socket
	Port     int
	PoolSize int // -1: default_pool_size
}
