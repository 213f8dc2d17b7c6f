package config

import (
	"net/netip"
	"regexp"
	"strings"

	"github.com/BurntSushi/toml"
)

// completeIAM writes names as the signature needs them: RDS signs for a
// lower-case name without a final dot.
func completeIAM(d *Database) {
	if d.IAMHost == "" && len(d.Hosts()) == 1 {
		d.IAMHost = d.Host
	}
	d.IAMHost = normalName(d.IAMHost)
	if d.IAMPort == unset {
		d.IAMPort = d.Port
	}
	if d.ServerAuth == ServerAuthDSQL && d.DBName == d.Name {
		d.DBName = "postgres" // the only one there is
	}
	if d.IAMRegion == "" {
		d.IAMRegion, _ = RegionFromHost(d.IAMHost)
	}
	d.IAMRegion = strings.ToLower(d.IAMRegion)
}

// firstIAM returns the first database whose server gets IAM tokens, or nil.
func (c *Config) firstIAM() *Database {
	for _, d := range c.Entries() {
		if c.getsTokens(d) {
			return d
		}
	}
	return nil
}

// getsTokens reports whether IAM tokens are sent to the server of d: ours, or the
// clients'.
func (c *Config) getsTokens(d *Database) bool {
	if d.PoolMode == PoolModePassthrough {
		return false
	}
	return d.ServerAuth.MakesTokens() || d.ServerAuth == ServerAuthClientToken || c.AuthType == AuthIAM
}

func (f *source) checkIAM(c *Config, d *Database) {
	key := func(name string) toml.Key { return toml.Key{"databases", d.Name, name} }
	because := "server_auth = " + d.ServerAuth.String()
	if d.ServerAuth == ServerAuthPassword {
		because = "auth_type = iam"
	} else if d.Password != "" {
		f.refuse(key("password"), "contradicts %s, which does without", because)
	}
	if d.ServerAuth == ServerAuthClientToken && c.AuthType != AuthIAM && c.AuthType != AuthHBA {
		f.refuse(key("server_auth"), "is client_token, which needs clients with tokens: auth_type iam, or hba with the method iam")
	}
	if d.ServerAuth == ServerAuthClientToken && d.User != "" {
		f.refuse(key("user"), "contradicts server_auth = client_token, where the server's user is the client's")
	}
	if _, local := d.UnixSocket(); local {
		f.refuse(key("host"), "%s needs a host name, not a unix socket", because)
		return
	}
	if len(d.Hosts()) > 1 && !f.has(key("iam_host")) {
		f.refuse(key("iam_host"), "is required with several hosts: a token is for one endpoint")
		return
	}
	if d.ServerAuth == ServerAuthDSQL && f.has(key("iam_port")) {
		f.refuse(key("iam_port"), "has no effect with server_auth = dsql: its tokens name no port")
	} else if d.IAMPort == 443 {
		// SigV4 leaves the default port of https out of what it signs.
		f.refuse(key("iam_port"), "is 443, which no token can be signed for")
	}
	f.checkRole(d)
	named := key("iam_host")
	if !f.has(named) {
		named = key("host")
	}
	if f.refused[named.String()] {
		return
	}
	if _, err := netip.ParseAddr(d.IAMHost); err == nil {
		f.refuse(key("iam_host"), "must be the name of the endpoint: no token is accepted for the address %s", d.IAMHost)
		return
	}
	if strings.Contains(d.IAMHost, ",") {
		f.refuse(named, "must be one endpoint")
		return
	}
	if named[2] == "iam_host" {
		f.checkHost(named, d.IAMHost)
	}
	if d.IAMRegion == "" {
		f.require(key("iam_region"), "", "%q does not contain it", d.IAMHost)
	}
}

var (
	roleARN     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$`)
	sessionName = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
	externalID  = regexp.MustCompile(`^[A-Za-z0-9_+=,.@:/-]{2,}$`)
)

// checkRole holds the settings about a role against what STS accepts.
func (f *source) checkRole(d *Database) {
	key := func(name string) toml.Key { return toml.Key{"databases", d.Name, name} }
	if d.IAMRoleARN != "" && !roleARN.MatchString(d.IAMRoleARN) {
		f.refuse(key("iam_role_arn"), "%q is not the ARN of a role, arn:aws:iam::ACCOUNT:role/NAME", d.IAMRoleARN)
	}
	for _, s := range []struct {
		name, value string
		form        *regexp.Regexp
		chars       string
	}{
		{"iam_external_id", d.IAMExternalID, externalID, "2 to 1224 letters, digits and _+=,.@:/-"},
		{"iam_session_name", d.IAMSessionName, sessionName, "2 to 64 letters, digits and _+=,.@-"},
	} {
		switch {
		case s.value == "":
		case d.IAMRoleARN == "" && !f.refused[key("iam_role_arn").String()]:
			f.refuse(key(s.name), "has no effect without iam_role_arn")
		case !s.form.MatchString(s.value) || len(s.value) > 1224:
			f.refuse(key(s.name), "must be %s", s.chars)
		}
	}
}

// checkNoIAM refuses keys that have no effect without IAM: an operator who
// writes one believes that tokens are in use.
func (f *source) checkNoIAM(d *Database) {
	if f.refused[toml.Key{"databases", d.Name, "server_auth"}.String()] {
		return
	}
	for _, name := range []string{"iam_region", "iam_host", "iam_port", "iam_profile", "iam_role_arn", "iam_external_id", "iam_session_name", "iam_login_rate"} {
		if key := (toml.Key{"databases", d.Name, name}); f.has(key) {
			f.refuse(key, "has no effect without server_auth = iam, or auth_type = iam")
		}
	}
}
