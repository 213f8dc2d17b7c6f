package auth

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"
)

const (
	// renewBefore is when credentials are asked for anew, while the old ones
	// still serve if there are no new ones.
	renewBefore = 5 * time.Minute
	// invalidatePause is how long credentials are kept at least, however many
	// of their tokens are refused: what new ones do not mend is not theirs.
	invalidatePause = time.Minute
)

// CredentialKey says whose AWS credentials sign. The zero key is the SDK's
// default chain: environment, web identity, profile, container, EC2.
type CredentialKey struct {
	Profile     string // of the shared configuration files, before the environment; "": the default chain
	RoleARN     string // to be assumed with those credentials; "": none
	ExternalID  string // that the role's trust policy asks for
	SessionName string // of the assumed role, for CloudTrail; "": "pgvalet"
}

// generationCredentials are credentials and the generation they belong to.
type generationCredentials struct {
	aws.Credentials
	generation uint64
}

// chain is the credentials of one CredentialKey, and where they come from. The
// SDK has a cache too, but that one forgets its credentials by the expiry
// window early whether or not there are new ones, or without a window hands
// them out until their last second, or (EC2) gives them a later expiry of its
// own. So the cache is ours, and the SDK's is invalidated before it is asked.
type chain struct {
	key       CredentialKey
	retrieval singleflight.Group // at most one at a time

	// Guarded by TokenSource.mu.
	loaded      *loadedChain    // nil until it is needed
	last        aws.Credentials // the last good ones
	retrievedAt time.Time       // last
	generation  uint64          // how often credentials were invalidated
	invalidated time.Time       // when they were last
	stale       bool            // last are those, and serve only while there are no others
	noRetrieval time.Time       // before that, last is good enough if valid
	err         error           // of the last retrieval
	noAttempt   time.Time       // before that, err holds
	retrieved   uint64          // how often there were new ones
	failed      uint64          // how often there were none
}

// chainFor returns the chain of k. mu is held.
func (s *TokenSource) chainFor(k CredentialKey) *chain {
	c := s.chains[k]
	if c == nil {
		c = &chain{key: k}
		s.chains[k] = c
	}
	return c
}

// credentials returns credentials to sign with. Those who ask at the same time
// share one retrieval.
func (s *TokenSource) credentials(k CredentialKey, region string) (generationCredentials, error) {
	s.mu.Lock()
	c := s.chainFor(k)
	s.mu.Unlock()
	got, err, _ := c.retrieval.Do("", func() (any, error) { return s.retrieve(c, region) })
	if err != nil {
		return generationCredentials{}, err
	}
	return got.(generationCredentials), nil
}

// retrieve returns the credentials of c that there are, or new ones.
func (s *TokenSource) retrieve(c *chain, region string) (generationCredentials, error) {
	s.mu.Lock()
	loaded := c.loaded
	last := generationCredentials{c.last, c.generation}
	now := s.now()
	wanted := now.Add(renewBefore)
	if now.Before(c.noRetrieval) {
		wanted = now
	}
	valid := checkCredentials(last.Credentials, now) == nil
	err, cached, stale := c.err, now.Before(c.noAttempt), c.stale
	s.mu.Unlock()
	switch {
	case stale && cached && valid:
		return last, nil
	case !stale && checkCredentials(last.Credentials, wanted) == nil:
		return last, nil
	case cached && !valid:
		return generationCredentials{}, err
	}

	loaded, creds, err := s.ask(loaded, c.key, region, valid)
	if err == nil {
		if bad := checkCredentials(creds, s.now()); bad != nil {
			bad.Source, bad.Profile, bad.RoleARN = loaded.source, c.key.Profile, loaded.role
			err = bad
		}
	}
	s.keep(c, last, loaded, creds, err, s.now().Sub(now))
	switch {
	case err == nil:
		if creds.AccessKeyID != last.AccessKeyID {
			s.log.Info("aws credentials", zap.String("source", loaded.source), zap.String("role", loaded.role),
				zap.String("access key", keyEnd(creds.AccessKeyID)), zap.String("expires", expiry(creds)))
		}
		return generationCredentials{creds, last.generation}, nil
	case checkCredentials(last.Credentials, s.now()) == nil:
		s.log.Warn("aws credentials not renewed; the last ones still serve", zap.Error(err), zap.String("until", expiry(last.Credentials)))
		return last, nil
	}
	return generationCredentials{}, err
}

// keep notes in c what came of asking, which took so long.
func (s *TokenSource) keep(c *chain, last generationCredentials, loaded *loadedChain, creds aws.Credentials, err error, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	c.loaded, c.err = loaded, err
	if err != nil {
		c.failed++
		// An endpoint that lets everybody wait is asked the less often.
		c.noAttempt = now.Add(max(errorPause, took/2))
		c.noRetrieval = now.Add(min(refreshPause, left(last.Credentials, now)/4))
		return
	}
	c.retrieved++
	if c.generation == last.generation {
		c.last, c.retrievedAt, c.stale = creds, now, false
		c.noRetrieval = now.Add(min(refreshPause, left(creds, now)/2))
	}
}

// ask gets credentials from the SDK; had says that it has given some before
// that are valid still. The chain to use the next time is nil if this one is
// of no more use.
func (s *TokenSource) ask(l *loadedChain, k CredentialKey, region string, had bool) (*loadedChain, aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(s.ctx, signingTimeout)
	defer cancel()
	if l == nil {
		loaded, err := s.load(ctx, k, region)
		if err != nil {
			return nil, aws.Credentials{}, describe(err, loaded, k, had)
		}
		l = loaded
	}
	if cache, ok := l.provider.(interface{ Invalidate() }); ok {
		cache.Invalidate()
	}
	creds, err := l.provider.Retrieve(ctx)
	if err == nil {
		return l, creds, nil
	}
	err = describe(err, l, k, had)
	if cache, ok := l.base.(interface{ Invalidate() }); ok {
		cache.Invalidate() // it may be them that STS does not like
	}
	if ctx.Err() != nil && !l.fixed {
		// What did not answer yet may never do so, and the SDK would make
		// everybody after us wait for it too.
		l = nil
	}
	return l, creds, err
}

// invalidate has other credentials take the place of those of one generation,
// unless that has just been tried. mu is held.
func (c *chain) invalidate(generation uint64, now time.Time) {
	if generation != c.generation || !c.invalidated.IsZero() && now.Sub(c.invalidated) < invalidatePause {
		return
	}
	c.generation++
	c.invalidated = now
	c.stale, c.noRetrieval, c.noAttempt = true, time.Time{}, time.Time{}
}

// checkCredentials refuses what the SDK would sign with all the same.
func checkCredentials(c aws.Credentials, at time.Time) *CredentialError {
	switch {
	case c.AccessKeyID == "" && c.SecretAccessKey == "":
		return &CredentialError{Cause: IncompleteCredentials, Err: errors.New("they are empty")}
	case c.AccessKeyID == "":
		return &CredentialError{Cause: IncompleteCredentials, Err: errors.New("there is no access key ID")}
	case c.SecretAccessKey == "":
		return &CredentialError{Cause: IncompleteCredentials, Err: errors.New("there is no secret access key")}
	case c.CanExpire && !c.Expires.After(at):
		return &CredentialError{Cause: ExpiredCredentials, Err: errors.New("they expired at " + expiry(c))}
	}
	return nil
}

// left is how long c is good for.
func left(c aws.Credentials, now time.Time) time.Duration {
	switch {
	case !c.HasKeys():
		return 0
	case !c.CanExpire:
		return time.Hour
	}
	return max(0, c.Expires.Sub(now))
}

// expiry is when c expires, for log lines.
func expiry(c aws.Credentials) string {
	if !c.CanExpire {
		return "never"
	}
	return c.Expires.UTC().Format(time.RFC3339)
}
