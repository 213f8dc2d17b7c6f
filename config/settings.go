package config

import "math"

// setting is one key of the file. The tables of settings are the source of
// everything that is said about keys: what the file may hold, the defaults,
// SHOW CONFIG, the changes that RELOAD applies, and docs/config.md.
type setting struct {
	name string
	value
	restart   bool   // RELOAD does not apply it
	pgbouncer string // PgBouncer's default, where it differs from ours
	null      bool   // PgBouncer has no default, and shows NULL on the console
	alias     string // the setting that this is an older name of
	noEffect  string // why it is accepted and changes nothing
	doc       string

	// In [databases] and [users]: in an .ini, 0 says nothing either, and the
	// global setting holds.
	zeroInherits bool
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
		{"Names of servers", s.dns()},
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

// authQuery is PgBouncer's default of auth_query.
const authQuery = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin"

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
		{
			name: "listen_backlog", value: number(&s.ListenBacklog, 4096, 0, math.MaxInt32), restart: true, pgbouncer: "128",
			doc: `Connections that the kernel keeps waiting until they are accepted; it has a limit of its own (net.core.somaxconn).`,
		},
		{
			name: "so_reuseport", value: boolean(&s.SoReuseport, false), restart: true,
			doc: `Let several processes listen on the same TCP port (SO_REUSEPORT). Each of them needs a unix_socket_dir and a peer_id of its own.`,
		},
		{
			name: "peer_id", value: number(&s.PeerID, 0, 0, 16383), restart: true,
			doc: `Number of this process among the [peers], which makes cancel requests work that reach another one of them. Cancel keys then have PgBouncer's form, so that PgBouncer can be a peer. 0: there are no peers.`,
		},
	}
}

func (s *Settings) authentication() []setting {
	return []setting{
		{
			name: "auth_type", value: authType(&s.AuthType, AuthScram), pgbouncer: "md5",
			doc: `How clients prove who they are. With md5, a user whose stored secret is SCRAM logs in with SCRAM. ` +
				`trust believes users that are known, any believes everybody and takes the database's user instead. ` +
				`cert wants a client certificate (client_tls_sslmode verify-full) whose common name or one of whose DNS names is the user. ` +
				`iam takes the client's own RDS IAM token as the password and has the server judge it (docs/client-iam.md). ` +
				`hba goes by the lines of auth_hba_file, ldap by auth_ldap_options. pam is refused: it needs C libraries, which pgvalet is built without.`,
		},
		{
			name: "auth_file", value: file(&s.AuthFile, ""), null: true,
			doc: `File with users and their passwords or secrets, one "user" "password" per line. Required unless there is an auth_user, or auth_type is any, hba, iam or ldap: with trust, too, only users that are known can log in. It holds before auth_query.`,
		},
		{
			name: "auth_hba_file", value: file(&s.AuthHBAFile, ""),
			doc: `File in the form of PostgreSQL's pg_hba.conf that says how each client logs in, with auth_type hba: lines local, host, hostssl and hostnossl; names, all, sameuser, replication and @FILE; all, or an address with bits or a mask; the methods trust, reject, password, md5, scram-sha-256, cert, peer, iam and ldap; the option map=NAME, and for ldap those of auth_ldap_options. The first line that fits decides, and where none does nobody gets in. The console is the database "pgbouncer" there. A broken line is an error, because the lines below it would let in whom it was to keep out.`,
		},
		{
			name: "auth_ident_file", value: file(&s.AuthIdentFile, ""), null: true,
			doc: `File in the form of PostgreSQL's pg_ident.conf: the maps that auth_hba_file names, for peer (names of system users) and cert (names in certificates). "all" as the user stands for every user.`,
		},
		{
			name: "auth_user", value: text(&s.AuthUser, ""), null: true,
			doc: `Server user who runs auth_query for users that are not in auth_file; its own password is in auth_file, or the server asks for none. Empty: auth_query is not used.`,
		},
		{
			name: "auth_query", value: text(&s.AuthQuery, authQuery),
			doc: `Query that returns the name and secret of the user $1: one row of two columns, or none for a user that does not exist. A secret that is NULL matches nothing. It is asked at each login, but only once at a time for a user: logins that come meanwhile share the next answer.`,
		},
		{
			name: "auth_dbname", value: text(&s.AuthDBName, ""), null: true,
			doc: `Database of [databases] that auth_query runs in. Empty: the one that the client asks for. Logins to the console need it if their users are not in auth_file.`,
		},
		{
			name: "auth_ldap_options", value: secret(&s.AuthLDAPOptions), null: true,
			doc: `Options of auth_type ldap, PostgreSQL's, as in a line of auth_hba_file: ldapserver, ldapport, ldapscheme and ldaptls, with ldapprefix and ldapsuffix, or with ldapbasedn, ldapbinddn, ldapbindpasswd and ldapsearchattribute or ldapsearchfilter; or ldapurl. Clients send their password in cleartext: use TLS. It serves for logins to servers, too. Certificates of LDAP servers are verified as libldap is told to, by TLS_CACERT and TLS_REQCERT in ldap.conf and in the file that LDAPCONF names, and by LDAPTLS_CACERT and LDAPTLS_REQCERT; without them, against the system's authorities.`,
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
		{
			name: "application_name_add_host", value: boolean(&s.ApplicationNameAddHost, false),
			doc: `Append the client's address and port to its application_name at login, as in "psql - 10.0.0.7:51514"; a client that has none is called app.`,
		},
		{
			name: "disable_pqexec", value: boolean(&s.DisablePQExec, false), restart: true,
			doc: `Disconnect clients that send a query by the simple protocol, in which one message can hold many statements.`,
		},
		{
			name: "login_notify_message", value: text(&s.LoginNotifyMessage, ""),
			doc: `Notice (NOTICE) sent to each client at the end of its login. Empty: none.`,
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
			doc: `TLS versions that clients may use: tlsv1.0, tlsv1.1, tlsv1.2, tlsv1.3, secure (the last two) or all; a ! before a name takes it away. The versions must be a range without a gap.`,
		},
		{
			name: "client_tls_ciphers", value: text(&s.ClientTLSCiphers, "default"),
			doc: `Cipher suites of TLS 1.2 and older that clients may use, as a list of OpenSSL's names. HIGH and PgBouncer's default, secure, fast, normal and all stand for those of Go. The order is Go's.`,
		},
		{
			name: "client_tls13_ciphers", value: text(&s.ClientTLS13Ciphers, ""), null: true,
			noEffect: "the suites of TLS 1.3 are those of Go, which are all safe and cannot be chosen from",
			doc:      `Cipher suites of TLS 1.3 that clients may use. Go offers TLS_AES_128_GCM_SHA256, TLS_AES_256_GCM_SHA384 and TLS_CHACHA20_POLY1305_SHA256, and chooses by what the processor is fast at. Who must choose has client_tls_protocols = tlsv1.2 with client_tls_ciphers.`,
		},
		{
			name: "client_tls_ecdhcurve", value: text(&s.ClientTLSECDHCurve, "auto"),
			noEffect: "the curves are those of Go, X25519 and the NIST ones",
			doc:      `Curve for the exchange of keys with clients.`,
		},
		{
			name: "client_tls_dheparams", value: text(&s.ClientTLSDHEParams, "auto"),
			noEffect: "there is no exchange of keys by finite-field Diffie-Hellman",
			doc:      `Parameters for the exchange of keys with clients by finite-field Diffie-Hellman.`,
		},
	}
}
