package frontend

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
)

// alpnPostgreSQL is the registered name of the protocol (PostgreSQL
// documentation, "SSL Session Encryption").
const alpnPostgreSQL = "postgresql"

// NewClientTLS reads the files of client_tls_* and returns what to encrypt
// client connections with, nil if client_tls_sslmode is disable. Errors name
// the setting and its file. The result must be shared between connections, not
// cloned: session tickets come from it.
//
// A client certificate is asked for when client_tls_ca_file is set, and
// verified if the client has one; verify-ca and verify-full, which mean the
// same as in PgBouncer, do not let clients pass without.
func NewClientTLS(s *config.Settings) (*tls.Config, error) {
	if s.ClientTLSSSLMode == config.SSLDisable {
		return nil, nil
	}
	certificate, err := readFile("client_tls_cert_file", s.ClientTLSCertFile)
	if err != nil {
		return nil, err
	}
	key, err := readFile("client_tls_key_file", s.ClientTLSKeyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, fmt.Errorf("client_tls_cert_file %q with client_tls_key_file %q: %w", s.ClientTLSCertFile, s.ClientTLSKeyFile, err)
	}
	suites, err := config.CipherSuites(s.ClientTLSCiphers)
	if err != nil {
		return nil, fmt.Errorf("client_tls_ciphers: %w", err)
	}
	c := &tls.Config{
		Certificates:                []tls.Certificate{pair},
		CipherSuites:                suites,
		MinVersion:                  s.ClientTLSProtocols.Min,
		MaxVersion:                  s.ClientTLSProtocols.Max,
		NextProtos:                  []string{alpnPostgreSQL},
		DynamicRecordSizingDisabled: true, // bulk data in full records
	}
	if s.ClientTLSCAFile != "" {
		ca, err := readFile("client_tls_ca_file", s.ClientTLSCAFile)
		if err != nil {
			return nil, err
		}
		c.ClientCAs = x509.NewCertPool()
		if !c.ClientCAs.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("client_tls_ca_file %q: no certificate in it", s.ClientTLSCAFile)
		}
		c.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if s.ClientTLSSSLMode >= config.SSLVerifyCA {
		if c.ClientCAs == nil {
			return nil, fmt.Errorf("client_tls_ca_file is not set, and client_tls_sslmode is %s", s.ClientTLSSSLMode)
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return evloop.ServerTLS(c), nil
}

// readFile reads the file that a setting names.
func readFile(setting, path string) ([]byte, error) {
	if path == "" {
		return nil, fmt.Errorf("%s is not set", setting)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return b, nil
}
