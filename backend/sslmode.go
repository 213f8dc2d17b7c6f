package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/config"
)

// attempt is one login at one address; depending on sslmode it takes up to two
// connections.
type attempt struct {
	t     *Target
	ctx   context.Context // ends when the address has had its share of time
	addr  net.Addr
	token auth.Token
}

// encryption is what one connection asks for.
type encryption uint8

const (
	plain     encryption = iota
	tlsIfHas             // TLS, but go on without if the server has none
	tlsAlways            // TLS or nothing
)

// bySSLMode logs in the way the target's SSLMode says: see its documentation.
func (a *attempt) bySSLMode() (*Login, error) {
	mode := a.t.SSLMode
	if a.t.onUnixSocket() {
		mode = config.SSLDisable
	}
	switch mode {
	case config.SSLDisable:
		return a.login(plain)
	case config.SSLAllow:
		l, plainErr := a.login(plain)
		if e, ok := errors.AsType[*LoginError](plainErr); !ok || !e.refused() {
			return l, plainErr
		}
		l, tlsErr := a.login(tlsAlways)
		if tlsErr == nil {
			return l, nil
		}
		if isKind(tlsErr, TLSRefused) {
			return nil, plainErr
		}
		return nil, attemptErrors{tlsErr, withoutTLS{plainErr}}
	case config.SSLPrefer:
		l, tlsErr := a.login(tlsIfHas)
		e, ok := errors.AsType[*LoginError](tlsErr)
		if !(ok && e.at.overTLS && e.refused()) && !isKind(tlsErr, TLSFailed) {
			return l, tlsErr
		}
		l, plainErr := a.login(plain)
		if plainErr == nil {
			return l, nil
		}
		return nil, attemptErrors{tlsErr, withoutTLS{plainErr}}
	default:
		return a.login(tlsAlways)
	}
}

// refused reports whether the server did not like who we are or how we came.
func (e *LoginError) refused() bool {
	return !e.at.authenticated && strings.HasPrefix(e.Code, "28")
}

// withoutTLS marks the error of the attempt that did without. The other one
// goes first, since this one says, more often than not, only that there was no
// TLS.
type withoutTLS struct{ error }

func (e withoutTLS) Error() string { return "without TLS: " + e.error.Error() }
func (e withoutTLS) Unwrap() error { return e.error }

func isKind(err error, k Kind) bool {
	e, ok := errors.AsType[*ConnectError](err)
	return ok && e.Kind == k
}

// tlsConfig returns what crypto/tls needs to talk to t.
func (t *Target) tlsConfig() *tls.Config {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, DynamicRecordSizingDisabled: true}
	if t.TLSConfig != nil {
		cfg = t.TLSConfig.Clone()
	}
	cfg.ServerName = t.ServerName
	if cfg.ServerName == "" {
		cfg.ServerName = t.Host
	}
	cfg.InsecureSkipVerify = true // and do it here
	switch t.SSLMode {
	case config.SSLVerifyFull:
		cfg.VerifyConnection = func(s tls.ConnectionState) error {
			if err := verifyChain(s, cfg.RootCAs); err != nil {
				return err
			}
			return verifyName(s, cfg.ServerName)
		}
	case config.SSLVerifyCA:
		cfg.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, cfg.RootCAs) }
	}
	return cfg
}
