package frontend

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/pool"
)

// proof is what a client's IAM token is to be proved for.
type proof struct {
	database, user string
	source         netip.Prefix // who asks
}

const (
	// maxProofs bounds how many tokens and how many sources are remembered.
	maxProofs = 20_000
	// A token that the server has refused is not shown to it again for
	// refusedPause: the refusal may be for a moment only, see docs/client-iam.md.
	refusedPause = 2 * time.Second
	// Each source may have maxRefusals tokens of a user refused in a
	// refusalWindow; after that no new token of it is tried. So nobody can use
	// us to hammer RDS, or to lock others out by the throttling of its logins.
	maxRefusals   = 5
	refusalWindow = time.Minute
	// maxProving bounds how many tokens are being proved.
	maxProving = 200
)

// proofs remembers which tokens the server has accepted, and for how long they
// live. It has keyed hashes of them and never a token. A token that is
// remembered is not asked about again: a permission that is taken away, or
// credentials that expire, count from the token's end on, as they do for
// connections that are open.
type proofs struct {
	pools *pool.Pools
	ctx   context.Context
	wg    *sync.WaitGroup // of the goroutines that ask the server
	key   [sha256.Size]byte

	mu       sync.Mutex // guards the fields below
	known    map[tokenHash]verdict
	running  map[tokenHash]*proving
	refusals map[proof]refusals
}

type tokenHash [sha256.Size]byte

// verdict is what the server has said of a token.
type verdict struct {
	err   error // nil: accepted
	until time.Time
}

// proving is one time that the server is asked, for all who want to know.
type proving struct {
	done chan struct{} // closed when err is set
	err  error
}

// refusals counts those of a source.
type refusals struct {
	n     int
	until time.Time // the end of the window
}

func (ps *proofs) init(ctx context.Context, pools *pool.Pools, wg *sync.WaitGroup) {
	ps.pools, ps.ctx, ps.wg = pools, ctx, wg
	rand.Read(ps.key[:])
	ps.known = make(map[tokenHash]verdict)
	ps.running = make(map[tokenHash]*proving)
	ps.refusals = make(map[proof]refusals)
}

func (ps *proofs) hash(p proof, t auth.Token) (h tokenHash) {
	mac := hmac.New(sha256.New, ps.key[:])
	for _, s := range [...]string{p.database, p.user, t.Reveal()} {
		mac.Write([]byte(s))
		mac.Write([]byte{0}) // which none of them can hold
	}
	mac.Sum(h[:0])
	return h
}

// prove returns nil if the server accepts the token, or has done so before. The
// error is the server's, or why it could not be asked.
func (ps *proofs) prove(ctx context.Context, p proof, t auth.Token) error {
	h := ps.hash(p, t)
	now := time.Now()
	ps.mu.Lock()
	if v, ok := ps.known[h]; ok && now.Before(v.until) {
		ps.mu.Unlock()
		if v.err == nil {
			ps.pools.Present(p.database, p.user, t)
		}
		return v.err
	}
	g := ps.running[h]
	if g == nil {
		if r := ps.refusals[p]; r.n >= maxRefusals && now.Before(r.until) || len(ps.running) >= maxProving {
			ps.mu.Unlock()
			return errIAMTooMany
		}
		g = &proving{done: make(chan struct{})}
		ps.running[h] = g
		ps.wg.Go(func() { ps.ask(h, p, t, g) })
	}
	ps.mu.Unlock()
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ask has the server judge a token. It goes on when the client that began it
// leaves: others may wait, and the answer is of use to the next.
func (ps *proofs) ask(h tokenHash, p proof, t auth.Token, g *proving) {
	g.err = ps.pools.Prove(ps.ctx, p.database, p.user, t)
	now := time.Now()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.running, h)
	switch {
	case g.err == nil:
		remember(ps.known, now, h, verdict{until: t.Expires()}, func(v verdict) time.Time { return v.until })
		delete(ps.refusals, p)
	case refused(g.err):
		remember(ps.known, now, h, verdict{g.err, now.Add(refusedPause)}, func(v verdict) time.Time { return v.until })
		r := ps.refusals[p]
		if !now.Before(r.until) {
			r = refusals{until: now.Add(refusalWindow)}
		}
		r.n++
		remember(ps.refusals, now, p, r, func(r refusals) time.Time { return r.until })
	}
	close(g.done)
}

// refused reports whether a server has said that a token is not right, or not
// even wanted to see it: its role is not in rds_iam, or does not exist.
func refused(err error) bool {
	e, ok := errors.AsType[*backend.ConnectError](err)
	return backend.IsTokenRefused(err) || ok && e.Kind == backend.AuthImpossible
}

// remember puts a value into a map of maxProofs at most. What is over makes
// room, and if that is not enough, whatever comes first: it is asked about again.
func remember[K comparable, V any](m map[K]V, now time.Time, k K, v V, until func(V) time.Time) {
	if _, ok := m[k]; !ok && len(m) >= maxProofs {
		for k, v := range m {
			if !now.Before(until(v)) {
				delete(m, k)
			}
		}
		for k := range m {
			if len(m) < maxProofs {
				break
			}
			delete(m, k)
		}
	}
	m[k] = v
}
