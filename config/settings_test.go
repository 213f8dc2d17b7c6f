package config

import (
	"bytes"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every exported field is set by one key, and that key has its name.
func TestEveryFieldHasOneSetting(t *testing.T) {
	var (
		s Settings
		d Database
		u User
		p Peer
	)
	for _, section := range []struct {
		name  string
		v     reflect.Value
		table []setting
	}{
		{"Settings", reflect.ValueOf(&s).Elem(), s.table()},
		{"Database", reflect.ValueOf(&d).Elem(), d.table()},
		{"User", reflect.ValueOf(&u).Elem(), u.table()},
		{"Peer", reflect.ValueOf(&p).Elem(), p.table()},
	} {
		t.Run(section.name, func(t *testing.T) {
			owner := map[string]string{"Name": "(the table's own name)", "ID": "(the table's own name)"}
			for _, s := range section.table {
				field := changedField(t, section.v, s)
				if s.alias != "" {
					if owner[field] != s.alias {
						t.Errorf("%s, an alias of %s, sets %s", s.name, s.alias, field)
					}
					continue
				}
				if owner[field] != "" {
					t.Errorf("%s sets %s, which %s sets too", s.name, field, owner[field])
				}
				owner[field] = s.name
				if n := strings.ReplaceAll(s.name, "_", ""); field != "IgnoreStartupParams" && n != strings.ToLower(field) {
					t.Errorf("%s sets %s", s.name, field)
				}
			}
			for _, f := range reflect.VisibleFields(section.v.Type()) {
				if owner[f.Name] == "" {
					t.Errorf("no key sets %s", f.Name)
				}
			}
		})
	}
}

// changedField gives the setting a value that it takes, and returns the one
// field that changed.
func changedField(t *testing.T, v reflect.Value, s setting) string {
	t.Helper()
	v.SetZero()
	for _, candidate := range []any{int64(2000), int64(7), int64(3), true, "session", "md5", "iam", "json", "verify-ca", "0700", "tlsv1.2", "disable", "word"} {
		if s.set(candidate) != nil {
			continue
		}
		var changed []string
		for i := range v.NumField() {
			if !v.Field(i).IsZero() {
				changed = append(changed, v.Type().Field(i).Name)
			}
		}
		if len(changed) != 1 {
			t.Fatalf("%s = %v sets the fields %v", s.name, candidate, changed)
		}
		return changed[0]
	}
	t.Fatalf("%s takes no value", s.name)
	return ""
}

func TestTablesAreDocumented(t *testing.T) {
	all := slices.Concat(new(Settings).table(), new(Database).table(), new(User).table(), new(Peer).table())
	for _, s := range all {
		if !strings.HasSuffix(s.doc, ".") || s.unit == "" {
			t.Errorf("%s: documentation %q, unit %q", s.name, s.doc, s.unit)
		}
	}
}

func parseError(t *testing.T, text string) string {
	t.Helper()
	if _, err := Parse("t.toml", []byte(text)); err != nil {
		return err.Error()
	}
	return ""
}

func TestDefaults(t *testing.T) {
	c, err := Load("testdata/good/minimal.toml")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range c.Rows() {
		def := map[string]string{"auth_file": r.Value, "conffile": c.Path, "unix_socket_mode": "511", "service_name": "pgbouncer", "verbose": "0"}[r.Key]
		if def == "" {
			def = r.Default
		}
		if r.Value != def {
			t.Errorf("%s is %q, the documented default is %q", r.Key, r.Value, r.Default)
		}
	}
	// A sample against the documentation of PgBouncer, and of our own choice.
	want := map[string]string{
		"listen_addr": "", "listen_port": "6432", "unix_socket_dir": "/tmp", "unix_socket_mode": "0777",
		"default_pool_size": "20", "server_lifetime": "3600", "query_wait_timeout": "120", "log_stats": "1",
		"server_check_query": "<empty>", "max_packet_size": "2147483647", "client_tls_protocols": "secure",
		"pool_mode": "transaction", "auth_type": "scram-sha-256", "max_client_conn": "10000",
		"ignore_startup_parameters": "extra_float_digits", "server_tls_sslmode": "prefer",
	}
	for _, r := range c.Rows() {
		if w, ok := want[r.Key]; ok && r.Default != w {
			t.Errorf("default of %s is %q, want %q", r.Key, r.Default, w)
		}
	}
}

func TestReference(t *testing.T) {
	var b bytes.Buffer
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "../docs/config.md", b.String())
}

func TestParseDuration(t *testing.T) {
	for _, tt := range []struct {
		in   any
		want time.Duration
		ok   bool
	}{
		{int64(90), 90 * time.Second, true},
		{0.25, 250 * time.Millisecond, true},
		{"15m", 15 * time.Minute, true},
		{"1h30m", 90 * time.Minute, true},
		{"0", 0, true},
		{int64(1e9), maxDuration, true},
		{int64(1e9 + 1), 0, false},
		{int64(1) << 62, 0, false},
		{-0.001, 0, false},
		{"-1ns", 0, false},
		{"90", 0, false},
		{"", 0, false},
		{true, 0, false},
	} {
		var d time.Duration
		err := seconds(&d, 0).set(tt.in)
		if (err == nil) != tt.ok || d != tt.want {
			t.Errorf("%#v: %v, %v", tt.in, d, err)
		}
	}
}

func TestTLSProtocols(t *testing.T) {
	for text, want := range map[string]string{
		"": "secure", "default": "secure", "tlsv1": "tlsv1.0,tlsv1.1,tlsv1.2,tlsv1.3", "TLSv1.2": "tlsv1.2",
		"tlsv1.2:tlsv1.3": "secure", "secure, !tlsv1.2": "tlsv1.3", "!tlsv1.0": "tlsv1.1,tlsv1.2,tlsv1.3", "all,!tlsv1.3 , !tlsv1.2": "tlsv1.0,tlsv1.1",
		"tlsv1.1,tlsv1.3": "must be a range", "!all": "must name", "legacy": "must be a list",
	} {
		p, err := parseTLSProtocols(text)
		if got := p.String(); err == nil && got != want || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"host", "port", "pool_mode", "pool_size", "server_lifetime"}
	for typed, want := range map[string]string{
		"hosts": "host", "prot": "port", "PORT": "port", "poolmode": "pool_mode", "pol_sise": "pool_size",
		"server_life_time": "server_lifetime", "x": "", "": "", "timezone": "",
	} {
		if got := nearest(typed, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", typed, got, want)
		}
	}
}

func TestKeepAlive(t *testing.T) {
	for toml, want := range map[string]net.KeepAliveConfig{
		"": {Enable: true, Idle: -1, Interval: -1, Count: -1},
		"[pgvalet]\ntcp_keepalive = 0\ntcp_keepidle = 0\ntcp_keepintvl = 2\ntcp_keepcnt = 3": {Idle: -1, Interval: 2 * time.Second, Count: 3},
	} {
		if got := parse(t, toml).KeepAlive(); got != want {
			t.Errorf("%q: %+v, want %+v", toml, got, want)
		}
	}
}
