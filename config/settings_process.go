package config

import (
	"math"
	"time"
)

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
			name: "query_wait_notify", value: whole(seconds(&s.QueryWaitNotify, 5*time.Second)),
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
		{
			name: "suspend_timeout", value: seconds(&s.SuspendTimeout, 10*time.Second),
			doc: `Longest time that SUSPEND waits for what is in flight; then the connections that are not done are closed.`,
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
			name: "verbose", value: number(&s.Verbose, 0, 0, math.MaxInt32), null: true,
			doc: `1 logs debugging lines too, 2 and more still more of them, as -v on the command line does.`,
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
			name: "stats_period", value: whole(secondsFrom(&s.StatsPeriod, time.Minute, time.Second)),
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
		{
			name: "user", value: text(&s.User, ""), restart: true, null: true,
			doc: `User of the system to become, by name, when started as root: once the configuration and the TLS files are read, before anything else is opened. Empty: stay who started it.`,
		},
		{
			name: "conffile", value: file(&s.ConfFile, ""), null: true,
			doc: `The configuration file that the next RELOAD reads. Default: the one of the command line.`,
		},
		{
			name: "job_name", value: text(&s.JobName, "pgbouncer"), restart: true,
			noEffect: "it names the service on Windows only",
			doc:      `Name of the service on Windows; nothing depends on it.`,
		},
		{
			name: "service_name", value: text(&s.JobName, "pgbouncer"), restart: true, alias: "job_name", null: true,
			noEffect: "it names the service on Windows only",
			doc:      `The same as job_name.`,
		},
		{
			name: "syslog", value: boolean(&s.Syslog, false),
			doc: `Log to syslog too.`,
		},
		{
			name: "syslog_ident", value: text(&s.SyslogIdent, "pgbouncer"),
			doc: `Name under which to log to syslog.`,
		},
		{
			name: "syslog_facility", value: text(&s.SyslogFacility, "daemon"),
			doc: `Facility under which to log to syslog: auth, authpriv, daemon, user or local0 to local7.`,
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
			name: "tcp_keepidle", value: whole(seconds(&s.TCPKeepidle, 0)),
			doc: `Idle time before the first keepalive probe. 0: the system's.`,
		},
		{
			name: "tcp_keepintvl", value: whole(seconds(&s.TCPKeepintvl, 0)),
			doc: `Time between keepalive probes. 0: the system's.`,
		},
		{
			name: "tcp_keepcnt", value: number(&s.TCPKeepcnt, 0, 0, math.MaxInt32),
			doc: `Unanswered probes after which a connection is dead. 0: the system's.`,
		},
		{
			name: "tcp_user_timeout", value: number(&s.TCPUserTimeout, 0, 0, math.MaxInt32),
			doc: `Milliseconds that sent data may stay unacknowledged before the connection is dead. 0: the system's. Linux only.`,
		},
		{
			name: "tcp_socket_buffer", value: number(&s.TCPSocketBuffer, 0, 0, math.MaxInt32),
			doc: `Bytes of the kernel's buffers for each connection. 0: the system's.`,
		},
		{
			name: "tcp_defer_accept", value: number(&s.TCPDeferAccept, 1, 0, math.MaxInt32), restart: true,
			doc: `Seconds that the kernel keeps a new TCP connection to itself until the first data arrives. 0: not at all. Linux only.`,
		},
		{
			name: "pkt_buf", value: number(&s.PktBuf, 4096, 0, math.MaxInt32), restart: true,
			noEffect: "the buffers are sized by what is in flight",
			doc:      `Bytes of PgBouncer's buffers.`,
		},
		{
			name: "sbuf_loopcnt", value: number(&s.SbufLoopcnt, 5, 0, math.MaxInt32),
			noEffect: "the event loops share their time by themselves",
			doc:      `Turns that PgBouncer gives one connection before the next.`,
		},
	}
}
