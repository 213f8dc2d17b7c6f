package config

import "math"

// table is the table of an entry of [databases], bound to d. Settings without
// a default of their own hold the global one.
func (d *Database) table() []setting {
	return []setting{
		{
			name: "dbname", value: text(&d.DBName, ""),
			doc: `Name of the database on the server. Default: the entry's name.`,
		},
		{
			name: "host", value: text(&d.Host, ""),
			doc: `Host name or address to connect to, or the directory of a unix socket ("/…", "@…"); or several of them, with commas between. One that fails is left alone for a while, and the next one is tried at once. Default: unix_socket_dir.`,
		},
		{
			name: "port", value: number(&d.Port, 5432, 1, math.MaxUint16),
			doc: `Port to connect to, or the suffix of the unix socket's name.`,
		},
		{
			name: "user", value: text(&d.User, ""),
			doc: `The server user for all clients of this database. Default: each client's own name.`,
		},
		{
			name: "password", value: secret(&d.Password),
			doc: `Password of user. Default: the one in auth_file.`,
		},
		{
			name: "server_auth", value: choice(&d.ServerAuth, ServerAuthPassword, ServerAuthPassword, ServerAuthIAM, ServerAuthDSQL, ServerAuthClientToken),
			doc: `How to log in to the server: with a password, with an RDS IAM token made from the AWS credentials of the process (iam), with an Aurora DSQL token made from them (dsql), or with the newest token that a client of this database and user has logged in with (client_token, with auth_type iam; pgvalet then needs no AWS credentials).`,
		},
		{
			name: "iam_region", value: text(&d.IAMRegion, ""),
			doc: `AWS region of the database. Default: the one in the endpoint's name.`,
		},
		{
			name: "iam_host", value: text(&d.IAMHost, ""),
			doc: `The endpoint's name as RDS knows it, which tokens are signed for. Needed where host is an alias, a tunnel or a load balancer. Default: host.`,
		},
		{
			name: "iam_port", value: number(&d.IAMPort, unset, 1, math.MaxUint16),
			doc: `The endpoint's port, where port is that of a tunnel. Default: port.`,
		},
		{
			name: "iam_profile", value: text(&d.IAMProfile, ""),
			doc: `Profile of the AWS configuration files to take credentials from, before the environment. Default: the usual search, see [iam.md](iam.md).`,
		},
		{
			name: "iam_role_arn", value: text(&d.IAMRoleARN, ""),
			doc: `ARN of a role to assume with those credentials, for one hour at a time, and to make the tokens with. Default: none, the credentials are used as they are.`,
		},
		{
			name: "iam_external_id", value: text(&d.IAMExternalID, ""),
			doc: `External ID that the trust policy of iam_role_arn asks for.`,
		},
		{
			name: "iam_session_name", value: text(&d.IAMSessionName, ""),
			doc: `Name of the session of iam_role_arn, which CloudTrail shows. Default: pgvalet.`,
		},
		{
			name: "server_tls_name", value: text(&d.ServerTLSName, ""),
			doc: `The name that the server's certificate must carry with verify-full. Default: iam_host if it is set, else host.`,
		},
		{
			name: "auth_user", value: text(&d.AuthUser, ""),
			doc: `As the global setting.`,
		},
		{
			name: "auth_query", value: text(&d.AuthQuery, ""),
			doc: `As the global setting.`,
		},
		{
			name: "auth_dbname", value: text(&d.AuthDBName, ""),
			doc: `As the global setting.`,
		},
		{
			name: "pool_mode", value: databasePoolMode(&d.PoolMode, PoolModeUnset),
			doc: `As the global setting. With passthrough, pgvalet answers nothing itself: every client has a connection of its own to the server, and their bytes, TLS among them, go to and fro as they are (docs/passthrough.md).`,
		},
		{
			name: "passthrough_port", value: number(&d.PassthroughPort, 0, 0, math.MaxUint16),
			doc: `Port, at every listen_addr, whose clients all go to this database's server, with pool_mode = passthrough. Takes effect at the next start. 0: none.`,
		},
		{
			name: "passthrough_names", value: list(&d.PassthroughNames),
			doc: `With pool_mode = passthrough, the names in the clients' TLS handshake (SNI) that lead to this database. Default: host, iam_host and server_tls_name.`,
		},
		{
			name: "pool_size", value: number(&d.PoolSize, unset, 0, math.MaxInt32),
			doc: `As default_pool_size.`,
		},
		{
			name: "min_pool_size", value: number(&d.MinPoolSize, unset, 0, math.MaxInt32),
			doc: `As the global setting.`,
		},
		{
			name: "reserve_pool_size", value: number(&d.ReservePoolSize, unset, 0, math.MaxInt32),
			doc: `As the global setting.`,
		},
		{
			name: "reserve_pool", value: number(&d.ReservePoolSize, unset, 0, math.MaxInt32), alias: "reserve_pool_size",
			doc: `The same as reserve_pool_size.`,
		},
		{
			name: "max_db_connections", value: number(&d.MaxDBConnections, unset, 0, math.MaxInt32), zeroInherits: true,
			doc: `As the global setting.`,
		},
		{
			name: "max_db_client_connections", value: number(&d.MaxDBClientConnections, unset, 0, math.MaxInt32), zeroInherits: true,
			doc: `As the global setting.`,
		},
		{
			name: "server_lifetime", value: seconds(&d.ServerLifetime, unset), zeroInherits: true,
			doc: `As the global setting.`,
		},
		{
			name: "query_wait_timeout", value: seconds(&d.QueryWaitTimeout, unset),
			doc: `As the global setting.`,
		},
		{
			name: "server_login_parallel", value: number(&d.ServerLoginParallel, unset, 1, 1000),
			doc: `As the global setting, for this database's endpoint. If several databases have the same one, the lowest holds.`,
		},
		{
			name: "iam_login_rate", value: number(&d.IAMLoginRate, unset, 0, math.MaxInt32),
			doc: `As the global setting, for this database's endpoint. If several databases have the same one, the lowest holds.`,
		},
		{
			name: "load_balance_hosts", value: choice(&d.LoadBalanceHosts, LoadBalanceRoundRobin, LoadBalanceRoundRobin, LoadBalanceDisable),
			doc: `How a list of hosts is used: each in turn (round-robin), or the same one until it fails (disable).`,
		},
		{
			name: "connect_query", value: text(&d.ConnectQuery, ""),
			doc: `Query to run on every new server. Its errors are logged and ignored.`,
		},
		{
			name: "client_encoding", value: text(&d.ClientEncoding, ""),
			doc: `Sent to the server at login.`,
		},
		{
			name: "datestyle", value: text(&d.DateStyle, ""),
			doc: `Sent to the server at login.`,
		},
		{
			name: "timezone", value: text(&d.TimeZone, ""),
			doc: `Sent to the server at login.`,
		},
		{
			name: "application_name", value: text(&d.ApplicationName, ""),
			doc: `Sent to the server at login.`,
		},
	}
}

// table is the table of an entry of [peers], bound to p.
func (p *Peer) table() []setting {
	return []setting{
		{
			name: "host", value: text(&p.Host, ""),
			doc: `Host name or address of the peer, or the directory of its unix socket. Required.`,
		},
		{
			name: "port", value: number(&p.Port, 6432, 1, math.MaxUint16),
			doc: `Port of the peer, or the suffix of its unix socket's name.`,
		},
		{
			name: "pool_size", value: number(&p.PoolSize, unset, 0, math.MaxInt32),
			doc: `Most connections to the peer at a time. Default: default_pool_size.`,
		},
	}
}

// table is the table of an entry of [users], bound to u.
func (u *User) table() []setting {
	return []setting{
		{
			name: "pool_mode", value: poolMode(&u.PoolMode, PoolModeUnset),
			doc: `As the global setting.`,
		},
		{
			name: "pool_size", value: number(&u.PoolSize, unset, 0, math.MaxInt32),
			doc: `As default_pool_size.`,
		},
		{
			name: "reserve_pool_size", value: number(&u.ReservePoolSize, unset, 0, math.MaxInt32),
			doc: `As the global setting.`,
		},
		{
			name: "max_user_connections", value: number(&u.MaxUserConnections, unset, 0, math.MaxInt32), zeroInherits: true,
			doc: `As the global setting.`,
		},
		{
			name: "max_user_client_connections", value: number(&u.MaxUserClientConnections, unset, 0, math.MaxInt32), zeroInherits: true,
			doc: `As the global setting.`,
		},
		{
			name: "query_timeout", value: seconds(&u.QueryTimeout, unset), zeroInherits: true,
			doc: `As the global setting.`,
		},
		{
			name: "query_wait_timeout", value: seconds(&u.QueryWaitTimeout, unset),
			doc: `As the global setting.`,
		},
		{
			name: "idle_transaction_timeout", value: seconds(&u.IdleTransactionTimeout, unset), zeroInherits: true,
			doc: `As the global setting.`,
		},
		{
			name: "transaction_timeout", value: seconds(&u.TransactionTimeout, unset), zeroInherits: true,
			doc: `As the global setting.`,
		},
		{
			name: "client_idle_timeout", value: seconds(&u.ClientIdleTimeout, unset), zeroInherits: true,
			doc: `As the global setting.`,
		},
	}
}

func newDatabase(name string) *Database {
	d := &Database{Name: name}
	reset(d.table())
	return d
}

func newUser(name string) *User {
	u := &User{Name: name}
	reset(u.table())
	return u
}

func newPeer(id int) *Peer {
	p := &Peer{ID: id}
	reset(p.table())
	return p
}

func reset(table []setting) {
	for _, s := range table {
		s.reset()
	}
}
