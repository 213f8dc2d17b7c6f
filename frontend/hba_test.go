package frontend

import (
	"fmt"
	"os/user"
	"strings"
	"testing"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

// hbaFixture has rules, an ident file, and users without passwords beside the
// usual ones.
func hbaFixture(t *testing.T, rules, identFile string, users ...string) *fixture {
	t.Helper()
	cfg := testConfig()
	cfg.AuthType = config.AuthHBA
	f := testOptions(t, cfg)
	ident, bad := auth.ParseIdent([]byte(identFile), "ident")
	hba, more := auth.ParseHBA([]byte(rules), "hba", ident, nil)
	for _, b := range append(bad, more...) {
		t.Fatal(b)
	}
	f.HBA = func() *auth.HBA { return hba }
	lines := fmt.Sprintf("\"plain\" %[1]q\n\"md5\" %[1]q\n\"root\" %[1]q\n", password)
	for _, u := range users {
		lines += fmt.Sprintf("%q \"\"\n", u)
	}
	list := parseUsers(t, lines)
	f.Userlist = func() *auth.Userlist { return list }
	return f
}

func TestHBA(t *testing.T) {
	const (
		noMethod = "28000 no authentication method is found"
		rejected = "28000 login rejected"
	)
	f := hbaFixture(t, `
host  shop      md5    127.0.0.1/32 reject
host  pgbouncer root   all          password
local all       all                 reject
host  shop      plain  127.0.0.0/8  scram-sha-256
host  all       free   all          trust
host  shop      peer   all          peer
hostssl shop    secure all          trust
host  shop      ldap   all          ldap ldapserver=127.0.0.1 ldapport=1 ldapprefix="uid="
`, "", "free", "peer", "secure").start(t)
	for _, tt := range []struct{ settings, want string }{
		{"user=md5 dbname=shop", rejected},
		{"user=md5 dbname=other", noMethod},
		{"user=plain dbname=shop password='" + password + "'", "ok"},
		{"user=plain dbname=shop password=wrong", "28P01 SASL authentication failed"},
		{"user=free dbname=shop", "ok"},
		{"user=free dbname=nowhere", "3D000 no such database: nowhere"},
		{"user=root dbname=pgbouncer password='" + password + "'", "ok"},
		{"user=root dbname=pgvalet password='" + password + "'", "ok"}, // the same console
		{"user=peer dbname=shop", "28000 unix socket login rejected"},
		{"user=secure dbname=shop", noMethod},
		{"user=ldap dbname=shop password=x", "28000 LDAP authentication failed"}, // nobody is there
		{"user=free dbname=shop port=6432 host=" + f.unixDir, rejected},
	} {
		if got := outcome(f.connect(t, tt.settings)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.settings, got, tt.want)
		}
	}
}

// TestPeer has the test's own user at the other end.
func TestPeer(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	const rejected = "28000 unix socket login rejected"
	f := hbaFixture(t, "local all mapped,other,any peer map=m\nlocal all all peer",
		fmt.Sprintf("m %q mapped\nm nobody-else other\nm nobody-else all", me.Username), me.Username, "mapped", "other", "any").start(t)
	for user, want := range map[string]string{me.Username: "ok", "plain": rejected, "mapped": "ok", "other": rejected, "any": rejected, "missing": rejected} {
		if got := outcome(f.connect(t, fmt.Sprintf("user='%s' dbname=shop port=6432 host=%s", user, f.unixDir))); got != want {
			t.Errorf("%s: %q, want %q", user, got, want)
		}
	}
}

// TestOwnUser is let in to the console by its uid, whatever auth_type is.
func TestOwnUser(t *testing.T) {
	cfg := testConfig()
	cfg.AuthType = config.AuthScram
	f := start(t, cfg)
	const bad = "28P01 SASL authentication failed"
	for _, tt := range []struct{ settings, want string }{
		{"user=pgbouncer dbname=pgbouncer port=6432 host=" + f.unixDir, "ok"},
		{"user=pgbouncer dbname=pgbouncer password=x", bad},
		{"user=pgbouncer dbname=shop password=x port=6432 host=" + f.unixDir, bad},
		{"user=root dbname=pgbouncer password=x port=6432 host=" + f.unixDir, bad},
	} {
		if got := outcome(f.connect(t, tt.settings)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.settings, got, tt.want)
		}
	}
	if len(f.admitted) != 1 || !(<-f.admitted).ownUser {
		t.Error("the operator is not known as such")
	}
}

func TestAny(t *testing.T) {
	cfg := testConfig()
	cfg.AuthType = config.AuthAny
	cfg.Databases["forced"] = &config.Database{Name: "forced", User: "owner"}
	f := start(t, cfg)
	for _, tt := range []struct{ settings, want string }{
		{"user=whoever dbname=forced", "ok"},
		{"user=whoever dbname=shop", "XX000 bouncer config error"},
		{"user=whoever dbname=nowhere", "3D000 no such database: nowhere"},
		{"user=whoever dbname=pgbouncer", "ok"},
	} {
		if got := outcome(f.connect(t, tt.settings)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.settings, got, tt.want)
		}
	}
	if len(f.admitted) != 2 || (<-f.admitted).User != "owner" {
		t.Error("the client is not the database's user")
	}
}

// TestCert compares certificates with users, with auth_type cert and by way of a
// map.
func TestCert(t *testing.T) {
	const (
		failed = "28000 certificate authentication failed"
		rules  = "hostssl shop mapped all cert map=m\nhost all all all cert"
	)
	for _, authType := range []config.AuthType{config.AuthCert, config.AuthHBA} {
		f := hbaFixture(t, rules, "m app.example.com mapped", "app", "mapped", "app.example.com")
		f.cfg.AuthType = authType
		mode := config.SSLVerifyFull
		if authType == config.AuthHBA {
			mode = config.SSLAllow
		}
		f.useTLS(t, mode)
		f.start(t)
		dir := t.TempDir()
		settings := func(ca *backendtest.CA, names ...string) string {
			c, err := ca.Issue(names...)
			if err != nil {
				t.Fatal(err)
			}
			cert, key, err := c.WriteFiles(dir, strings.Join(names, "-"))
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf(" dbname=shop sslmode=require sslcert=%s sslkey=%s", cert, key)
		}
		mapped := map[config.AuthType]string{config.AuthCert: failed, config.AuthHBA: "ok"}[authType]
		for _, tt := range []struct{ settings, want string }{
			{"user=app" + settings(f.ca, "app"), "ok"},
			{"user=app" + settings(f.ca, "other", "app"), "ok"}, // an alternative name
			{"user=app" + settings(f.ca, "other"), failed},
			{"user=APP" + settings(f.ca, "app"), failed},
			{"user=missing" + settings(f.ca, "missing"), failed},
			{"user=mapped" + settings(f.ca, "app.example.com"), mapped},
		} {
			if got := outcome(f.connect(t, tt.settings)); got != tt.want {
				t.Errorf("%v, %s: %q, want %q", authType, tt.settings, got, tt.want)
			}
		}
		if authType == config.AuthHBA {
			for _, without := range []string{"sslmode=require", "sslmode=disable"} {
				if got := outcome(f.connect(t, "user=app dbname=shop "+without)); got != failed {
					t.Errorf("%s: %q, want %q", without, got, failed)
				}
			}
		}
	}
}
