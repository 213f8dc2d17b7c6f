package config

import (
	"fmt"
	"slices"
	"strings"
)

// Row is one setting of [pgvalet], as SHOW CONFIG reports it.
type Row struct {
	Key, Value, Default string
	Changeable          bool // RELOAD applies it

	// PgBouncer shows NULL, which a setting without a default has, where the
	// texts are empty.
	Null, DefaultNull bool
}

// Rows returns all settings of [pgvalet] in the order of their names, which is
// PgBouncer's too. The defaults are those of the form of the file.
func (c *Config) Rows() []Row {
	var defaults Settings
	ours, theirs := c.table(), defaults.table()
	if c.INI {
		resetINI(theirs)
	} else {
		reset(theirs)
	}
	rows := make([]Row, len(ours))
	for i, s := range ours {
		r := Row{Key: s.name, Value: s.get(), Default: theirs[i].get(), Changeable: !s.restart}
		if s.show != nil {
			r.Value = s.show()
		}
		if s.null {
			r.Default, r.DefaultNull = "", true
		}
		r.Null = s.null && r.Value == ""
		rows[i] = r
	}
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Key, b.Key) })
	return rows
}

// Change is one setting of [pgvalet] that a reload changes.
type Change struct {
	Key, Old, New string
	Changeable    bool // false: only a restart applies it
}

// Diff returns the settings of [pgvalet] whose values differ from old's.
func (c *Config) Diff(old *Config) []Change {
	was := old.Rows()
	var changes []Change
	for i, r := range c.Rows() {
		if r.Value != was[i].Value {
			changes = append(changes, Change{r.Key, was[i].Value, r.Value, r.Changeable})
		}
	}
	return changes
}

// KeepFixed gives c the values that old has for what only a restart applies: it
// is for a Config that was loaded to take old's place, before anybody else sees
// it.
func (c *Config) KeepFixed(old *Config) {
	was := old.table()
	for i, s := range c.table() {
		if s.restart {
			s.copy(was[i].value)
		}
	}
}

// Hosts are the hosts that Host lists, at least one.
func (d *Database) Hosts() []string { return splitHosts(d.Host) }

func splitHosts(list string) []string {
	hosts := strings.Split(list, ",")
	for i := range hosts {
		hosts[i] = strings.TrimSpace(hosts[i])
	}
	return hosts
}

// UnixSocket returns the path of the server's unix socket, if host names one.
func (d *Database) UnixSocket() (path string, ok bool) {
	if d.Host == "" || d.Host[0] != '/' && d.Host[0] != '@' {
		return "", false
	}
	return fmt.Sprintf("%s/.s.PGSQL.%d", d.Host, d.Port), true
}

// SameServer reports whether servers that were opened for o are right for d
// too: they lead to the same place, as the same user, and were prepared in the
// same way. A new password does not matter, as in PgBouncer: it is for new
// servers.
func (d *Database) SameServer(o *Database) bool {
	return d.DBName == o.DBName && d.Host == o.Host && d.Port == o.Port && d.User == o.User &&
		d.ConnectQuery == o.ConnectQuery && d.ServerAuth == o.ServerAuth && d.IAMRegion == o.IAMRegion &&
		d.IAMHost == o.IAMHost && d.IAMPort == o.IAMPort && d.ServerTLSName == o.ServerTLSName &&
		d.IAMProfile == o.IAMProfile && d.IAMRoleARN == o.IAMRoleARN && d.IAMExternalID == o.IAMExternalID && d.IAMSessionName == o.IAMSessionName &&
		d.AuthQuery == o.AuthQuery && d.AuthDBName == o.AuthDBName && d.LoadBalanceHosts == o.LoadBalanceHosts &&
		d.ClientEncoding == o.ClientEncoding && d.DateStyle == o.DateStyle && d.TimeZone == o.TimeZone && d.ApplicationName == o.ApplicationName
}
