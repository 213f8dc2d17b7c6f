package pool

import (
	"context"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/auth"
)

// TestPresentedToken: a token of a client is the only one that there is, so a
// refusal, which may be for a moment, does not lose it. Another one is preferred.
func TestPresentedToken(t *testing.T) {
	p := presentedTokens{byKey: make(map[key]presentedToken)}
	k := key{"app", "user"}
	source := p.source(k)
	want := func(when string, want auth.Token) {
		t.Helper()
		got, err := source.Token(context.Background())
		if got != want || (err == nil) != (want != auth.Token{}) {
			t.Errorf("%s: got another token, or %v", when, err)
		}
	}
	living := func(d time.Duration) auth.Token {
		return auth.Presented("token", auth.Claims{Expires: time.Now().Add(d)})
	}
	long, short := living(10*time.Minute), living(5*time.Minute)
	source.Invalidate(auth.Token{})
	want("nobody came", auth.Token{})
	p.add(k, long)
	p.add(k, short)
	want("two came", long)
	source.Invalidate(long)
	want("refused once", long)
	source.Invalidate(long)
	want("refused twice", long)
	p.add(k, short)
	want("another came after the refusal", short)
	source.Invalidate(long)
	p.add(k, living(time.Minute))
	want("it has not been refused", short)
	p.add(k, living(-time.Minute))
	source.Invalidate(short)
	p.add(k, living(-time.Minute))
	want("expired", auth.Token{})
}
