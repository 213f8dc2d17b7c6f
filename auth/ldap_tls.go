package auth

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// ldapTLS says how the certificate of an LDAP server is verified: against the
// system's authorities, unless the settings of libldap say otherwise. PgBouncer
// and PostgreSQL leave it to that library, so what is set up for them holds here:
// TLS_CACERT and TLS_REQCERT in ldap.conf, then in the file that LDAPCONF names,
// then in the environment (LDAPTLS_CACERT, LDAPTLS_REQCERT), the last one
// counts; with LDAPNOINIT, none. It is read anew each time, so that a change
// needs no restart.
func ldapTLS(serverName string) (*tls.Config, error) {
	c := &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS12}
	settings, err := ldapConf()
	if err != nil {
		return nil, err
	}
	if path := settings["TLS_CACERT"]; path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("TLS_CACERT: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("TLS_CACERT: %s holds no certificate", path)
		}
	}
	switch strings.ToLower(settings["TLS_REQCERT"]) {
	case "never", "allow":
		c.InsecureSkipVerify = true //nolint:gosec // whoever runs this has asked for it
	}
	return c, nil
}

// ldapConf returns what libldap is told of TLS.
func ldapConf() (map[string]string, error) {
	settings := map[string]string{}
	if os.Getenv("LDAPNOINIT") != "" {
		return settings, nil
	}
	for _, path := range []string{"/etc/ldap/ldap.conf", "/etc/openldap/ldap.conf", os.Getenv("LDAPCONF")} {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("settings of libldap: %w", err)
		}
		for line := range strings.Lines(string(b)) {
			line = strings.TrimRight(line, blanks)
			if end := strings.IndexAny(line, blanks); end > 0 && line[0] != '#' {
				settings[strings.ToUpper(line[:end])] = strings.TrimLeft(line[end:], blanks)
			}
		}
	}
	for _, name := range []string{"TLS_CACERT", "TLS_REQCERT"} {
		if value, ok := os.LookupEnv("LDAP" + name); ok {
			settings[name] = value
		}
	}
	return settings, nil
}
