package auth

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
)

// TLSServerEndPoint returns the channel-binding data "tls-server-end-point" of
// a server certificate (RFC 5929 section 4.1): its hash, by the hash function
// of its signature, or by SHA-256 where that is MD5 or SHA-1. A signature
// without a hash function of its own (Ed25519) is an error, as in PostgreSQL:
// channel binding is then not possible.
func TLSServerEndPoint(cert *x509.Certificate) ([]byte, error) {
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		sum := sha256.Sum256(cert.Raw)
		return sum[:], nil
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		sum := sha512.Sum384(cert.Raw)
		return sum[:], nil
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		sum := sha512.Sum512(cert.Raw)
		return sum[:], nil
	}
	return nil, fmt.Errorf("tls-server-end-point is not defined for a certificate signed with %v", cert.SignatureAlgorithm)
}
