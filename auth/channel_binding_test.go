package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

func TestTLSServerEndPoint(t *testing.T) {
	raw := []byte("a certificate's DER")
	for algorithm, hash := range map[x509.SignatureAlgorithm]crypto.Hash{
		x509.MD5WithRSA:       crypto.SHA256,
		x509.SHA1WithRSA:      crypto.SHA256,
		x509.ECDSAWithSHA1:    crypto.SHA256,
		x509.SHA256WithRSA:    crypto.SHA256,
		x509.SHA384WithRSA:    crypto.SHA384,
		x509.SHA512WithRSA:    crypto.SHA512,
		x509.SHA256WithRSAPSS: crypto.SHA256,
		x509.SHA384WithRSAPSS: crypto.SHA384,
		x509.SHA512WithRSAPSS: crypto.SHA512,
		x509.ECDSAWithSHA256:  crypto.SHA256,
		x509.ECDSAWithSHA384:  crypto.SHA384,
		x509.ECDSAWithSHA512:  crypto.SHA512,
	} {
		h := hash.New()
		h.Write(raw)
		got, err := TLSServerEndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: algorithm})
		if err != nil || string(got) != string(h.Sum(nil)) {
			t.Errorf("%v: %x, %v; want its %v", algorithm, got, err, hash)
		}
	}
	for _, algorithm := range []x509.SignatureAlgorithm{x509.PureEd25519, x509.UnknownSignatureAlgorithm} {
		if got, err := TLSServerEndPoint(&x509.Certificate{Raw: raw, SignatureAlgorithm: algorithm}); err == nil {
			t.Errorf("%v: %x, want an error", algorithm, got)
		}
	}
}

// A real certificate of each kind has the algorithm that is expected of it.
func TestTLSServerEndPointOfCertificates(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		key  crypto.Signer
		want int // bytes; 0: an error
	}{"rsa": {rsaKey, 32}, "p-384": {p384, 48}, "ed25519": {edKey, 0}} {
		got, err := TLSServerEndPoint(newCertificate(t, test.key).Leaf)
		if len(got) != test.want || (err != nil) != (test.want == 0) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, test.want)
		}
	}
}

// newCertificate returns a certificate for 127.0.0.1, signed by itself.
func newCertificate(t *testing.T, key crypto.Signer) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
