package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

func TestParseLDAP(t *testing.T) {
	for in, want := range map[string]ldapOptions{
		`ldapserver=a.b ldapprefix="uid=" ldapsuffix=",dc=x""y"`: {scheme: "ldap", servers: []string{"a.b"}, prefix: "uid=", suffix: `,dc=x"y`},
		`ldapserver="a b", "ldapport"=1389 ,ldapbasedn="dc=x" ldaptls=1 # comment`: {
			scheme: "ldap", servers: []string{"a", "b"}, port: 1389, baseDN: "dc=x", startTLS: true,
		},
		`ldapserver=a ldapscheme=ldaps ldapbasedn=dc=x ldapbinddn=cn=r ldapbindpasswd=p ldapsearchattribute=mail`: {
			scheme: "ldaps", servers: []string{"a"}, baseDN: "dc=x", bindDN: "cn=r", bindPassword: "p", attribute: "mail",
		},
		`ldapserver=a ldapbasedn=dc=x ldapsearchfilter="(&(uid=$username)(ou=db))"`: {
			scheme: "ldap", servers: []string{"a"}, baseDN: "dc=x", filter: "(&(uid=$username)(ou=db))",
		},
		`ldapurl="ldap://h:99/dc=a,dc=b?mail,uid?one"`:                       {scheme: "ldap", servers: []string{"h"}, port: 99, baseDN: "dc=a,dc=b", attribute: "mail", scope: 1},
		`ldapurl=ldaps://h/dc=a%20b??sub?(|(uid=$username)(mail=$username))`: {scheme: "ldaps", servers: []string{"h"}, baseDN: "dc=a b", filter: "(|(uid=$username)(mail=$username))"},
	} {
		if want.scope == 0 {
			want.scope = subtree
		}
		l, problem := ParseLDAP(in)
		if problem != "" {
			t.Errorf("%s: %s", in, problem)
		} else if got := fmt.Sprintf("%+v", *l.o); got != fmt.Sprintf("%+v", want) {
			t.Errorf("%s: %s, want %+v", in, got, want)
		} else if shown := fmt.Sprintf("%v %+v", l, *l); strings.Trim(shown, "[redact] ") != "" {
			t.Errorf("%s: prints as %s", in, shown)
		}
	}
	for in, want := range map[string]string{
		"":                                       "ldap needs ldapserver",
		"ldapserver=a":                           "ldap needs ldapbasedn",
		"ldapbasedn=x":                           "ldap needs ldapserver",
		"ldapserver":                             `expected name=value, found "ldapserver"`,
		"ldapserver=":                            "ldapserver is empty",
		`ldapserver="a`:                          "ldapserver: a quote that nothing closes",
		"ldapserver=a ldapport=0":                "ldapport must be a port",
		"ldapserver=a ldapscheme=http":           "ldapscheme must be",
		"ldapserver=a ldapbind=x":                `there is no LDAP option "ldapbind"`,
		"ldapserver=a ldapprefix=a ldapbasedn=b": "ldapprefix and ldapsuffix cannot be mixed",
		"ldapserver=a ldapbasedn=b ldapsearchattribute=c ldapsearchfilter=d": "ldapsearchattribute and ldapsearchfilter exclude",
		"ldapurl=http://a/b":            "ldapurl must be",
		"ldapurl=ldap://a/b?c?d":        "the scope in ldapurl",
		"ldapurl=ldap://a/b?%zz":        "ldapurl must be",
		"ldapurl=ldaps://a/b ldaptls=1": "ldaptls cannot be used with ldaps",
	} {
		if l, problem := ParseLDAP(in); l != nil || !strings.HasPrefix(problem, want) {
			t.Errorf("%q: %q, want %q", in, problem, want)
		}
	}
}

func TestLDAPInHBA(t *testing.T) {
	h, bad := ParseHBA([]byte("host all all all ldap ldapserver=a ldapprefix=\"uid=#\" # comment\nhost all all all ldap\n"), "hba", nil, nil)
	if len(bad) != 1 || bad[0].Line != 2 {
		t.Fatalf("bad lines: %v", bad)
	}
	r := h.rules[0]
	if r.Method != MethodLDAP || r.LDAP.o.prefix != "uid=#" || !slices.Equal(r.LDAP.o.servers, []string{"a"}) {
		t.Errorf("rule %+v with %+v", r, r.LDAP.o)
	}
}

func TestLDAPFilter(t *testing.T) {
	for _, tt := range []struct{ attribute, filter, want string }{
		{"", "", `(uid=a\29\2a)`},
		{"mail", "", `(mail=a\29\2a)`},
		{"", "uid=$username", `(uid=a\29\2a)`},
		{"", "(|(uid=$username)(mail=$username))", `(|(uid=a\29\2a)(mail=a\29\2a))`},
	} {
		o := ldapOptions{attribute: tt.attribute, filter: tt.filter}
		if got := o.filterFor("a)*"); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt, got, tt.want)
		}
	}
}

func FuzzParseLDAP(f *testing.F) {
	f.Add(`ldapserver=a ldapprefix="uid=" ,ldapport=1`)
	f.Add(`ldapurl=ldaps://h/dc=a%20b??sub?(|(uid=$username)(mail=$username))`)
	f.Fuzz(func(t *testing.T, s string) {
		if l, problem := ParseLDAP(s); (l == nil) != (problem != "") {
			t.Errorf("%v and %q", l, problem)
		} else if l != nil && len(l.o.urls()) == 0 {
			t.Error("nobody to ask")
		}
	})
}

// slapd starts an OpenLDAP server with two people, and returns its ports, of
// ldap and of ldaps, and the certificate of its authority.
func slapd(t *testing.T) (port, tlsPort, caFile string) {
	t.Helper()
	var program, schema string
	for _, p := range []string{"/usr/sbin/slapd", "/usr/local/libexec/slapd"} {
		if _, err := os.Stat(p); err == nil {
			program = p
		}
	}
	for _, p := range []string{"/etc/ldap/schema", "/etc/openldap/schema", "/usr/local/etc/openldap/schema"} {
		if _, err := os.Stat(p); err == nil {
			schema = p
		}
	}
	if program == "" || schema == "" {
		t.Skip("slapd is not installed")
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := write("slapd.conf", fmt.Sprintf(`
include %[1]s/core.schema
include %[1]s/cosine.schema
include %[1]s/inetorgperson.schema
access to attrs=userPassword by anonymous auth
access to * by dn.exact="uid=reader,dc=example,dc=net" read by anonymous auth
TLSCertificateFile %[2]s/slapd.crt
TLSCertificateKeyFile %[2]s/slapd.key
database ldif
directory %[2]s/data
suffix "dc=example,dc=net"
`, schema, dir))
	if ca, err := backendtest.NewCA(); err != nil {
		t.Fatal(err)
	} else if cert, err := ca.Issue("127.0.0.1"); err != nil {
		t.Fatal(err)
	} else if _, _, err := cert.WriteFiles(dir, "slapd"); err != nil {
		t.Fatal(err)
	} else if caFile, err = ca.WriteFile(dir); err != nil {
		t.Fatal(err)
	}
	people := write("people.ldif", "dn: dc=example,dc=net\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: Example\n"+
		"\ndn: uid=reader,dc=example,dc=net\nobjectClass: inetOrgPerson\nuid: reader\nsn: R\ncn: R\nuserPassword: readerpw\n"+
		"\ndn: uid=ann,dc=example,dc=net\nobjectClass: inetOrgPerson\nuid: ann\nmail: ann@example.net\nsn: A\ncn: A\nuserPassword: annpw\n")
	if out, err := exec.CommandContext(t.Context(), program, "-T", "add", "-f", conf, "-l", people).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	var ports [2]string
	for i := range ports {
		n, err := backendtest.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports[i] = fmt.Sprint(n)
	}
	address := "127.0.0.1:" + ports[1] // the last it listens on
	p, err := backendtest.StartProcess(exec.Command(program, "-f", conf, "-h", "ldap://127.0.0.1:"+ports[0]+" ldaps://"+address, "-d", "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(5*time.Second, syscall.SIGTERM) })
	deadline := time.After(20 * time.Second)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return ports[0], ports[1], caFile
		}
		select {
		case <-p.Done():
			t.Fatalf("slapd has ended: %v", p.Wait())
		case <-deadline:
			t.Fatal(err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestLDAPAuthenticate(t *testing.T) {
	port, _, _ := slapd(t)
	server := "ldapserver=127.0.0.1 ldapport=" + port
	search := server + ` ldapbasedn="dc=example,dc=net" ldapbinddn="uid=reader,dc=example,dc=net" ldapbindpasswd=readerpw `
	for _, tt := range []struct {
		options, user, password string
		want                    string // in the error
	}{
		{server + ` ldapprefix="uid=" ldapsuffix=",dc=example,dc=net"`, "ann", "annpw", ""},
		{server + ` ldapprefix="uid=" ldapsuffix=",dc=example,dc=net"`, "ann", "wrong", "Invalid Credentials"},
		{server + ` ldapprefix="uid=" ldapsuffix=",dc=example,dc=net"`, "ann", "", "an empty password"},
		{server + ` ldapprefix="uid=" ldapsuffix=",dc=example,dc=net"`, "ann,dc=example,dc=net", "annpw", "mean something in a DN"},
		{search, "ann", "annpw", ""},
		{search, "ann", "wrong", "Invalid Credentials"},
		{search, "*", "annpw", "0 entries"},
		{search + "ldapsearchattribute=mail", "ann@example.net", "annpw", ""},
		{search + `ldapsearchfilter="(|(uid=$username)(mail=$username))"`, "ann", "annpw", ""},
		{search + `ldapsearchfilter="objectClass=inetOrgPerson"`, "ann", "annpw", "2 entries"},
		{strings.Replace(search, "readerpw", "wrong", 1), "ann", "annpw", "bind as ldapbinddn"},
		{strings.Replace(search, "ldapserver=127.0.0.1", `ldapserver="127.0.0.2 127.0.0.1"`, 1), "ann", "annpw", ""}, // nobody is at the first
		{search + "ldaptls=1", "ann", "annpw", "ldap: ldap://127.0.0.1"},
	} {
		l, problem := ParseLDAP(tt.options)
		if problem != "" {
			t.Fatal(problem)
		}
		err := l.Authenticate(t.Context(), tt.user, tt.password)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %q with %q: %v, want %q", tt.options, tt.user, tt.password, err, tt.want)
		}
	}
}

// TestLDAPServerHangs ends with the context.
func TestLDAPServerHangs(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	l, problem := ParseLDAP("ldapserver=127.0.0.1 ldapprefix=uid= ldapport=" + port)
	if problem != "" {
		t.Fatal(problem)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err = l.Authenticate(ctx, "ann", "annpw")
	var known *ldap.Error
	if took := time.Since(begin); !errors.As(err, &known) || took >= ldapTimeout {
		t.Errorf("%v after %v", err, took)
	}
}
