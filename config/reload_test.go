package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func parse(t *testing.T, toml string) *Config {
	t.Helper()
	c, err := Parse("test.toml", []byte("pgvalet.auth_file = 'u'\n"+toml))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDiff(t *testing.T) {
	old := parse(t, "[pgvalet]\nlisten_port = 6432\nquery_timeout = 1\nadmin_users = 'a'\n")
	now := parse(t, "[pgvalet]\nlisten_port = 6433\nquery_timeout = '1500ms'\nadmin_users = ['a']\nverbose = 1\n")
	want := []Change{
		{"listen_port", "6432", "6433", false},
		{"query_timeout", "1", "1.5", true},
		{"verbose", "0", "1", true},
	}
	if got := now.Diff(old); !slices.Equal(got, want) {
		t.Errorf("Diff = %+v, want %+v", got, want)
	}
	if got := now.Diff(now); len(got) != 0 {
		t.Errorf("Diff of a Config and itself = %+v", got)
	}
}

func TestKeepFixed(t *testing.T) {
	old := parse(t, "[pgvalet]\nlisten_port = 6432\ntrack_extra_parameters = 'a'\nquery_timeout = 1\nunix_socket_mode = '0700'")
	now := parse(t, "[pgvalet]\nlisten_port = 6433\ntrack_extra_parameters = 'b'\nquery_timeout = 2\nevent_loops = 3\nlog_format = 'json'\nverbose = 1")
	now.KeepFixed(old)
	want := []Change{{"query_timeout", "1", "2", true}, {"verbose", "0", "1", true}}
	if got := now.Diff(old); !slices.Equal(got, want) {
		t.Errorf("Diff = %+v, want %+v", got, want)
	}
}

func TestSameServer(t *testing.T) {
	recycle := []string{
		"DBName", "Host", "Port", "User", "ConnectQuery",
		"ServerAuth", "IAMRegion", "IAMHost", "IAMPort", "ServerTLSName",
		"IAMProfile", "IAMRoleARN", "IAMExternalID", "IAMSessionName", "AuthQuery", "AuthDBName", "LoadBalanceHosts",
		"ClientEncoding", "DateStyle", "TimeZone", "ApplicationName",
	}
	a, b := newDatabase("x"), newDatabase("x")
	if !a.SameServer(b) {
		t.Error("equal databases do not have the same server")
	}
	v := reflect.ValueOf(b).Elem()
	for i := range v.NumField() {
		name, f := v.Type().Field(i).Name, v.Field(i)
		before := reflect.New(f.Type()).Elem()
		before.Set(f)
		switch f.Kind() {
		case reflect.String:
			f.SetString("other")
		case reflect.Int, reflect.Int64:
			f.SetInt(77)
		case reflect.Uint8:
			f.SetUint(1)
		case reflect.Slice:
			f.Set(reflect.ValueOf([]string{"other"}))
		default:
			t.Fatalf("%s has the kind %s", name, f.Kind())
		}
		if got := a.SameServer(b); got == slices.Contains(recycle, name) {
			t.Errorf("another %s: SameServer = %v", name, got)
		}
		f.Set(before)
	}
}

func TestUnixSocket(t *testing.T) {
	for host, want := range map[string]string{
		"/run/postgresql": "/run/postgresql/.s.PGSQL.5432", "@pg": "@pg/.s.PGSQL.5432", "db": "", "": "",
	} {
		d := newDatabase("x")
		d.Host = host
		if got, ok := d.UnixSocket(); got != want || ok != (want != "") {
			t.Errorf("UnixSocket of %q = %q, %v", host, got, ok)
		}
	}
}

func TestPrecedence(t *testing.T) {
	c := parse(t, `
[pgvalet]
pool_mode = "statement"
default_pool_size = 5
min_pool_size = 1
server_lifetime = 100
query_wait_timeout = 101
query_timeout = 102
idle_transaction_timeout = 103
transaction_timeout = 104
client_idle_timeout = 105
[databases.plain]
[databases.own]
pool_mode = "transaction"
pool_size = 6
min_pool_size = 0
server_lifetime = 0
query_wait_timeout = 201
[users.own]
pool_mode = "session"
pool_size = 0
query_wait_timeout = 0
query_timeout = 302
idle_transaction_timeout = 0
transaction_timeout = 304
client_idle_timeout = 305
`)
	type figures struct {
		mode                             PoolMode
		size, least                      int
		lifetime, wait                   time.Duration
		query, idleTx, transaction, idle time.Duration
	}
	const s = time.Second
	for _, tt := range []struct {
		db, user string
		want     figures
	}{
		{"plain", "nobody", figures{PoolModeStatement, 5, 1, 100 * s, 101 * s, 102 * s, 103 * s, 104 * s, 105 * s}},
		{"own", "nobody", figures{PoolModeTransaction, 6, 0, 0, 201 * s, 102 * s, 103 * s, 104 * s, 105 * s}},
		{"plain", "own", figures{PoolModeSession, 0, 1, 100 * s, 0, 302 * s, 0, 304 * s, 305 * s}},
		{"own", "own", figures{PoolModeSession, 0, 0, 0, 0, 302 * s, 0, 304 * s, 305 * s}},
	} {
		db := c.Databases[tt.db]
		got := figures{
			c.PoolModeFor(db, tt.user), c.PoolSizeFor(db, tt.user), c.MinPoolSizeFor(db),
			c.ServerLifetimeFor(db), c.QueryWaitTimeoutFor(db, tt.user), c.QueryTimeoutFor(tt.user),
			c.IdleTransactionTimeoutFor(tt.user), c.TransactionTimeoutFor(tt.user), c.ClientIdleTimeoutFor(tt.user),
		}
		if got != tt.want {
			t.Errorf("%s, %s:\ngot  %+v\nwant %+v", tt.db, tt.user, got, tt.want)
		}
	}
}

func TestHosts(t *testing.T) {
	c := parse(t, `[databases.a]
host = "one, 10.0.0.2,/tmp"
[databases.b]
host = "one"
`)
	if got := c.Databases["a"].Hosts(); !slices.Equal(got, []string{"one", "10.0.0.2", "/tmp"}) {
		t.Errorf("hosts %q", got)
	}
	if a, b := c.Databases["a"].ServerTLSName, c.Databases["b"].ServerTLSName; a != "" || b != "one" {
		t.Errorf("names for certificates: %q of several hosts, %q of one", a, b)
	}
	for host, want := range map[string]string{
		"one,,two": "is no host name", "one,two:5433": "holds a port", "one,t wo": "is no host name",
	} {
		if err := parseError(t, "[pgvalet]\nauth_file = \"users\"\n[databases.a]\nhost = \""+host+"\"\n"); !strings.Contains(err, want) {
			t.Errorf("%s: %s", host, err)
		}
	}
}
