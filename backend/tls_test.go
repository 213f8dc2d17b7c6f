package backend

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

func TestNewServerTLS(t *testing.T) {
	dir := t.TempDir()
	ca, err := backendtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	caFile, err := ca.WriteFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	var certs, keys [2]string
	for i, name := range []string{"a", "b"} {
		cert, err := ca.Issue(name)
		if err != nil {
			t.Fatal(err)
		}
		if certs[i], keys[i], err = cert.WriteFiles(dir, name); err != nil {
			t.Fatal(err)
		}
	}
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("# nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing.pem")

	for _, test := range []struct {
		settings      config.Settings
		roots, client bool
		err           []string
	}{
		{config.Settings{}, false, false, nil},
		{config.Settings{ServerTLSCAFile: "system"}, false, false, nil},
		{config.Settings{ServerTLSCAFile: caFile}, true, false, nil},
		{config.Settings{ServerTLSCertFile: certs[0], ServerTLSKeyFile: keys[0]}, false, true, nil},
		{config.Settings{ServerTLSCAFile: missing}, false, false, []string{"server_tls_ca_file", missing}},
		{config.Settings{ServerTLSCAFile: empty}, false, false, []string{"server_tls_ca_file", "no certificate", empty}},
		{config.Settings{ServerTLSCertFile: missing, ServerTLSKeyFile: keys[0]}, false, false, []string{"server_tls_cert_file", missing}},
		{config.Settings{ServerTLSCertFile: certs[0], ServerTLSKeyFile: missing}, false, false, []string{"server_tls_key_file", missing}},
		{config.Settings{ServerTLSCertFile: certs[0]}, false, false, []string{"server_tls_key_file"}},
		{config.Settings{ServerTLSCertFile: certs[0], ServerTLSKeyFile: keys[1]}, false, false, []string{"server_tls_cert_file", "server_tls_key_file", certs[0], keys[1]}},
		{config.Settings{ServerTLSCertFile: certs[0], ServerTLSKeyFile: empty}, false, false, []string{"server_tls_key_file", empty}},
	} {
		cfg, err := NewServerTLS(&test.settings)
		if (err == nil) != (test.err == nil) {
			t.Errorf("%+v: %v", test.settings, err)
			continue
		}
		for _, want := range test.err {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q in it", err, want)
			}
		}
		if err == nil && ((cfg.RootCAs != nil) != test.roots || (len(cfg.Certificates) > 0) != test.client || cfg.MinVersion != tls.VersionTLS12) {
			t.Errorf("%+v: roots %v, certificates %d, from version %#x", test.settings, cfg.RootCAs != nil, len(cfg.Certificates), cfg.MinVersion)
		}
	}
}

// The whole way, from the files to the server, with the protocols too.
func TestNewServerTLSConnects(t *testing.T) {
	pg, ca := tlsServer.postgres(t)
	dir := t.TempDir()
	caFile, err := ca.WriteFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("certified")
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := cert.WriteFiles(dir, "client")
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		target := target(pg, "certified")
		target.SSLMode = config.SSLVerifyFull
		target.TLSConfig, err = NewServerTLS(&config.Settings{
			ServerTLSCAFile: caFile, ServerTLSCertFile: certFile, ServerTLSKeyFile: keyFile,
			ServerTLSProtocols: config.TLSProtocols{Min: version, Max: version},
		})
		if err != nil {
			t.Fatal(err)
		}
		l := mustConnect(t, target)
		if got := l.TLS.ConnectionState().Version; got != version {
			t.Errorf("version %#x, want %#x", got, version)
		}
	}
}

// A common name counts only where there is no other name at all.
func TestVerifyName(t *testing.T) {
	common := func(name string) x509.Certificate { return x509.Certificate{Subject: pkix.Name{CommonName: name}} }
	both := common("pg.test")
	both.DNSNames = []string{"other.test"}
	addressed := common("pg.test")
	addressed.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	for _, test := range []struct {
		cert x509.Certificate
		name string
		ok   bool
	}{
		{common("pg.test"), "pg.test", true},
		{common("pg.test"), "PG.test", true},
		{common("*.pg.test"), "a.pg.test", true},
		{common("*.pg.test"), "a.b.pg.test", false},
		{common("pg.test"), "wrong.test", false},
		{common("127.0.0.1"), "127.0.0.1", true},
		{common("127.0.0.1"), "127.0.0.2", false},
		{common(""), "pg.test", false},
		{both, "pg.test", false},
		{both, "other.test", true},
		{addressed, "pg.test", false},
		{addressed, "127.0.0.1", true},
	} {
		s := tls.ConnectionState{PeerCertificates: []*x509.Certificate{&test.cert}}
		if err := verifyName(s, test.name); (err == nil) != test.ok {
			t.Errorf("%q, %q for %q: %v", test.cert.Subject.CommonName, test.cert.DNSNames, test.name, err)
		}
	}
}

func TestRDSBundleHint(t *testing.T) {
	for host, want := range map[string]string{
		"db.c0abcdefghij.eu-central-1.rds.amazonaws.com":   "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
		"DB.C0ABCDEFGHIJ.us-gov-west-1.RDS.amazonaws.com.": "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/global/global-bundle.pem",
		"db.c0abcdefghij.rds.cn-north-1.amazonaws.com.cn":  "China",
		"db.c0abcdefghij.cn-north-1.rds.amazonaws.com.cn":  "China",
		"db.example.com":                                 "",
		"rds.amazonaws.com.example.com":                  "",
		"ec2-1-2-3-4.eu-central-1.compute.amazonaws.com": "",
	} {
		if isRDS(host) != (want != "") || want != "" && !strings.Contains(rdsBundle(host), want) {
			t.Errorf("%s: %v, %s", host, isRDS(host), rdsBundle(host))
		}
	}
}
