package backendtest

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"testing"
)

func TestIssuedCertificateVerifies(t *testing.T) {
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("long-", 12) + ".cluster-c0abcdefghij.us-east-1.rds.amazonaws.com"
	cert, err := ca.Issue(long, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{long, "127.0.0.1"} {
		if _, err := cert.TLS.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: ca.Pool()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := cert.TLS.Leaf.Verify(x509.VerifyOptions{DNSName: "localhost", Roots: ca.Pool()}); err == nil {
		t.Error("verifies for a name it was not issued for")
	}
	if _, err := cert.TLS.Leaf.Verify(x509.VerifyOptions{Roots: other.Pool()}); err == nil {
		t.Error("verifies against another CA")
	}
	if _, err := ca.Issue(); err == nil {
		t.Error("certificate without a name")
	}
}

func TestPEMFilesAreForTheirOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("localhost")
	if err != nil {
		t.Fatal(err)
	}
	caFile, err := ca.WriteFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile, err := cert.WriteFiles(dir, "server")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{caFile, certFile, keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
	}
	if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Error(err)
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		t.Error("no certificate in the CA's file")
	}
}
