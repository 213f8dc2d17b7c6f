package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// completePassages fills in the names that lead to databases in passthrough mode.
func (c *Config) completePassages() {
	c.passages = make(map[string]*Database)
	for _, d := range c.Entries() {
		if d.PoolMode != PoolModePassthrough {
			continue
		}
		names := d.PassthroughNames
		if len(names) == 0 {
			names = append(d.Hosts(), d.IAMHost, d.ServerTLSName)
		}
		d.PassthroughNames = nil
		for _, n := range names {
			n = normalName(n)
			if _, err := netip.ParseAddr(n); n != "" && err != nil && !slices.Contains(d.PassthroughNames, n) { // SNI has no addresses
				d.PassthroughNames = append(d.PassthroughNames, n)
				if c.passages[n] == nil {
					c.passages[n] = d
				}
			}
		}
	}
}

// normalName is the one way to write a host's name.
func normalName(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// checkPassage refuses a database in passthrough mode to which nothing leads.
func (f *source) checkPassage(c *Config, d *Database) {
	key := func(name string) toml.Key { return toml.Key{"databases", d.Name, name} }
	if d.PoolMode != PoolModePassthrough {
		for _, name := range []string{"passthrough_port", "passthrough_names"} {
			if f.has(key(name)) {
				f.refuse(key(name), "has no effect without pool_mode = passthrough")
			}
		}
		return
	}
	if _, local := d.UnixSocket(); local {
		f.refuse(key("host"), "pool_mode = passthrough needs a host, not a unix socket")
		return
	}
	if d.ServerAuth != ServerAuthPassword {
		f.refuse(key("server_auth"), "has no effect with pool_mode = passthrough, where the clients log in themselves")
	}
	for _, n := range d.PassthroughNames {
		if other := c.passages[n]; other != d {
			f.refuse(key("passthrough_names"), "%q leads to databases.%s already", n, toml.Key{other.Name})
		}
	}
	for _, o := range c.Entries() {
		if d.PassthroughPort > 0 && (o != d && o.PassthroughPort == d.PassthroughPort || d.PassthroughPort == c.ListenPort) {
			f.refuse(key("passthrough_port"), "is %d, which is taken", d.PassthroughPort)
			break
		}
	}
	switch {
	case d.PassthroughPort > 0:
		if len(c.ListenAddr) == 0 {
			f.refuse(key("passthrough_port"), "has no effect without listen_addr")
		}
	case len(d.PassthroughNames) == 0:
		f.refuse(key("pool_mode"), "is passthrough, to which nothing leads: set passthrough_names or passthrough_port")
	case c.ClientTLSSSLMode == SSLDisable:
		f.refuse(key("pool_mode"), "is passthrough, to which nothing leads: set passthrough_port, or client_tls_sslmode, so that clients are told apart by their TLS handshake")
	}
}
