package auth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
)

const (
	// tokenLifetime is what BuildAuthToken signs for, and the most RDS accepts.
	tokenLifetime = 15 * time.Minute
	// servingMargin is the last part of a token's life in which it is not
	// handed out, so that it is still valid when it reaches RDS.
	servingMargin = 30 * time.Second
	// signingTimeout bounds one signing with all that AWS may do in it; the SDK
	// gives up on the EC2 metadata service after 5 s, and on a container's
	// endpoint that hangs after some 10.
	signingTimeout = 15 * time.Second
	// A failed signing is not tried again for errorPause, nor, while the last
	// token lives, for up to refreshPause.
	errorPause   = 3 * time.Second
	refreshPause = 15 * time.Second
	// sweepInterval is how often tokens are looked at for refresh and removal.
	sweepInterval = 5 * time.Second
)

// TokenSourceConfig says where a TokenSource takes its credentials from.
type TokenSourceConfig struct {
	// Credentials take the place of the SDK's chains, which are loaded when
	// first needed, one for each CredentialKey. Whoever they are, they are
	// asked when the last ones expire within 5 minutes. If they have an
	// Invalidate method, as *aws.CredentialsCache does, it is called first.
	Credentials aws.CredentialsProvider
	// Now decides what has expired; nil is time.Now. Signatures always carry
	// the time of time.Now.
	Now func() time.Time
	// Log receives what no caller can be told: refreshes that fail, and new
	// credentials. nil: nothing is logged.
	Log *zap.Logger
}

// TokenStats counts since the source was made.
type TokenStats struct {
	Signed    uint64 // tokens signed
	Served    uint64 // tokens handed to callers
	Refreshes uint64 // those of Signed that were made ahead of need
	Errors    uint64 // signings that failed
	Refused   uint64 // tokens that a server refused
}

// TokenSource makes and caches tokens, one per TokenKey, signed ahead of need
// as long as somebody asks for them. It may be used by many goroutines, and
// must be closed.
type TokenSource struct {
	now         func() time.Time
	log         *zap.Logger
	fixed       aws.CredentialsProvider // instead of the SDK's chains, if not nil
	httpTimeout time.Duration           // of each request of the chains

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup // signings and the sweep

	mu      sync.Mutex // guards the following
	entries map[TokenKey]*tokenEntry
	chains  map[CredentialKey]*chain
	stats   TokenStats
}

// tokenEntry is what is known for one key.
type tokenEntry struct {
	token     Token
	refreshAt time.Time
	asked     bool      // since token was signed
	served    uint64    // how often token was handed out
	signing   *signing  // the one under way
	err       error     // of the last signing
	noSigning time.Time // before that, err holds
}

// signing is one attempt; its result is there when done is closed.
type signing struct {
	done  chan struct{}
	token Token
	err   error
}

// NewTokenSource returns a source that has signed nothing yet.
func NewTokenSource(c TokenSourceConfig) *TokenSource {
	s := &TokenSource{
		now:         c.Now,
		log:         c.Log,
		httpTimeout: defaultHTTPTimeout,
		fixed:       c.Credentials,
		entries:     make(map[TokenKey]*tokenEntry),
		chains:      make(map[CredentialKey]*chain),
	}
	if s.now == nil {
		// Without the monotonic reading, which stands still while a machine
		// sleeps and tokens expire.
		s.now = func() time.Time { return time.Now().Round(0) }
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.running.Go(s.sweep)
	return s
}

// Token returns a token for k that is valid for a while yet. It waits, for as
// long as ctx allows, only if there is none: then one signing serves all who
// ask. For a few seconds after a failure it returns the same error at once.
func (s *TokenSource) Token(ctx context.Context, k TokenKey) (Token, error) {
	k = k.normal()
	if err := k.check(); err != nil {
		return Token{}, err
	}
	s.mu.Lock()
	if s.ctx.Err() != nil {
		s.mu.Unlock()
		return Token{}, errors.New("iam token source is closed")
	}
	e := s.entries[k]
	if e == nil {
		e = new(tokenEntry)
		s.entries[k] = e
	}
	now := s.now()
	e.asked = true
	usable := e.token.usable(now)
	if (!usable || !now.Before(e.refreshAt)) && e.signing == nil && !now.Before(e.noSigning) {
		s.sign(k, e, usable)
	}
	if usable {
		s.stats.Served++
		e.served++
		t := e.token
		s.mu.Unlock()
		return t, nil
	}
	g, err := e.signing, e.err
	s.mu.Unlock()
	if g == nil {
		return Token{}, err
	}

	select {
	case <-g.done:
	case <-ctx.Done():
		return Token{}, fmt.Errorf("wait for iam token of %v: %w", k, context.Cause(ctx))
	}
	if g.err != nil {
		return Token{}, g.err
	}
	s.mu.Lock()
	s.stats.Served++
	e.served++
	s.mu.Unlock()
	return g.token, nil
}

// sign starts the one signing of e; ahead says that e has a usable token. The
// caller holds mu, and the source is not closed.
func (s *TokenSource) sign(k TokenKey, e *tokenEntry, ahead bool) {
	g := &signing{done: make(chan struct{})}
	e.signing = g
	s.running.Go(func() {
		g.token, g.err = s.newToken(k)

		s.mu.Lock()
		now := s.now()
		e.signing, e.err, e.noSigning = nil, g.err, time.Time{}
		usable := e.token.usable(now)
		if g.err != nil {
			s.stats.Errors++
			pause := errorPause
			if usable {
				pause = max(pause, min(refreshPause, e.token.v.serveUntil.Sub(now)/4))
			}
			e.noSigning = now.Add(pause)
		} else {
			s.stats.Signed++
			if ahead {
				s.stats.Refreshes++
			}
			e.token, e.asked, e.served = g.token, false, 0
			// At 60 to 70 % of its life: around 10 minutes of 15.
			life := g.token.v.expires.Sub(now)
			e.refreshAt = now.Add(time.Duration((0.6 + 0.1*rand.Float64()) * float64(life)))
		}
		close(g.done)
		s.mu.Unlock()

		if g.err != nil && ahead && s.ctx.Err() == nil {
			s.log.Warn("iam token not refreshed", zap.Error(g.err), zap.Bool("last token still valid", usable))
		}
	})
}

// newToken signs one token, with credentials that it may have to wait for.
func (s *TokenSource) newToken(k TokenKey) (Token, error) {
	c, err := s.credentials(k.Credentials, k.Region)
	if err == nil {
		var t Token
		if t, err = k.sign(s.ctx, c, s.now()); err == nil {
			return t, nil
		}
	}
	return Token{}, fmt.Errorf("no iam token for %v: %w", k, err)
}

// Invalidate is for a token that the server refused: if t is still the one
// cached for k, it is dropped, and so are the credentials that signed it,
// unless another token signed by them was refused before, or others have been
// dropped within the last minute.
func (s *TokenSource) Invalidate(k TokenKey, t Token) {
	k = k.normal()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	if e == nil || t.v == nil || e.token.v != t.v {
		return
	}
	e.token, e.noSigning = Token{}, time.Time{}
	s.stats.Refused++
	s.chainFor(k.Credentials).invalidate(t.v.generation, s.now())
}

// Stats returns the counters.
func (s *TokenSource) Stats() TokenStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close stops signing and waits until nothing runs any more. Callers that wait
// for a token get an error, and so do all later ones.
func (s *TokenSource) Close() {
	s.mu.Lock() // so that no signing begins after this
	s.cancel()
	s.mu.Unlock()
	s.running.Wait()
}

// sweep refreshes the tokens that somebody asked for and drops the dead.
func (s *TokenSource) sweep() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		now := s.now()
		for k, e := range s.entries {
			switch usable := e.token.usable(now); {
			case s.ctx.Err() != nil || e.signing != nil || now.Before(e.noSigning):
			case !usable:
				delete(s.entries, k)
			case e.asked && !now.Before(e.refreshAt):
				s.sign(k, e, true)
			}
		}
		s.mu.Unlock()
	}
}
