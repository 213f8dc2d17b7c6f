package auth

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLDAPTLSSettings has libldap's settings decide which servers are believed.
func TestLDAPTLSSettings(t *testing.T) {
	port, tlsPort, caFile := slapd(t)
	const (
		good    = ""
		unknown = "certificate signed by unknown authority"
	)
	for _, tt := range []struct{ conf, env, want string }{
		{"", "", unknown},
		{"TLS_REQCERT never", "", good},
		{"# TLS_REQCERT never", "", unknown},
		{"tls_reqcert\t allow \r\n", "", good},
		{"TLS_REQCERT never", "LDAPTLS_REQCERT=demand", unknown},
		{"TLS_REQCERT demand", "LDAPTLS_REQCERT=never", good},
		{"TLS_REQCERT never", "LDAPNOINIT=1", unknown},
		{"TLS_REQCERT nonsense", "", unknown},
		{"TLS_CACERT " + caFile, "", good},
		{"TLS_CACERT /nowhere\nTLS_REQCERT hard", "LDAPTLS_CACERT=" + caFile, good},
		{"TLS_CACERT /nowhere", "", "TLS_CACERT: open /nowhere"},
		{"TLS_CACERT /dev/null", "", "TLS_CACERT: /dev/null holds no certificate"},
	} {
		t.Run(tt.conf+" "+tt.env, func(t *testing.T) {
			conf := filepath.Join(t.TempDir(), "ldap.conf")
			// What stands in the system's own file is not to count.
			if err := os.WriteFile(conf, []byte("TLS_REQCERT demand\n"+tt.conf), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("LDAPCONF", conf)
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			for _, server := range []string{"ldapport=" + port + " ldaptls=1", "ldapscheme=ldaps ldapport=" + tlsPort} {
				l, problem := ParseLDAP(fmt.Sprintf(`ldapserver=127.0.0.1 %s ldapprefix="uid=" ldapsuffix=",dc=example,dc=net"`, server))
				if problem != "" {
					t.Fatal(problem)
				}
				err := l.Authenticate(t.Context(), "ann", "annpw")
				if (err == nil) != (tt.want == good) || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%s: %v, want %q", server, err, tt.want)
				}
			}
		})
	}
}
