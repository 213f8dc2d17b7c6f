package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// unlike returns a text for an .ini that gives s another value than its default,
// and than PgBouncer's.
func unlike(t *testing.T, s setting) string {
	t.Helper()
	candidates := []string{"3", "7", "2000", "0", "1", "0600", "disable", "require", "session", "statement", "trust", "iam", "json", "tlsv1.2,tlsv1.3", "tlsv1.2", "a word's", "/dir"}
	if i := strings.LastIndex(s.unit, ", "); s.field != nil && strings.HasPrefix(s.unit, "one of ") && i >= 0 {
		candidates = []string{s.unit[i+2:], strings.Split(strings.TrimPrefix(s.unit, "one of "), ",")[0]}
	}
	switch s.field.(type) {
	case *time.Duration:
		candidates = []string{"77"}
	case *string, *Secret:
		candidates = []string{`a "word"\'s`}
		if s.path != nil || s.name == "host" {
			candidates = []string{"/dir/" + s.name}
		}
	}
	// Some texts are words of a language of their own.
	switch s.name {
	case "iam_region":
		candidates = []string{"eu-west-1"}
	case "auth_type":
		candidates = []string{"plain"}
	case "syslog_facility":
		candidates = []string{"local3"}
	}
	for _, text := range candidates {
		if s.setText(text) == nil && s.get() != s.def() && s.get() != strings.Trim(s.pgbouncer, `"`) {
			return text
		}
	}
	t.Fatalf("%s takes none of %q", s.name, candidates)
	return ""
}

func connstr(t *testing.T, table []setting, more string) string {
	t.Helper()
	var words []string
	for _, s := range table {
		if !strings.Contains(more, s.name+"=") && s.alias == "" {
			words = append(words, s.name+"='"+strings.ReplaceAll(unlike(t, s), "'", "''")+"'")
		}
	}
	return strings.Join(words, " ") + " " + more
}

// An .ini and what convert makes of it load to the same, for every setting.
func TestConvert(t *testing.T) {
	parse := func(t *testing.T, path, text string) *Config {
		t.Helper()
		c, err := (&source{file: path}).parse([]byte(text))
		if err != nil {
			t.Fatalf("%v\nin\n%s", err, text)
		}
		return c
	}
	check := func(t *testing.T, ini string) {
		t.Helper()
		c := parse(t, "/etc/pgbouncer.ini", ini)
		var b bytes.Buffer
		if err := c.WriteTOML(&b); err != nil {
			t.Fatal(err)
		}
		again := parse(t, "/etc/pgvalet.toml", b.String())
		again.INI, again.Path, again.Warnings = c.INI, c.Path, c.Warnings
		if c.ConfFile == c.Path {
			again.ConfFile = c.Path
		}
		if !reflect.DeepEqual(c, again) {
			t.Errorf("%s\nbecomes\n%s\nand\n%+v\nis not\n%+v", ini, b.String(), c, again)
		}
	}
	const required = "auth_file = /u\n"
	for _, s := range new(Settings).table() {
		text := fmt.Sprintf("[pgbouncer]\n%s%s = %s\n", required, s.name, unlike(t, s))
		if strings.HasPrefix(s.name, "client_tls_") {
			text += "client_tls_cert_file = /c\nclient_tls_key_file = /k\nclient_tls_ca_file = /a\n"
		}
		if strings.HasPrefix(s.name, "server_tls_") {
			text += "server_tls_cert_file = /c\nserver_tls_key_file = /k\nserver_tls_sslmode = verify-full\n"
		}
		t.Run(s.name, func(t *testing.T) { check(t, text) })
	}
	t.Run("defaults", func(t *testing.T) { check(t, "[pgbouncer]\n"+required) })
	t.Run("entries", func(t *testing.T) {
		iam := connstr(t, new(Database).table(), "password= passthrough_port= passthrough_names= pool_mode=session server_auth=iam port=5433 iam_port=5434 min_pool_size=1 pool_size=3 host=x iam_host=y.example.com iam_role_arn=arn:aws:iam::123456789012:role/r iam_external_id=x7 iam_session_name=s1")
		check(t, "[pgbouncer]\n"+required+"listen_addr = 127.0.0.1\nserver_tls_sslmode = verify-full\n[databases]\n"+
			"plain = host=x.example.com port=5433\n* =\n'with space' = password='it''s' user='\"x\\' dbname=d\n"+
			"iam = "+strings.NewReplacer("password= ", "", "passthrough_port= ", "", "passthrough_names= ", "").Replace(iam)+"\n"+
			"through = host=y.example.com pool_mode=passthrough passthrough_port=7777 passthrough_names=a.example,b.example\n"+
			"rds = host=Db.C0abcdefghij.us-east-1.rds.amazonaws.com. server_auth=iam\n"+
			"alias = host=x server_auth=iam iam_host=db.c0abcdefghij.us-east-1.rds.amazonaws.com server_tls_name=x\n"+
			"[users]\n'a.b' = "+connstr(t, new(User).table(), "")+"\n"+
			"[peers]\n3 = "+connstr(t, new(Peer).table(), "")+"\n")
	})
}

func TestConvertRefuses(t *testing.T) {
	c, err := Parse("x.ini", []byte("[databases]\nd = user=u password='\xff'\n[pgbouncer]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.WriteTOML(new(bytes.Buffer)); err == nil || err.Error() != "databases.d.password: holds bytes that are not UTF-8" {
		t.Errorf("got %v", err)
	}
}

func TestTOMLString(t *testing.T) {
	for _, s := range []string{"", `a"b\c`, "tab\tnewline\n\x7f", "ü", "\u2028"} {
		quoted, err := tomlString(s)
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse("x.toml", []byte("pgvalet.auth_file = '/u'\npgvalet.server_reset_query = "+quoted))
		if err != nil || c.ServerResetQuery != s {
			t.Errorf("%s: %v, want %s", quoted, err, strconv.Quote(s))
		}
	}
}
