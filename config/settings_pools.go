package config

import (
	"math"
	"time"
)

func (s *Settings) pools() []setting {
	return []setting{
		{
			name: "pool_mode", value: poolMode(&s.PoolMode, PoolModeTransaction), pgbouncer: "session",
			doc: `When a client gives its server back: when it disconnects (session), after every transaction, or after every statement. See also passthrough in [databases.NAME].`,
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
			name: "reserve_pool_size", value: number(&s.ReservePoolSize, 0, 0, math.MaxInt32),
			doc: `Servers that a pool may have above its size while a client has waited longer than reserve_pool_timeout.`,
		},
		{
			name: "reserve_pool_timeout", value: seconds(&s.ReservePoolTimeout, 5*time.Second),
			doc: `Wait of a client after which its pool may use the reserve. 0: never.`,
		},
		{
			name: "max_db_connections", value: number(&s.MaxDBConnections, 0, 0, math.MaxInt32),
			doc: `Most servers for one database, over all its users. 0: no limit.`,
		},
		{
			name: "max_db_client_connections", value: number(&s.MaxDBClientConnections, 0, 0, math.MaxInt32),
			doc: `Most clients of one database. 0: no limit.`,
		},
		{
			name: "max_user_connections", value: number(&s.MaxUserConnections, 0, 0, math.MaxInt32),
			doc: `Most servers for one user, over all databases. 0: no limit.`,
		},
		{
			name: "max_user_client_connections", value: number(&s.MaxUserClientConnections, 0, 0, math.MaxInt32),
			doc: `Most clients of one user. 0: no limit.`,
		},
		{
			name: "autodb_idle_timeout", value: seconds(&s.AutodbIdleTimeout, time.Hour),
			doc: `Time without clients and servers after which a database that the entry * stands for is forgotten. 0: never.`,
		},
		{
			name: "pool_idle_timeout", value: seconds(&s.PoolIdleTimeout, 0),
			doc: `Time without clients and servers after which a pool is forgotten. 0: never.`,
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
			doc: `Age at which a server is closed as soon as no client has it. One that is in demand is replaced in the last tenth of it (at most 5 minutes): another is opened first, where pool_size leaves room for one more. 0: after one use.`,
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
			doc: `Longest pause after a failed connection or login to a server. It is a tenth of a second after the first failure in a row and doubles with each further one; up to a third is taken off at random.`,
		},
		{
			name: "server_login_parallel", value: number(&s.ServerLoginParallel, 8, 1, 1000),
			doc: `Most logins to one endpoint (host and port) that are under way at a time, over all pools. Those whose clients have waited longest go first.`,
		},
		{
			name: "iam_login_rate", value: number(&s.IAMLoginRate, 100, 0, math.MaxInt32),
			doc: `Most logins in any second to one endpoint with an IAM token, over all pools. RDS refuses more than 200, from all who log in together. 0: no limit.`,
		},
		{
			name: "server_round_robin", value: boolean(&s.ServerRoundRobin, false),
			doc: `Use the idle servers of a pool in turn, instead of the one that was used last.`,
		},
		{
			name: "server_fast_close", value: boolean(&s.ServerFastClose, false),
			doc: `In session mode, close a server that is to be closed at the end of the transaction, and its client with it.`,
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
		{
			name: "server_tls_ciphers", value: text(&s.ServerTLSCiphers, "default"),
			doc: `Cipher suites of TLS 1.2 and older to use with servers, as in client_tls_ciphers.`,
		},
		{
			name: "server_tls13_ciphers", value: text(&s.ServerTLS13Ciphers, ""), null: true,
			noEffect: "the suites of TLS 1.3 are those of Go, which are all safe and cannot be chosen from",
			doc:      `Cipher suites of TLS 1.3 to use with servers, as in client_tls13_ciphers.`,
		},
	}
}

func (s *Settings) dns() []setting {
	return []setting{
		{
			name: "dns_max_ttl", value: seconds(&s.DNSMaxTTL, 5*time.Second), pgbouncer: "15",
			doc: `Longest time that the addresses of a host name are remembered. Names of open servers are looked up again after it, and servers at an address that a name has no more are closed when they are free. The default is the TTL of RDS and Aurora. 0: not remembered.`,
		},
		{
			name: "dns_nxdomain_ttl", value: seconds(&s.DNSNXDomainTTL, 15*time.Second),
			doc: `How long a failure to find a host name is remembered.`,
		},
		{
			name: "dns_zone_check_period", value: seconds(&s.DNSZoneCheckPeriod, 0),
			noEffect: "addresses are looked up again when dns_max_ttl is over",
			doc:      `Period of looking whether a DNS zone has a new serial number. 0: never.`,
		},
		{
			name: "resolv_conf", value: file(&s.ResolvConf, ""), restart: true,
			noEffect: "names are looked up as the system does it",
			doc:      `File to use in the place of /etc/resolv.conf.`,
		},
	}
}
