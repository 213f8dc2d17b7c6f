package backend

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/config"
)

// Step is one of the steps of a login.
type Step uint8

// The steps, in their order. Those up to StepTCP may come several times: once
// for each attempt or address.
const (
	StepToken   Step = iota // with IAM: a token is there
	StepDNS                 // the host's addresses are known
	StepTCP                 // a connection to one of them is open
	StepTLS                 // it is encrypted, and verified as far as sslmode asks for it
	StepRequest             // the server has said how it wants us to prove who we are
	StepLogin               // it has let us in, and is ready for a query
)

// String returns the step in a word.
func (s Step) String() string {
	return [...]string{"token", "dns", "tcp", "tls", "request", "login"}[s]
}

// Trace tells of a step that has ended.
type Trace struct {
	Step   Step
	Took   time.Duration
	Detail string // what has come of it, without any secret; "" after an error
	Err    error
}

// trace tells Target.Trace, if somebody listens.
func (t *Target) trace(s Step, began time.Time, err error, detail func() string) {
	if t.Trace == nil {
		return
	}
	tr := Trace{Step: s, Took: time.Since(began), Err: err}
	if err == nil {
		tr.Detail = detail()
	}
	t.Trace(tr)
}

func listAddrs(addrs []net.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// describeTLS says what the handshake has agreed on, and whom it has met.
func (s *session) describeTLS() string {
	if s.login.TLS == nil {
		return "the server has no TLS, the connection is not encrypted"
	}
	cs := s.login.TLS.ConnectionState()
	leaf := cs.PeerCertificates[0]
	names := leaf.DNSNames
	if len(names) > 4 {
		names = append(names[:4:4], fmt.Sprintf("%d more", len(leaf.DNSNames)-4))
	}
	text := fmt.Sprintf("%s, certificate for %s, valid until %s", tls.VersionName(cs.Version),
		strings.Join(names, ", "), leaf.NotAfter.UTC().Format(time.DateOnly))
	if s.t.SSLMode == config.SSLVerifyFull {
		issuers := make([]string, len(cs.PeerCertificates))
		for i, c := range cs.PeerCertificates {
			issuers[i] = commonName(c.Issuer)
		}
		text += ", signed by " + strings.Join(issuers, ", ")
	} else {
		text += ", its name is not verified (sslmode " + s.t.SSLMode.String() + ")"
	}
	return text
}

func commonName(n pkix.Name) string {
	if n.CommonName != "" {
		return n.CommonName
	}
	return n.String()
}

// requested tells how the server wants us to prove who we are.
func (s *session) requested(method uint32) {
	s.t.trace(StepRequest, s.began, nil, func() string { return requestName(method) })
	s.began = time.Now()
}

// requestName names an authentication request.
func requestName(method uint32) string {
	switch method {
	case pgproto3.AuthTypeOk:
		return "the server asks for nothing"
	case pgproto3.AuthTypeCleartextPassword:
		return "the server asks for a cleartext password"
	case pgproto3.AuthTypeMD5Password:
		return "the server asks for an md5 password"
	case pgproto3.AuthTypeSASL:
		return "the server asks for SCRAM"
	}
	return fmt.Sprintf("the server asks for authentication method %d", method)
}
