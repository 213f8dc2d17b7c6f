package config

import (
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// rdsBundle is where AWS publishes the authorities of RDS and Aurora.
const rdsBundle = "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"

// complete fills in the defaults that depend on other keys.
func (f *source) complete(c *Config) {
	for _, d := range c.Entries() {
		if d.DBName == "" && d != c.AutoDB {
			d.DBName = d.Name
		}
		if d.Host == "" {
			d.Host = c.UnixSocketDir
		}
		if d.ServerTLSName == "" {
			if len(d.Hosts()) == 1 { // else each host has its own
				d.ServerTLSName = d.Host
			}
			if d.IAMHost != "" {
				d.ServerTLSName = d.IAMHost
			}
		}
		completeIAM(d)
	}
	c.completePassages()
	if c.ConfFile == "" {
		c.ConfFile = c.Path
	}
	if c.INI {
		if c.ServerTLSSSLMode >= SSLVerifyCA && c.ServerTLSCAFile == "" {
			c.ServerTLSCAFile = SystemCAs // as OpenSSL does
		}
		return
	}
	iam := c.firstIAM() != nil
	if !f.has(global("client_tls_sslmode")) {
		switch {
		case iam:
			c.ClientTLSSSLMode = SSLRequire
		case c.ClientTLSCertFile != "" || c.ClientTLSKeyFile != "":
			c.ClientTLSSSLMode = SSLPrefer
		}
	}
	if iam && !f.has(global("server_tls_sslmode")) {
		c.ServerTLSSSLMode = SSLVerifyFull
	}
}

// global is the full name of a key of [pgvalet].
func global(name string) toml.Key { return toml.Key{"pgvalet", name} }

// syslogFacilities are those that PgBouncer knows.
var syslogFacilities = []string{
	"auth", "authpriv", "daemon", "user",
	"local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

// check refuses the contradictions between values. What is refused already is
// not complained about again.
func (f *source) check(c *Config) {
	f.checkListening(c)
	f.checkClientSide(c)
	f.checkServerTLS(c)
	if !slices.Contains(syslogFacilities, c.SyslogFacility) && !f.refused[global("syslog_facility").String()] {
		f.refuse(global("syslog_facility"), "is %q; there are %s", c.SyslogFacility, strings.Join(syslogFacilities, ", "))
	}
	if c.DefaultPoolSize > 0 && c.MinPoolSize > c.DefaultPoolSize && !f.refused[global("default_pool_size").String()] {
		f.doubt(global("min_pool_size"), "is %d, more than default_pool_size, %d", c.MinPoolSize, c.DefaultPoolSize)
	}
	for _, d := range c.Entries() {
		f.checkDatabase(c, d)
		f.checkPassage(c, d)
		if c.getsTokens(d) {
			f.checkIAM(c, d)
		} else if c.AuthType != AuthHBA { // whose file may have the method iam
			f.checkNoIAM(d)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Users)) {
		f.checkName(toml.Key{"users", name}, name, maxUserName)
	}
	for _, id := range slices.Sorted(maps.Keys(c.Peers)) {
		f.require(toml.Key{"peers", strconv.Itoa(id), "host"}, c.Peers[id].Host, "it is where the peer is")
	}
}

func (f *source) checkListening(c *Config) {
	if len(c.ListenAddr) == 0 && c.UnixSocketDir == "" && !f.refused[global("listen_addr").String()] {
		f.refuse(global("listen_addr"), "is empty, and so is unix_socket_dir: there is nowhere to listen")
	}
	for _, a := range c.ListenAddr {
		if _, port, err := net.SplitHostPort(a); err == nil {
			f.refuse(global("listen_addr"), "%q holds a port; that is listen_port = %s", a, port)
		}
	}
}

// require refuses a key that the file does not set, or sets to nothing.
func (f *source) require(key toml.Key, value, format string, args ...any) {
	if value == "" && !f.refused[key.String()] {
		f.refuse(key, "is required: "+format, args...)
	}
}

func (f *source) checkClientSide(c *Config) {
	f.checkAuthentication(c)
	mode := c.ClientTLSSSLMode
	if mode >= SSLAllow {
		because := ""
		if d := c.firstIAM(); d != nil && !f.has(global("client_tls_sslmode")) {
			because = ", the default because of databases." + toml.Key{d.Name}.String()
		}
		f.require(global("client_tls_cert_file"), c.ClientTLSCertFile, "client_tls_sslmode is %s%s", mode, because)
		f.require(global("client_tls_key_file"), c.ClientTLSKeyFile, "client_tls_sslmode is %s%s", mode, because)
	}
	if mode >= SSLVerifyCA {
		f.require(global("client_tls_ca_file"), c.ClientTLSCAFile, "client_tls_sslmode is %s", mode)
	}
}

func (f *source) checkAuthentication(c *Config) {
	switch c.AuthType {
	case AuthHBA:
		f.require(global("auth_hba_file"), c.AuthHBAFile, "auth_type is hba")
	case AuthLDAP:
		f.require(global("auth_ldap_options"), c.AuthLDAPOptions.Reveal(), "auth_type is ldap")
	case AuthAny, AuthIAM:
	case AuthPAM:
		f.refuse(global("auth_type"), "pam needs C libraries, which pgvalet is built without; ldap and auth_query do not")
	default:
		if !c.INI && !c.HasAuthUser() {
			f.require(global("auth_file"), c.AuthFile, "without auth_user, only users in it can log in")
		}
	}
	if c.AuthType == AuthCert && c.ClientTLSSSLMode < SSLVerifyCA && !f.refused[global("client_tls_sslmode").String()] {
		f.refuse(global("client_tls_sslmode"), "is %s, but auth_type = cert needs verify-full", c.ClientTLSSSLMode)
	}
	if IsConsole(c.AuthDBName) {
		f.refuse(global("auth_dbname"), "cannot use the reserved %q database as an auth_dbname", c.AuthDBName)
	}
}

func (f *source) checkServerTLS(c *Config) {
	mode := c.ServerTLSSSLMode
	d := c.firstIAM()
	if d != nil && mode < SSLVerifyCA && !f.refused[global("server_tls_sslmode").String()] {
		f.refuse(global("server_tls_sslmode"), "is %s, but IAM (databases.%s) needs server_tls_sslmode verify-full (or verify-ca)",
			mode, toml.Key{d.Name})
	}
	if d != nil && mode == SSLVerifyCA && c.ServerTLSCAFile == SystemCAs {
		// Anybody can have a certificate from those.
		f.refuse(global("server_tls_sslmode"), "is verify-ca, but IAM (databases.%s) with the system's authorities needs verify-full", toml.Key{d.Name})
	}
	if mode >= SSLVerifyCA {
		hint := ""
		switch {
		case d == nil:
		case d.ServerAuth == ServerAuthDSQL:
			hint = "; Aurora DSQL's certificates are signed by those"
		default:
			hint = "; the authorities of RDS are at " + rdsBundle
		}
		f.require(global("server_tls_ca_file"), c.ServerTLSCAFile,
			"server_tls_sslmode is %s (\"system\" stands for the authorities of the operating system)%s", mode, hint)
	}
	if c.ServerTLSKeyFile != "" {
		f.require(global("server_tls_cert_file"), c.ServerTLSCertFile, "server_tls_key_file is set")
	}
	if c.ServerTLSCertFile != "" {
		f.require(global("server_tls_key_file"), c.ServerTLSKeyFile, "server_tls_cert_file is set")
	}
}

// The longest names in bytes. PostgreSQL cuts longer database names, PgBouncer
// refuses both.
const (
	maxDatabaseName = 63
	maxUserName     = 127
)

func (f *source) checkName(key toml.Key, name string, limit int) {
	switch {
	case name == "":
		f.refuse(key, "the name is empty")
	case len(name) > limit:
		f.refuse(key, "the name has %d bytes, more than %d", len(name), limit)
	case strings.ContainsRune(name, 0):
		f.refuse(key, "the name contains a NUL byte")
	}
}

func (f *source) checkDatabase(c *Config, d *Database) {
	key := func(name string) toml.Key { return toml.Key{"databases", d.Name, name} }
	table := toml.Key{"databases", d.Name}
	if IsConsole(d.Name) {
		f.refuse(table, "the name is reserved for the console")
	} else {
		f.checkName(table, d.Name, maxDatabaseName)
	}
	if len(d.User) > maxUserName {
		f.refuse(key("user"), "has %d bytes, more than %d", len(d.User), maxUserName)
	}
	if d.Password != "" && d.User == "" && !f.refused[key("user").String()] {
		f.doubt(key("password"), "is the password of user, which is not set")
		d.Password = "" // PgBouncer does not use it
	}
	size, least := c.PoolSizeFor(d, ""), c.MinPoolSizeFor(d)
	if own := d.PoolSize != unset || d.MinPoolSize != unset; own && size > 0 && least > size {
		f.doubt(key("min_pool_size"), "is %d, more than the pool size, %d", least, size)
	}
	f.checkHost(key("host"), d.Host)
}

func (f *source) checkHost(key toml.Key, hosts string) {
	f.require(key, hosts, "its default, unix_socket_dir, is empty")
	for _, host := range splitHosts(hosts) {
		if f.refused[key.String()] || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") {
			continue
		}
		if _, port, err := net.SplitHostPort(host); err == nil {
			f.doubt(key, "%q holds a port; that is port = %s", host, port)
		} else if host == "" || strings.ContainsAny(host, "/ \t\r\n") {
			f.doubt(key, "%q is no host name, address or absolute directory", host)
		}
	}
}
