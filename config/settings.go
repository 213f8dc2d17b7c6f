package config

import (
	"math"
	"time"
)

// setting is one key of the file. The tables of settings are the source of
// everything that is said about keys: what the file may hold, the defaults,
// SHOW CONFIG, the changes that RELOAD applies, and docs/config.md.
type setting struct {
	name string
	value
	restart   bool   // RELOAD does not apply it
	pgbouncer string // PgBouncer's default, where it differs from ours
	doc       string
}

type group struct {
	title    string
	settings []setting
}

// groups is the table of section [pgvalet], bound to s.
func (s *Settings) groups() []group {
	return []group{
		{"Listening", s.listening()},
		{"Client authentication", s.authentication()},
		{"TLS towards clients", s.clientTLS()},
		{"Pools", s.pools()},
		{"Servers", s.servers()},
		{"TLS towards servers", s.serverTLS()},
		{"Timeouts", s.timeouts()},
		{"Console, logs and process", s.process()},
		{"Network", s.network()},
	}
}

// table is groups without the titles.
func (s *Settings) table() []setting {
	var all []setting
	for _, g := range s.groups() {
		all = append(all, g.settings...)
	}
	return all
}

func (s *Settings) listening() []setting {
	return []setting{
		{
			name: "listen_addr", value: list(&s.ListenAddr), restart: true,
			doc: `Host names or addresses to accept TCP connections on; "*" is every interface. Empty: only the unix socket.`,
		},
		{
			name: "listen_port", value: number(&s.ListenPort, 6432, 0, math.MaxUint16), restart: true,
			doc: `Port for TCP connections, and the suffix of the unix socket's name. With 0 the system chooses a port.`,
		},
		{
			name: "unix_socket_dir", value: file(&s.UnixSocketDir, "/tmp"), restart: true,
			doc: `Directory of the unix socket, and the default host of databases. "@name" is a socket in Linux's abstract namespace. Empty: no unix socket.`,
		},
		{
			name: "unix_socket_mode", value: fileMode(&s.UnixSocketMode, 0o777), restart: true,
			doc: `Permissions of the unix socket.`,
		},
		{
			name: "unix_socket_group", value: text(&s.UnixSocketGroup, ""), restart: true,
			doc: `Group, by name or number, that owns the unix socket. Empty: the group of the process.`,
		},
		{
			name: "max_client_conn", value: number(&s.MaxClientConn, 10000, 1, math.MaxInt32), pgbouncer: "100",
			doc: `Most client connections at a time. The limit on open files (ulimit -n) must leave room for as many, and for the servers. An idle client costs little memory, so the default is high.`,
		},
	}
}

func (s *Settings) authentication() []setting {
	return []setting{
		{
			name: "auth_type", value: choice(&s.AuthType, AuthScram, AuthTrust, AuthPlain, AuthMD5, AuthScram), pgbouncer: "md5",
			doc: `How clients prove who they are. With md5, a user whose stored secret is SCRAM logs in with SCRAM.`,
		},
		{
			name: "auth_file", value: file(&s.AuthFile, ""),
			doc: `File with users and their passwords or secrets, one "user" "password" per line. Required: with trust, too, only users in it can log in.`,
		},
		{
			name: "scram_iterations", value: number(&s.ScramIterations, 4096, 1, math.MaxInt32),
			doc: `Iterations for the SCRAM secrets that are computed from plain passwords in auth_file.`,
		},
		{
			name: "admin_users", value: list(&s.AdminUsers),
			doc: `Users who may run every command on the console, the database "pgbouncer".`,
		},
		{
			name: "stats_users", value: list(&s.StatsUsers),
			doc: `Users who may run the read-only SHOW commands on the console.`,
		},
	}
}

func (s *Settings) clientTLS() []setting {
	return []setting{
		{
			name: "client_tls_sslmode", value: sslMode(&s.ClientTLSSSLMode, SSLDisable),
			doc: `Whether clients use TLS: allow and prefer accept both, require refuses plain TCP connections, verify-ca and verify-full ask for a client certificate too. ` +
				`The default depends on the rest of the file: require if any database has server_auth = "iam", else prefer if client_tls_cert_file is set, else disable.`,
		},
		{
			name: "client_tls_key_file", value: file(&s.ClientTLSKeyFile, ""),
			doc: `Private key for client_tls_cert_file (PEM). Both are required from allow upwards.`,
		},
		{
			name: "client_tls_cert_file", value: file(&s.ClientTLSCertFile, ""),
			doc: `Certificate shown to clients, followed by its chain (PEM). RELOAD reads the file again.`,
		},
		{
			name: "client_tls_ca_file", value: file(&s.ClientTLSCAFile, ""),
			doc: `Authorities that sign client certificates (PEM). Required with verify-ca and verify-full.`,
		},
		{
			name: "client_tls_protocols", value: tlsProtocols(&s.ClientTLSProtocols),
			doc: `TLS versions that clients may use: tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3, secure (the last two) or all.`,
		},
	}
}

func (s *Settings) pools() []setting {
	return []setting{
		{
			name: "pool_mode", value: poolMode(&s.PoolMode, PoolModeTransaction), pgbouncer: "session",
			doc: `When a client gives its server back: when it disconnects (session), after every transaction, or after every statement.`,
		},
		{
			name: "default_pool_size", value: number(&s.DefaultPoolSize, 20, 0, math.MaxInt32),
			doc: `Most servers for one database and user. 0: no limit.`,
		},
		{
			name: "min_pool_size", value: number(&s.MinPoolSize, 0, 0, math.MaxInt32),
			doc: `Servers kept open for one database and user, if the user is forced or at least one client is connected.`,
		},
		{
			name: "max_prepared_statements", value: number(&s.MaxPreparedStatements, 200, 0, math.MaxInt32),
			doc: `Named prepared statements kept on each server in transaction and statement mode, the least recently used replaced first. 0: they are not tracked, and work in session mode only.`,
		},
		{
			name: "ignore_startup_parameters", value: list(&s.IgnoreStartupParams, "extra_float_digits"), pgbouncer: `""`,
			doc: `Startup parameters that are dropped instead of refused. extra_float_digits is sent by JDBC and others, and changes nothing since PostgreSQL 12. With "options", unknown parameters inside of options are dropped too.`,
		},
		{
			name: "track_extra_parameters", value: list(&s.TrackExtraParameters, "IntervalStyle"), restart: true,
			doc: `Parameters kept per client beside client_encoding, DateStyle, TimeZone, standard_conforming_strings and application_name. The server must report them.`,
		},
	}
}

func (s *Settings) servers() []setting {
	return []setting{
		{
			name: "server_reset_query", value: text(&s.ServerResetQuery, "DISCARD ALL"),
			doc: `Query that cleans a server before another client gets it, in session mode only. Empty: none.`,
		},
		{
			name: "server_reset_query_always", value: boolean(&s.ServerResetQueryAlways, false),
			doc: `Run server_reset_query in transaction and statement mode too.`,
		},
		{
			name: "server_check_query", value: text(&s.ServerCheckQuery, "<empty>"),
			doc: `Query that tests a server that was idle for server_check_delay. "<empty>" is the empty query; an empty string is no test.`,
		},
		{
			name: "server_check_delay", value: seconds(&s.ServerCheckDelay, 30*time.Second),
			doc: `How long a server may be idle and still be used without the test.`,
		},
		{
			name: "server_lifetime", value: seconds(&s.ServerLifetime, time.Hour),
			doc: `Age at which a server is closed as soon as no client has it. 0: after one use.`,
		},
		{
			name: "server_idle_timeout", value: seconds(&s.ServerIdleTimeout, 10*time.Minute),
			doc: `Idle time after which a server above min_pool_size is closed. 0: never.`,
		},
		{
			name: "server_connect_timeout", value: seconds(&s.ServerConnectTimeout, 15*time.Second),
			doc: `Longest time for connecting and logging in to a server. 0: no limit.`,
		},
		{
			name: "server_login_retry", value: seconds(&s.ServerLoginRetry, 15*time.Second),
			doc: `Pause after a failed connection or login to a server.`,
		},
	}
}

func (s *Settings) serverTLS() []setting {
	return []setting{
		{
			name: "server_tls_sslmode", value: sslMode(&s.ServerTLSSSLMode, SSLPrefer),
			doc: `Whether servers use TLS: prefer and allow try it and go on without, require encrypts without verifying, verify-ca verifies the certificate's signature, verify-full its name too. ` +
				`The default is verify-full if any database has server_auth = "iam"; a token never goes over a connection that is not verified. Unix sockets never use TLS.`,
		},
		{
			name: "server_tls_ca_file", value: file(&s.ServerTLSCAFile, ""),
			doc: `Authorities that sign server certificates (PEM), or "system" for those of the operating system. Required with verify-ca and verify-full. For RDS and Aurora: ` + rdsBundle + `.`,
		},
		{
			name: "server_tls_key_file", value: file(&s.ServerTLSKeyFile, ""),
			doc: `Private key for server_tls_cert_file (PEM).`,
		},
		{
			name: "server_tls_cert_file", value: file(&s.ServerTLSCertFile, ""),
			doc: `Certificate shown to servers that ask for one (PEM).`,
		},
		{
			name: "server_tls_protocols", value: tlsProtocols(&s.ServerTLSProtocols),
			doc: `TLS versions to use with servers, as in client_tls_protocols.`,
		},
	}
}

func (s *Settings) timeouts() []setting {
	return []setting{
		{
			name: "query_timeout", value: seconds(&s.QueryTimeout, 0),
			doc: `Longest time for one query; client and server are closed after it. 0: no limit.`,
		},
		{
			name: "query_wait_timeout", value: seconds(&s.QueryWaitTimeout, 2*time.Minute),
			doc: `Longest time a client waits for a server; the client is closed after it. 0: no limit.`,
		},
		{
			name: "query_wait_notify", value: seconds(&s.QueryWaitNotify, 5*time.Second),
			doc: `Wait after which the client gets a notice that it is queued. 0: never.`,
		},
		{
			name: "cancel_wait_timeout", value: seconds(&s.CancelWaitTimeout, 10*time.Second),
			doc: `Longest time that a cancel request to a server may take, and the clean-up of a server whose client has gone. 0: 10 seconds.`,
		},
		{
			name: "client_idle_timeout", value: seconds(&s.ClientIdleTimeout, 0),
			doc: `Idle time outside a transaction after which a client is closed. 0: never.`,
		},
		{
			name: "client_login_timeout", value: seconds(&s.ClientLoginTimeout, time.Minute),
			doc: `Longest time for a client's login. 0: no limit.`,
		},
		{
			name: "idle_transaction_timeout", value: seconds(&s.IdleTransactionTimeout, 0),
			doc: `Idle time inside a transaction after which client and server are closed. 0: never.`,
		},
		{
			name: "transaction_timeout", value: seconds(&s.TransactionTimeout, 0),
			doc: `Longest time for one transaction; client and server are closed after it. 0: no limit.`,
		},
	}
}

func (s *Settings) process() []setting {
	return []setting{
		{
			name: "logfile", value: file(&s.LogFile, ""),
			doc: `File that log lines are appended to, beside standard error; RELOAD opens it again. Empty: standard error only.`,
		},
		{
			name: "log_format", value: choice(&s.LogFormat, LogConsole, LogConsole, LogJSON), restart: true,
			doc: `Form of a log line: PgBouncer's (console) or one JSON object (json).`,
		},
		{
			name: "pidfile", value: file(&s.PidFile, ""), restart: true,
			doc: `File for the process id; the start is refused while the process it names lives.`,
		},
		{
			name: "verbose", value: number(&s.Verbose, 0, 0, 3),
			doc: `1 and more log debugging lines too, as -v on the command line does.`,
		},
		{
			name: "log_connections", value: boolean(&s.LogConnections, true),
			doc: `Log every login.`,
		},
		{
			name: "log_disconnections", value: boolean(&s.LogDisconnections, true),
			doc: `Log every disconnection and its reason.`,
		},
		{
			name: "log_pooler_errors", value: boolean(&s.LogPoolerErrors, true),
			doc: `Log the errors that clients get from the pooler itself.`,
		},
		{
			name: "log_stats", value: boolean(&s.LogStats, true),
			doc: `Log one line of figures every stats_period.`,
		},
		{
			name: "stats_period", value: secondsFrom(&s.StatsPeriod, time.Minute, time.Second),
			doc: `Period of the averages in SHOW STATS, and of log_stats.`,
		},
		{
			name: "event_loops", value: number(&s.EventLoops, 0, 0, 1024), restart: true,
			doc: `Event loops that carry the traffic. 0: half the cores, at least one; logins, TLS handshakes and the rest use the other half.`,
		},
		{
			name: "max_packet_size", value: number(&s.MaxPacketSize, math.MaxInt32, 1024, math.MaxInt32),
			doc: `Largest protocol message in bytes; a client that announces a larger one is disconnected.`,
		},
	}
}

func (s *Settings) network() []setting {
	return []setting{
		{
			name: "tcp_keepalive", value: boolean(&s.TCPKeepalive, true),
			doc: `TCP keepalive on the connections of clients and servers.`,
		},
		{
			name: "tcp_keepidle", value: seconds(&s.TCPKeepidle, 0),
			doc: `Idle time before the first keepalive probe. 0: the system's.`,
		},
		{
			name: "tcp_keepintvl", value: seconds(&s.TCPKeepintvl, 0),
			doc: `Time between keepalive probes. 0: the system's.`,
		},
		{
			name: "tcp_keepcnt", value: number(&s.TCPKeepcnt, 0, 0, math.MaxInt32),
			doc: `Unanswered probes after which a connection is dead. 0: the system's.`,
		},
	}
}
