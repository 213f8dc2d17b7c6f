package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestTokenFirstCallersShareOneSigning(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		c.gate = make(chan struct{})
		impatient, leave := context.WithCancelCause(t.Context())
		why := errors.New("client went away")
		var wg sync.WaitGroup
		wg.Go(func() { // the very first caller leaves; the others must not notice
			if _, err := s.Token(impatient, testKey); !errors.Is(err, why) {
				t.Errorf("error %v, want %v", err, why)
			}
		})
		synctest.Wait()
		tokens := make([]Token, 50)
		for i := range tokens {
			wg.Go(func() { tokens[i] = s.mustToken(t, testKey) })
		}
		otherUser := testKey
		otherUser.User = "batch"
		wg.Go(func() { s.mustToken(t, otherUser) })
		synctest.Wait()
		leave(why)
		synctest.Wait()
		close(c.gate)
		wg.Wait()
		for _, got := range tokens {
			if got != tokens[0] || got.Reveal() == "" {
				t.Fatal("callers got different tokens")
			}
		}
		if c.retrievals() != 1 {
			t.Errorf("credentials were asked for %d times", c.retrievals())
		}
		s.wantStats(t, TokenStats{Signed: 2, Served: 51})
	})
}

func TestTokenRefreshedAheadOfNeed(t *testing.T) {
	for _, life := range []time.Duration{15 * time.Minute, 7 * time.Minute, time.Minute} {
		inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
			if life < tokenLifetime {
				c.set(life, nil)
			}
			first := s.mustToken(t, testKey)
			pass(life * 55 / 100)
			if s.mustToken(t, testKey) != first {
				t.Fatal("the token changed too early")
			}
			pass(life*20/100 + sweepInterval) // nobody asks meanwhile
			s.wantStats(t, TokenStats{Signed: 2, Served: 2, Refreshes: 1})
			if second := s.mustToken(t, testKey); second == first || !second.Expires().After(first.Expires()) {
				t.Errorf("life %v: the token was not replaced", life)
			}
		})
	}
}

// Asked again and again, nobody ever waits, and nothing is signed per request.
func TestTokenSteadyUse(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		c.set(time.Hour, nil)
		s.mustToken(t, testKey)
		canceled, cancel := context.WithCancel(t.Context())
		cancel() // a call that had to wait would fail
		for range 24 * 60 * 6 {
			pass(10 * time.Second)
			got, err := s.Token(canceled, testKey)
			if err != nil {
				t.Fatal(err)
			}
			if left := time.Until(got.Expires()); left < 80*time.Second {
				t.Fatalf("a token with %v to live was served", left)
			}
		}
		// 9 to 10.5 minutes each, fewer around the end of credentials.
		if signed := s.Stats().Signed; signed < 24*60*10/105 || signed > 24*60/8 {
			t.Errorf("%d tokens signed in a day", signed)
		}
		if n := c.retrievals(); n < 24 || n > 30 {
			t.Errorf("hourly credentials were asked for %d times in a day", n)
		}
	})
}

func TestTokenUnusedIsDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		s.mustToken(t, testKey)
		pass(14 * time.Minute)
		s.wantStats(t, TokenStats{Signed: 1, Served: 1})
		pass(time.Minute + sweepInterval)
		synctest.Wait()
		s.mu.Lock()
		left := len(s.entries)
		s.mu.Unlock()
		if left != 0 {
			t.Errorf("%d keys are kept that nobody asked for", left)
		}
		s.mustToken(t, testKey)
		s.wantStats(t, TokenStats{Signed: 2, Served: 2})
	})
}

// A token late in its life is still served, and replaced behind the caller.
func TestTokenAskedLate(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		first := s.mustToken(t, testKey)
		pass(12 * time.Minute)
		c.gate = make(chan struct{})
		s.mu.Lock()
		s.chainFor(CredentialKey{}).last = aws.Credentials{} // so that the refresh has to wait
		s.mu.Unlock()
		if s.mustToken(t, testKey) != first {
			t.Error("the caller did not get the token that was there")
		}
		close(c.gate)
		s.wantStats(t, TokenStats{Signed: 2, Served: 2, Refreshes: 1})
		if s.mustToken(t, testKey) == first {
			t.Error("the token was not replaced")
		}
	})
}

func TestTokenLastGoodIsServedWhileRefreshFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, logs := observer.New(zapcore.WarnLevel)
		c := &credentialSource{life: 12 * time.Minute}
		s := NewTokenSource(TokenSourceConfig{Credentials: c, Log: zap.New(core)})
		defer s.Close()
		begin := time.Now()
		s.mustToken(t, testKey)
		c.set(0, errors.New("sts is down"))
		// Up to the end of the credentials, less the margin.
		for time.Since(begin) < 12*time.Minute-31*time.Second {
			if got := s.mustToken(t, testKey); !got.Expires().Equal(begin.Add(12 * time.Minute)) {
				t.Fatalf("expires %v after the first, want 12 minutes", got.Expires().Sub(begin))
			}
			pass(time.Second)
		}
		if logs.Len() == 0 || logs.Len() > 60 {
			t.Errorf("%d warnings", logs.Len())
		}
		if s.Stats().Errors != 0 {
			t.Errorf("%d errors while the old credentials were good", s.Stats().Errors)
		}
		pass(time.Minute)
		if _, err := s.Token(t.Context(), testKey); err == nil || !strings.Contains(err.Error(), "sts is down") {
			t.Errorf("error %v, want the one of the credentials", err)
		}
		c.set(time.Hour, nil)
		pass(errorPause)
		s.mustToken(t, testKey)
	})
}

// Credentials that are gone at once do not take the token with them.
func TestTokenSurvivesFailedRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		first := s.mustToken(t, testKey)
		c.set(0, errors.New("gone"))
		s.mu.Lock()
		s.chainFor(CredentialKey{}).last = aws.Credentials{}
		s.mu.Unlock()
		asked := c.retrievals()
		for range 14*60 + 29 {
			if s.mustToken(t, testKey) != first {
				t.Fatal("another token")
			}
			pass(time.Second)
		}
		if n := c.retrievals() - asked; n < 10 || n > 40 {
			t.Errorf("%d attempts to refresh in five minutes", n)
		}
		pass(errorPause)
		if _, err := s.Token(t.Context(), testKey); err == nil {
			t.Error("a token was served in its last seconds")
		}
	})
}

func TestTokenErrorIsKeptForSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		cause := errors.New("no credentials today")
		c.set(0, cause)
		for range 100 {
			if _, err := s.Token(t.Context(), testKey); !errors.Is(err, cause) {
				t.Fatalf("error %v, want %v", err, cause)
			}
		}
		if c.retrievals() != 1 {
			t.Errorf("100 callers asked %d times", c.retrievals())
		}
		s.wantStats(t, TokenStats{Errors: 1})
		c.set(0, nil)
		if _, err := s.Token(t.Context(), testKey); !errors.Is(err, cause) {
			t.Errorf("error %v, want the one that is kept", err)
		}
		pass(errorPause)
		s.mustToken(t, testKey)
	})
}

func TestTokenInvalidate(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		other := testKey
		other.User = "batch"
		first, otherFirst := s.mustToken(t, testKey), s.mustToken(t, other)
		if c.retrievals() != 1 {
			t.Fatalf("credentials were asked for %d times", c.retrievals())
		}
		upper := testKey
		upper.Host = strings.ToUpper(upper.Host)
		s.Invalidate(upper, first)
		second := s.mustToken(t, testKey)
		if second == first || second.Reveal() == first.Reveal() || c.retrievals() != 2 || c.invalidated != 2 {
			t.Errorf("credentials asked for %d times, invalidated %d times; want new ones and a new token", c.retrievals(), c.invalidated)
		}
		// Again with the old token, as many connections would: nothing.
		for range 20 {
			s.Invalidate(testKey, first)
			s.Invalidate(testKey, Token{})
		}
		if s.mustToken(t, testKey) != second {
			t.Error("an old token dropped the new one")
		}
		// Another token of the credentials that are gone drops only itself.
		s.Invalidate(other, otherFirst)
		if s.mustToken(t, other) == otherFirst || c.retrievals() != 2 {
			t.Errorf("credentials asked for %d times, want only a new token", c.retrievals())
		}
		s.Invalidate(TokenKey{}, first)

		// What a new key does not mend is not the key's fault: within a minute
		// only the token is made anew.
		s.Invalidate(testKey, second)
		third := s.mustToken(t, testKey)
		if third == second || c.retrievals() != 2 {
			t.Errorf("credentials asked for %d times within a minute", c.retrievals())
		}
		pass(invalidatePause)
		s.Invalidate(testKey, third)
		s.mustToken(t, testKey)
		if c.retrievals() != 3 {
			t.Errorf("credentials asked for %d times after a minute, want once more", c.retrievals())
		}
		s.wantStats(t, TokenStats{Signed: 6, Served: 7, Refused: 4})
	})
}

// RDS refuses for a moment while it restarts: that must not cost the credentials
// when nobody gives others just then.
func TestTokenInvalidateWithoutOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		first := s.mustToken(t, testKey)
		c.set(0, errors.New("gone"))
		s.Invalidate(testKey, first)
		second := s.mustToken(t, testKey)
		other := testKey
		other.User = "batch"
		s.mustToken(t, other)
		if second == first || c.retrievals() != 2 {
			t.Errorf("credentials asked for %d times, want once more and a new token", c.retrievals())
		}
		// They are replaced as soon as there are others.
		c.set(0, nil)
		pass(errorPause)
		other.User = "third"
		s.mustToken(t, other)
		if c.retrievals() != 3 {
			t.Errorf("credentials asked for %d times, want once more", c.retrievals())
		}
		other.User = "fourth"
		s.mustToken(t, other)
		if c.retrievals() != 3 {
			t.Errorf("credentials asked for %d times, want no more", c.retrievals())
		}
	})
}

// What was put off while the old token lived is not put off without it.
func TestTokenInvalidateAfterFailedRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		c.set(8*time.Minute, nil)
		first := s.mustToken(t, testKey)
		pass(6 * time.Minute)
		s.mu.Lock()
		s.chainFor(CredentialKey{}).last = aws.Credentials{}
		s.mu.Unlock()
		c.set(0, errors.New("gone"))
		s.mustToken(t, testKey) // and fails to refresh
		s.wantStats(t, TokenStats{Signed: 1, Served: 2, Errors: 1})
		c.set(0, nil)
		s.Invalidate(testKey, first)
		s.mustToken(t, testKey)
	})
}

func TestTokenSourceClose(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		c.gate = make(chan struct{})
		waiting := make(chan error, 1)
		go func() {
			_, err := s.Token(context.Background(), testKey)
			waiting <- err
		}()
		synctest.Wait()
		s.Close()
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that waited got %v", err)
		}
		if _, err := s.Token(t.Context(), testKey); err == nil {
			t.Error("a closed source gives tokens")
		}
		s.Close()
	})
}

// A provider that hangs costs its callers a bounded time.
func TestTokenHangingCredentials(t *testing.T) {
	inBubble(t, func(t *testing.T, s *TokenSource, c *credentialSource) {
		c.gate = make(chan struct{})
		begin := time.Now()
		if _, err := s.Token(t.Context(), testKey); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want a deadline", err)
		}
		if took := time.Since(begin); took != signingTimeout {
			t.Errorf("took %v, want %v", took, signingTimeout)
		}
		c.mu.Lock()
		c.gate = nil
		c.mu.Unlock()
		// What took so long is not asked again at once.
		pass(errorPause)
		asked := c.retrievals()
		if _, err := s.Token(t.Context(), testKey); !errors.Is(err, context.DeadlineExceeded) || c.retrievals() != asked {
			t.Errorf("error %v, asked %d times more", err, c.retrievals()-asked)
		}
		pass(signingTimeout / 2)
		s.mustToken(t, testKey)
	})
}

// Now decides about the cache, without a fake clock around it.
func TestTokenOwnClock(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	s := NewTokenSource(TokenSourceConfig{
		Credentials: new(credentialSource),
		Now: func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		},
	})
	defer s.Close()
	first := s.mustToken(t, testKey)
	mu.Lock()
	now = now.Add(tokenLifetime - servingMargin)
	mu.Unlock()
	if s.mustToken(t, testKey) == first {
		t.Error("a token is served within its margin")
	}
}
