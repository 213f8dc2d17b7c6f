package config

import (
	"cmp"
	"net"
	"slices"
	"time"
)

// The methods below say which value holds for a database and a user: the
// user's entry first, then the database's, then the global setting. The user
// of a pool's settings is the server user (the forced one, if there is one);
// the user of a client's timeouts is the one who logged in.

// KeepAlive returns the tcp_keep* settings as package net takes them, for which
// 0 is a default of its own and a negative value the system's.
func (s *Settings) KeepAlive() net.KeepAliveConfig {
	k := net.KeepAliveConfig{Enable: s.TCPKeepalive, Idle: s.TCPKeepidle, Interval: s.TCPKeepintvl, Count: s.TCPKeepcnt}
	if k.Idle == 0 {
		k.Idle = -1
	}
	if k.Interval == 0 {
		k.Interval = -1
	}
	if k.Count == 0 {
		k.Count = -1
	}
	return k
}

// IsConsole reports whether a database is the console.
func IsConsole(database string) bool { return database == "pgbouncer" || database == "pgvalet" }

// Database returns the database that a client asks for: the entry of that name,
// or what the entry "*" says about it, or nil; nil for the console. With "*", two
// calls return two equal databases.
func (c *Config) Database(name string) *Database {
	if d := c.Databases[name]; d != nil || c.AutoDB == nil || name == "" || len(name) > maxDatabaseName || IsConsole(name) {
		return d
	}
	d := *c.AutoDB
	d.Name = name
	if d.DBName == "" {
		d.DBName = name
	}
	return &d
}

// noUser stands for a user without an entry.
var noUser = newUser("")

func (c *Config) user(name string) *User {
	if u := c.Users[name]; u != nil {
		return u
	}
	return noUser
}

// inherited returns the first value that is set.
func inherited[T int | time.Duration](values ...T) T {
	for _, v := range values {
		if v != unset {
			return v
		}
	}
	return unset
}

// PoolModeFor returns the pool mode of the pool of db and the server user.
func (c *Config) PoolModeFor(db *Database, user string) PoolMode {
	for _, m := range []PoolMode{c.user(user).PoolMode, db.PoolMode} {
		if m != PoolModeUnset {
			return m
		}
	}
	return c.PoolMode
}

// Passage returns the database in passthrough mode that a name leads to, as
// clients write it in the SNI of their TLS handshake; nil if there is none.
func (c *Config) Passage(name string) *Database { return c.passages[normalName(name)] }

// HasPassages reports whether any name leads to a database in passthrough mode.
func (c *Config) HasPassages() bool { return len(c.passages) > 0 }

// PoolSizeFor returns the most servers that the pool of db and the server
// user may have; 0: no limit.
func (c *Config) PoolSizeFor(db *Database, user string) int {
	return inherited(c.user(user).PoolSize, db.PoolSize, c.DefaultPoolSize)
}

// MinPoolSizeFor returns how many servers a pool of db keeps open.
func (c *Config) MinPoolSizeFor(db *Database) int {
	return inherited(db.MinPoolSize, c.MinPoolSize)
}

// ReservePoolSizeFor returns how many servers the pool of db and the server user
// may have above its size.
func (c *Config) ReservePoolSizeFor(db *Database, user string) int {
	return inherited(c.user(user).ReservePoolSize, db.ReservePoolSize, c.ReservePoolSize)
}

// MaxDBConnectionsFor returns the most servers of db over all users; 0: no
// limit.
func (c *Config) MaxDBConnectionsFor(db *Database) int {
	return inherited(db.MaxDBConnections, c.MaxDBConnections)
}

// MaxDBClientConnectionsFor returns the most clients of db; 0: no limit.
func (c *Config) MaxDBClientConnectionsFor(db *Database) int {
	return inherited(db.MaxDBClientConnections, c.MaxDBClientConnections)
}

// MaxUserConnectionsFor returns the most servers of the server user over all
// databases; 0: no limit.
func (c *Config) MaxUserConnectionsFor(user string) int {
	return inherited(c.user(user).MaxUserConnections, c.MaxUserConnections)
}

// MaxUserClientConnectionsFor returns the most clients that may be logged in as
// the user; 0: no limit.
func (c *Config) MaxUserClientConnectionsFor(user string) int {
	return inherited(c.user(user).MaxUserClientConnections, c.MaxUserClientConnections)
}

// ServerLoginParallelFor returns how many logins to the endpoint of db may be
// under way at a time.
func (c *Config) ServerLoginParallelFor(db *Database) int {
	return inherited(db.ServerLoginParallel, c.ServerLoginParallel)
}

// IAMLoginRateFor returns the most logins per second to the endpoint of db; 0:
// no limit.
func (c *Config) IAMLoginRateFor(db *Database) int {
	return inherited(db.IAMLoginRate, c.IAMLoginRate)
}

// AuthUserFor returns the server user who runs the auth_query of db; empty:
// nobody does.
func (c *Config) AuthUserFor(db *Database) string { return cmp.Or(db.AuthUser, c.AuthUser) }

// HasAuthUser reports whether there is an auth_query for any database.
func (c *Config) HasAuthUser() bool {
	return c.AuthUser != "" || slices.ContainsFunc(c.Entries(), func(d *Database) bool { return d.AuthUser != "" })
}

// AuthQueryFor returns the auth_query of db.
func (c *Config) AuthQueryFor(db *Database) string { return cmp.Or(db.AuthQuery, c.AuthQuery) }

// AuthDBNameFor returns the name of the entry of [databases] that the auth_query
// of db runs in; empty: db itself.
func (c *Config) AuthDBNameFor(db *Database) string { return cmp.Or(db.AuthDBName, c.AuthDBName) }

// PeerPoolSizeFor returns the most connections to p at a time; 0: no limit.
func (c *Config) PeerPoolSizeFor(p *Peer) int {
	return inherited(p.PoolSize, c.DefaultPoolSize)
}

// ServerLifetimeFor returns the age at which servers of db are closed.
func (c *Config) ServerLifetimeFor(db *Database) time.Duration {
	return inherited(db.ServerLifetime, c.ServerLifetime)
}

// QueryWaitTimeoutFor returns how long a client of db may wait for a server;
// 0: for ever.
func (c *Config) QueryWaitTimeoutFor(db *Database, user string) time.Duration {
	return inherited(c.user(user).QueryWaitTimeout, db.QueryWaitTimeout, c.QueryWaitTimeout)
}

// QueryTimeoutFor returns how long a query of the user may run; 0: for ever.
func (c *Config) QueryTimeoutFor(user string) time.Duration {
	return inherited(c.user(user).QueryTimeout, c.QueryTimeout)
}

// IdleTransactionTimeoutFor returns how long the user may be idle in a
// transaction; 0: for ever.
func (c *Config) IdleTransactionTimeoutFor(user string) time.Duration {
	return inherited(c.user(user).IdleTransactionTimeout, c.IdleTransactionTimeout)
}

// TransactionTimeoutFor returns how long a transaction of the user may take;
// 0: for ever.
func (c *Config) TransactionTimeoutFor(user string) time.Duration {
	return inherited(c.user(user).TransactionTimeout, c.TransactionTimeout)
}

// ClientIdleTimeoutFor returns how long a client of the user may be idle
// outside a transaction; 0: for ever.
func (c *Config) ClientIdleTimeoutFor(user string) time.Duration {
	return inherited(c.user(user).ClientIdleTimeout, c.ClientIdleTimeout)
}
