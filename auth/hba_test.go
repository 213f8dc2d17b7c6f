package auth

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// hbaFiles are the files that the tests can name with @.
func hbaFiles(path string) ([]byte, error) {
	files := map[string]string{
		"/etc/dbs":      "one, two\n\n# none\n\"th ree\"\n@sub/more\n",
		"/etc/sub/more": "four",
		"/etc/loop":     "@loop",
		"/etc/bad":      "good\n,\n",
		"/abs/users":    "all",
	}
	text, ok := files[path]
	if !ok {
		return nil, errors.New("no such file")
	}
	return []byte(text), nil
}

func TestHBAFind(t *testing.T) {
	const file = `# comment
local   all            postgres                      peer   map=os   # who else
local   sameuser       all                           md5
hostssl secure         all       0.0.0.0/0           scram-sha-256
hostnossl secure       all       all                 reject
host    a,b , "c d"    u,"v ""w""" 10.0.0.0/8        password
host    @dbs           all       192.168.0.0 255.255.255.0 trust
host    all            @/abs/users 172.16.0.0/12     trust
host    replication    rep       10.1.0.0/16         trust
host    "all"          x         ::1/128             cert
host    six            all       fd00::/8            md5
host    everywhere     all       all                 trust`
	ident, bad := ParseIdent([]byte("os root postgres"), "ident")
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	h, bad := ParseHBA([]byte(file), "/etc/hba", ident, hbaFiles)
	if len(bad) > 0 {
		t.Fatal(bad)
	}
	ip := netip.MustParseAddr
	for _, test := range []struct {
		client HBAClient
		want   string
	}{
		{HBAClient{Database: "x", User: "postgres"}, "peer"},
		{HBAClient{Database: "x", User: "x"}, "md5"},
		{HBAClient{Database: "x", User: "y"}, ""},
		{HBAClient{Database: "everywhere", User: "y"}, ""}, // host is not for unix sockets
		{HBAClient{Addr: ip("1.2.3.4"), Database: "secure", User: "y", TLS: true}, "scram-sha-256"},
		{HBAClient{Addr: ip("1.2.3.4"), Database: "secure", User: "y"}, "reject"},
		{HBAClient{Addr: ip("10.255.0.1"), Database: "b", User: "u"}, "password"},
		{HBAClient{Addr: ip("::ffff:10.255.0.1"), Database: "c d", User: `v "w"`}, "password"},
		{HBAClient{Addr: ip("10.255.0.1"), Database: "b", User: "v"}, ""},
		{HBAClient{Addr: ip("192.168.0.9"), Database: "th ree", User: "v"}, "trust"},
		{HBAClient{Addr: ip("192.168.0.9"), Database: "four", User: "v"}, "trust"},
		{HBAClient{Addr: ip("192.168.1.9"), Database: "four", User: "v"}, ""},
		{HBAClient{Addr: ip("172.31.0.1"), Database: "z", User: "v"}, "trust"},
		{HBAClient{Addr: ip("172.32.0.1"), Database: "z", User: "v"}, ""},
		{HBAClient{Addr: ip("10.1.0.1"), User: "rep", Replication: true}, "trust"},
		{HBAClient{Addr: ip("172.31.0.1"), User: "rep", Replication: true}, ""}, // all is not replication
		{HBAClient{Addr: ip("10.1.0.1"), Database: "replication", User: "rep"}, ""},
		{HBAClient{Addr: ip("::1"), Database: "all", User: "x"}, "cert"},
		{HBAClient{Addr: ip("::1"), Database: "q", User: "x"}, ""},
		{HBAClient{Addr: ip("fd12::1"), Database: "six", User: "x"}, "md5"},
		{HBAClient{Addr: ip("fd12::1%eth0"), Database: "six", User: "x"}, "md5"},
		{HBAClient{Addr: ip("1.1.1.1"), Database: "six", User: "x"}, ""},
		{HBAClient{Addr: ip("1.1.1.1"), Database: "everywhere", User: "x"}, "trust"},
	} {
		got := ""
		if r := h.Find(test.client); r != nil {
			got = r.Method.String()
		}
		if got != test.want {
			t.Errorf("%+v: %q, want %q", test.client, got, test.want)
		}
	}
	if m := h.Find(HBAClient{User: "postgres"}).Map; m == nil || m.Name != "os" {
		t.Errorf("the first rule has map %v", m)
	}
	if (*HBA)(nil).Find(HBAClient{}) != nil {
		t.Error("no file lets somebody in")
	}
}

// TestHBABadLines has a good line behind each bad one, which must stay.
func TestHBABadLines(t *testing.T) {
	for line, want := range map[string]string{
		"hosts all all all trust":                  `expected local, host, hostssl or hostnossl, found "hosts"`,
		`"host" all all all trust`:                 `expected local, host, hostssl or hostnossl, found "host"`,
		"host":                                     `expected the name of a database, found the end of the line`,
		"host all, , all all trust":                `expected the name of a database, found a comma`,
		`host "all all all trust`:                  `expected the name of a database, found a quote that nothing closes`,
		"host samerole all all trust":              `samerole is not supported`,
		"host all +admins all reject":              `groups and regular expressions are not supported: "+admins"`,
		"host all /^a all trust":                   `groups and regular expressions are not supported: "/^a"`,
		"host all @nofile all trust":               `@nofile: no such file`,
		"host @loop all all trust":                 `/etc/loop:1: `,
		"host @bad all all trust":                  `/etc/bad:2: expected the name of a database, found a comma`,
		"host all all samehost trust":              `expected all or an address (host names are not supported), found "samehost"`,
		"host all all 10.0.0.0/33 trust":           `expected an address and a number of bits, found "10.0.0.0/33"`,
		"host all all 10.0.0.1/8 trust":            `10.0.0.1/8 has bits outside of its mask, did you mean 10.0.0.0/8?`,
		"host all all 10.0.0.0 trust":              `expected a mask after an address without a number of bits, found "trust"`,
		"host all all 10.0.0.0 255.0.255.0 trust":  `expected a mask after an address without a number of bits, found "255.0.255.0"`,
		"host all all ::ffff:1.0.0.0/128 trust":    `::ffff:1.0.0.0/128 is an IPv4 address in IPv6 clothes: write it as IPv4`,
		"host all all all gss":                     `expected a method that is supported, found "gss"`,
		"local all all":                            `expected a method that is supported, found the end of the line`,
		"local all all peer map=nosuch":            `auth_ident_file has no map "nosuch"`,
		"local all all trust clientcert=verify-ca": `the only option is map=NAME, found "clientcert=verify-ca"`,
	} {
		h, bad := ParseHBA([]byte("\n"+line+"\nlocal all all trust\n"), "/etc/hba", nil, hbaFiles)
		if len(bad) != 1 || !strings.HasPrefix(bad[0].Error(), "/etc/hba:2: "+want) {
			t.Errorf("%s: %v, want /etc/hba:2: %s", line, bad, want)
			continue
		}
		if got := strings.Contains(line, "reject"); bad[0].Rejects != got {
			t.Errorf("%s: rejects %v", line, bad[0].Rejects)
		}
		if r := h.Find(HBAClient{}); r == nil || r.Line != 3 {
			t.Errorf("%s: took the next line with it", line)
		}
	}
}

func TestIdent(t *testing.T) {
	i, bad := ParseIdent([]byte(`# map system user
m os1 db1
m "o s" "all"   # a user of that name
m root  all
n os1 db2
m os1 +group
m /^x y
m
m a
m a b c
`), "ident.conf")
	var lines []int
	for _, b := range bad {
		lines = append(lines, b.Line)
	}
	if !slices.Equal(lines, []int{6, 7, 8, 9, 10}) {
		t.Errorf("bad lines %v: %v", lines, bad)
	}
	for _, test := range []struct {
		system, user string
		want         bool
	}{
		{"os1", "db1", true},
		{"os1", "db2", false},
		{"o s", "all", true},
		{"o s", "db1", false},
		{"root", "anybody", true},
		{"nobody", "db1", false},
	} {
		if got := i.Map("m").Allows([]string{"other", test.system}, test.user); got != test.want {
			t.Errorf("%q as %q: %v", test.system, test.user, got)
		}
	}
	if i.Map("o") != nil || (*Ident)(nil).Map("m") != nil {
		t.Error("a map is made of nothing")
	}
}

// FuzzHBA checks that a line is either used or complained about, once, whatever
// it holds, and that one that lets somebody in says so itself.
func FuzzHBA(f *testing.F) {
	for _, s := range []string{
		"host all all 10.0.0.0/8 md5", `local "a""b",c @dbs peer map=m`, "host a b 1.2.3.4 255.0.0.0 trust", "hostssl @loop", `"`,
	} {
		f.Add(s)
	}
	ident, _ := ParseIdent([]byte("m a b"), "ident")
	f.Fuzz(func(t *testing.T, s string) {
		h, bad := ParseHBA([]byte(s), "/etc/hba", ident, hbaFiles)
		lines := 0
		for line := range strings.Lines(s) {
			if readWords(line).kind != wordEnd {
				lines++
			}
		}
		if len(h.rules)+len(bad) != lines {
			t.Errorf("%d rules and %d bad lines of %d", len(h.rules), len(bad), lines)
		}
		for _, r := range h.rules {
			if line := strings.Split(s, "\n")[r.Line-1]; !strings.Contains(line, r.Method.String()) {
				t.Errorf("line %q has method %v", line, r.Method)
			}
		}
		for _, addr := range []string{"10.1.2.3", "::1"} {
			h.Find(HBAClient{Addr: netip.MustParseAddr(addr), Database: "a", User: "b", TLS: true})
		}
	})
}
