package auth

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	rdsauth "github.com/aws/aws-sdk-go-v2/feature/rds/auth"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
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

// Token is an RDS IAM token: what to send as the password. It prints redacted.
type Token struct {
	redacted
	v *token
}

type token struct {
	text       *string
	expires    time.Time
	serveUntil time.Time
	generation uint64 // of the credentials that signed it
}

// Reveal returns the token itself, for PasswordMessage.
func (t Token) Reveal() string {
	if t.v == nil {
		return ""
	}
	return *t.v.text
}

// Expires returns when RDS stops to accept the token for new logins: 15 minutes
// after it was signed, or when the credentials that signed it expire, if that
// is earlier. Sessions go on.
func (t Token) Expires() time.Time {
	if t.v == nil {
		return time.Time{}
	}
	return t.v.expires
}

func (t Token) usable(now time.Time) bool { return t.v != nil && now.Before(t.v.serveUntil) }

// TokenKey is what is signed. RDS compares it with its own endpoint name and
// with the user of the startup packet; the address dialled does not matter.
type TokenKey struct {
	Host   string // the endpoint's own name, not an alias; its case does not matter
	Port   int
	Region string
	User   string // the case matters
}

func (k TokenKey) String() string {
	return fmt.Sprintf("%s@%s:%d (%s)", k.User, k.Host, k.Port, k.Region)
}

// check refuses what BuildAuthToken would sign although RDS cannot accept it.
func (k TokenKey) check() error {
	const lower, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
	switch {
	case k.Host == "" || strings.Trim(k.Host, lower+digits+".-_") != "":
		return fmt.Errorf("iam host %q is not a host name alone", k.Host)
	case k.Port < 1 || k.Port > 65535:
		return fmt.Errorf("iam port %d is not between 1 and 65535", k.Port)
	case k.Port == 443:
		return errors.New("iam port 443 cannot be signed for: as the default port of https it is left out of the signature")
	case k.Region == "" || strings.Trim(k.Region, lower+digits+"-") != "":
		return fmt.Errorf("iam region %q is not the name of a region", k.Region)
	case k.User == "":
		return errors.New("iam user is empty")
	}
	return nil
}

// TokenSourceConfig says where a TokenSource takes its credentials from.
type TokenSourceConfig struct {
	// Credentials are asked whenever the last ones expire within 5 minutes. If
	// they have an Invalidate method, as *aws.CredentialsCache does, it is
	// called first. nil: the SDK's default chain, loaded when first needed.
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
}

// TokenSource makes and caches tokens, one per TokenKey, signed ahead of need
// as long as somebody asks for them. It may be used by many goroutines, and
// must be closed.
type TokenSource struct {
	now         func() time.Time
	log         *zap.Logger
	httpTimeout time.Duration // of each request of the default chain

	ctx        context.Context // ends with Close
	cancel     context.CancelFunc
	running    sync.WaitGroup // signings and the sweep
	retrievals singleflight.Group

	mu          sync.Mutex // guards the following
	entries     map[TokenKey]*tokenEntry
	stats       TokenStats
	provider    aws.CredentialsProvider // nil until loaded
	last        aws.Credentials         // the last good ones
	generation  uint64                  // how often credentials were invalidated
	noRetrieval time.Time               // before that, last is good enough if valid
}

// tokenEntry is what is known for one key.
type tokenEntry struct {
	token     Token
	refreshAt time.Time
	asked     bool      // since token was signed
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
		entries:     make(map[TokenKey]*tokenEntry),
		provider:    c.Credentials,
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
	k.Host = strings.ToLower(k.Host)
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
			e.token, e.asked = g.token, false
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
	c, err := s.credentials(k.Region)
	if err != nil {
		return Token{}, fmt.Errorf("no iam token for %v: %w", k, err)
	}
	signed := s.now()
	fixed := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return c.Credentials, nil })
	text, err := rdsauth.BuildAuthToken(s.ctx, net.JoinHostPort(k.Host, strconv.Itoa(k.Port)), k.Region, k.User, fixed)
	if err != nil {
		return Token{}, fmt.Errorf("no iam token for %v: %w", k, err)
	}
	expires := signed.Add(tokenLifetime)
	if c.CanExpire && c.Expires.Before(expires) {
		expires = c.Expires
	}
	return Token{v: &token{
		text:       &text,
		expires:    expires,
		serveUntil: expires.Add(-min(servingMargin, expires.Sub(signed)/10)),
		generation: c.generation,
	}}, nil
}

// Invalidate is for a token that RDS refused: if t is still the one cached for
// k, it is dropped, and so are the credentials that signed it, unless another
// token signed by them was refused before.
func (s *TokenSource) Invalidate(k TokenKey, t Token) {
	k.Host = strings.ToLower(k.Host)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[k]
	if e == nil || t.v == nil || e.token.v != t.v {
		return
	}
	e.token, e.noSigning = Token{}, time.Time{}
	if t.v.generation == s.generation {
		s.generation++
		s.last, s.noRetrieval = aws.Credentials{}, time.Time{}
	}
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
