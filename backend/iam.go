package backend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/config"
)

// IAM is where the tokens of a Target come from. Both functions are needed, and
// are called by the goroutine of Connect.
type IAM struct {
	Key        auth.TokenKey                                 // what is signed, for the log
	Token      func(ctx context.Context) (auth.Token, error) // a valid token; called for each attempt to log in
	Invalidate func(auth.Token)                              // the server refused this one: give out another if there is one
}

// iamPause is how long to wait, give or take a quarter, before a refused login
// is tried again: RDS refuses for a moment while it restarts or is throttled.
const iamPause = 200 * time.Millisecond

// connectIAM logs in with a token. RDS answers 28000 to everything it dislikes
// about one, whether that passes or not; so a refused token is given up, and
// the login tried once more, with a new one if there is any. It is tried once
// more too when the server says that there were too many logins.
func (t *Target) connectIAM(ctx context.Context) (*Login, error) {
	if err := t.mayCarryToken(); err != nil {
		return nil, err
	}
	token, l, err := t.connectToken(ctx)
	switch {
	case tokenRefused(err):
		t.warn("server refused an IAM token, trying once more", err)
		t.IAM.Invalidate(token)
	case Explain(err).Reason == LoginThrottled:
		t.warn("server throttles logins, trying once more", err)
	default:
		return l, err
	}
	pause := time.NewTimer(iamPause*3/4 + rand.N(iamPause/2))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	token, l, err = t.connectToken(ctx)
	if e, ok := errors.AsType[*LoginError](err); ok && e.tokenRefused() {
		s := signedFor(token)
		e.suspicion = s.suspicion(e.Message)
		err = fmt.Errorf("%w; %s", err, t.whyRefused(s, e.suspicion))
	}
	return l, err
}

// ConnectWith logs in to t once, with a token that was made elsewhere and is
// handed on as it is. Errors are those of Connect.
func ConnectWith(ctx context.Context, t *Target, token auth.Token) (*Login, error) {
	if err := t.mayCarryToken(); err != nil {
		return nil, err
	}
	with := *t
	with.IAM = &IAM{} // never asked: whoever must have a token for this login is given it
	l, err := with.connect(ctx, token)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.Place(), context.Cause(ctx))
	}
	return l, err
}

// IsTokenRefused reports whether err is the server's refusal of an IAM token.
func IsTokenRefused(err error) bool { return tokenRefused(err) }

// connectToken is one attempt to log in. The token is there before the
// connection is opened: slow credentials must not hold a place at the server.
func (t *Target) connectToken(ctx context.Context) (auth.Token, *Login, error) {
	token, err := t.newToken(ctx)
	if err != nil {
		return token, nil, &ConnectError{Kind: NoToken, Err: err, reason: whyNoToken(err)}
	}
	l, err := t.connect(ctx, token)
	return token, l, err
}

func (t *Target) newToken(ctx context.Context) (auth.Token, error) {
	if t.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.ConnectTimeout)
		defer cancel()
	}
	began := time.Now()
	token, err := t.IAM.Token(ctx)
	t.trace(StepToken, began, err, func() string {
		return fmt.Sprintf("for %v, expires in %v", signedFor(token), time.Until(token.Expires()).Round(time.Second))
	})
	return token, err
}

// mayCarryToken makes sure that nobody but the right server can read a token.
// verify-ca is good enough with authorities of one's own (RDS has them), but
// anybody can have a certificate from those of the operating system.
func (t *Target) mayCarryToken() error {
	switch {
	case t.onUnixSocket():
		return connectError(BadTarget, "an IAM token is sent over verified TLS only, and a unix socket has none")
	case t.SSLMode < config.SSLVerifyCA:
		return connectError(BadTarget, "an IAM token is sent over verified TLS only: sslmode is %s, not verify-full", t.SSLMode)
	case t.SSLMode == config.SSLVerifyCA && (t.TLSConfig == nil || t.TLSConfig.RootCAs == nil):
		return connectError(BadTarget, "an IAM token is sent over verified TLS only: sslmode verify-ca proves nothing with the system's authorities, use verify-full")
	default:
		return nil
	}
}

func tokenRefused(err error) bool {
	e, ok := errors.AsType[*LoginError](err)
	return ok && e.tokenRefused()
}

// tokenRefused reports whether the server did not take the IAM token. RDS Proxy
// and Aurora DSQL have texts of their own for it, under whatever SQLSTATE, and RDS
// Proxy has other texts for what is not the token's fault.
func (e *LoginError) tokenRefused() bool {
	if !e.at.tokenSent || e.at.authenticated {
		return false
	}
	if x, ok := e.byProxy(); ok {
		return x.Reason == TokenRefused
	}
	dsql, _ := e.byDSQL()
	return e.Code == "28000" || strings.HasPrefix(dsql, dsqlDenied) || isDSQL(e.at.action) && strings.HasPrefix(e.Message, "IAM authentication failed")
}
