package backend

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/pgvalet/pgvalet/config"
)

// NewServerTLS reads the files that the server_tls_* settings name. The result
// serves every Target of the configuration, which add the name and what to
// verify. No ca_file, or "system", means the authorities of the operating
// system. Errors name the setting and the file.
func NewServerTLS(s *config.Settings) (*tls.Config, error) {
	suites, err := config.CipherSuites(s.ServerTLSCiphers)
	if err != nil {
		return nil, fmt.Errorf("server_tls_ciphers: %w", err)
	}
	cfg := &tls.Config{
		CipherSuites: suites,
		MinVersion:   s.ServerTLSProtocols.Min,
		MaxVersion:   s.ServerTLSProtocols.Max,
		// Bulk data goes in full records from the start.
		DynamicRecordSizingDisabled: true,
	}
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	if f := s.ServerTLSCAFile; f != "" && f != "system" {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("server_tls_ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("server_tls_ca_file: no certificate in %s", f)
		}
	}
	if s.ServerTLSCertFile == "" && s.ServerTLSKeyFile == "" {
		return cfg, nil
	}
	cert, err := os.ReadFile(s.ServerTLSCertFile)
	if err != nil {
		return nil, fmt.Errorf("server_tls_cert_file: %w", err)
	}
	key, err := os.ReadFile(s.ServerTLSKeyFile)
	if err != nil {
		return nil, fmt.Errorf("server_tls_key_file: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("server_tls_cert_file %s, server_tls_key_file %s: %w", s.ServerTLSCertFile, s.ServerTLSKeyFile, err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

// verifyChain is what crypto/tls verifies by itself, without the name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		opts.Intermediates.AddCert(c)
	}
	if _, err := s.PeerCertificates[0].Verify(opts); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return nil
}

// verifyName checks that the server's certificate is for name. One without any
// subject alternative name is for its common name, as it is for libpq and
// PgBouncer: crypto/tls has no such rule, but private authorities still issue
// such certificates.
func verifyName(s tls.ConnectionState, name string) error {
	cert := *s.PeerCertificates[0]
	if len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses)+len(cert.URIs) == 0 {
		if ip := net.ParseIP(cert.Subject.CommonName); ip != nil {
			cert.IPAddresses = []net.IP{ip}
		} else {
			cert.DNSNames = []string{cert.Subject.CommonName}
		}
	}
	if err := cert.VerifyHostname(name); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return nil
}

// handshakeError classifies an error of the handshake itself, and adds what
// an operator can do about it.
func (t *Target) handshakeError(err error) error {
	cert, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		return &ConnectError{Kind: TLSFailed, Err: err}
	}
	hint := ""
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		hint = "server_tls_ca_file must hold the authority that signed it"
		if isRDS(t.Host) || isRDS(t.ServerName) {
			hint = "RDS has authorities of its own: " + rdsBundle(t.Host+t.ServerName) + ", and name the file in server_tls_ca_file"
		}
	} else if _, ok := errors.AsType[x509.HostnameError](err); ok {
		hint = "if host is an alias or a tunnel, server_tls_name says which name to expect"
	} else if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		hint = "it has expired, or is not valid yet: is this machine's clock right?"
	}
	e := &ConnectError{Kind: BadCertificate, Err: cert.Err, hint: sentence(hint)}
	if hint != "" {
		e.Err = fmt.Errorf("%w; %s", cert.Err, hint)
	}
	return e
}

// isRDS reports whether a host name is that of an RDS or Aurora endpoint.
func isRDS(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return strings.Contains(host, ".rds.") &&
		(strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn"))
}

// rdsBundle says how to get the authorities of RDS. Source: Amazon RDS User
// Guide, "Using SSL/TLS to encrypt a connection to a DB instance".
func rdsBundle(host string) string {
	switch {
	case strings.Contains(host, ".amazonaws.com.cn"):
		return "download the bundle for the China regions that the RDS User Guide names"
	case strings.Contains(host, ".us-gov-"):
		return "curl -O https://truststore.pki.us-gov-west-1.rds.amazonaws.com/global/global-bundle.pem"
	default:
		return "curl -O https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
	}
}
