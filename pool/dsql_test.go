package pool

import (
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
)

// Sessions of DSQL are closed before it does that itself, and not all at once.
func TestEndOfLife(t *testing.T) {
	now := time.Now()
	for _, other := range []*backend.Target{{}, {IAM: &backend.IAM{Key: auth.TokenKey{Service: auth.RDS}}}} {
		if got := endOfLife(other, now); !got.IsZero() {
			t.Errorf("%+v ends at %v", other, got)
		}
	}
	seen := make(map[time.Time]bool)
	for range 100 {
		end := endOfLife(&backend.Target{IAM: &backend.IAM{Key: auth.TokenKey{Service: auth.DSQL}}}, now)
		if age := end.Sub(now); age < 45*time.Minute || age > 55*time.Minute {
			t.Fatalf("closed after %v", age)
		}
		seen[end] = true
	}
	if len(seen) < 50 {
		t.Errorf("100 servers end at %d moments", len(seen))
	}

	p := &Pool{db: new(config.Database), set: new(Pools), lifetime: 24 * time.Hour, size: 1, lastRetired: now}
	l := &Lease{Pool: p, Server: &backend.Server{ConnectedAt: now}, endOfLife: now.Add(50 * time.Minute)}
	if why := p.mustClose(l, now.Add(49*time.Minute)); why != "" {
		t.Errorf("closed early: %s", why)
	}
	if why := p.mustClose(l, now.Add(51*time.Minute)); why != "server lifetime over" {
		t.Errorf("not closed: %q", why)
	}
}
