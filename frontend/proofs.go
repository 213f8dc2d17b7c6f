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
	// maxProving bounds how many tokens are being proved.
	maxProving = 200
)

// proofs remembers which tokens the server has accepted, and for how long they
// live. It has keyed hashes of them and never a token. A token that is
// remembered is not asked about again: a permission that is taken away, or
// credentials that expire, count from the token's end on, as they do for
// connections that are open.
type proofs struct {
	judge   func(ctx, queue context.Context, database, user string, t auth.Token) error // pool.Pools.Prove
	present func(database, user string, t auth.Token)                                   // pool.Pools.Present
	ctx     context.Context
	wg      *sync.WaitGroup // of the goroutines that ask the server
	key     [sha256.Size]byte

	mu         sync.Mutex // guards the fields below
	known      map[tokenHash]verdict
	running    map[tokenHash]*proving
	allowances map[proof]*allowance // those of a source alone have neither database nor user
}

type tokenHash [sha256.Size]byte

// verdict is what the server has said of a token.
type verdict struct {
	err   error // nil: accepted
	until time.Time
}

// proving is one time that the server is asked, for all who want to know.
type proving struct {
	allowances [2]*allowance   // of the source, and of the user from it
	queue      context.Context // ends the wait for its turn
	giveUp     context.CancelCauseFunc

	waiting int           // clients; guarded by proofs.mu
	done    chan struct{} // closed when err is set
	err     error
}

// errNobodyWaits is why a token was not shown to the server.
var errNobodyWaits = errors.New("no client waits for the proof any more")

func (ps *proofs) init(ctx context.Context, pools *pool.Pools, wg *sync.WaitGroup) {
	ps.judge, ps.present, ps.ctx, ps.wg = pools.Prove, pools.Present, ctx, wg
	rand.Read(ps.key[:])
	ps.known = make(map[tokenHash]verdict)
	ps.running = make(map[tokenHash]*proving)
	ps.allowances = make(map[proof]*allowance)
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
	for {
		now := time.Now()
		ps.mu.Lock()
		if v, ok := ps.known[h]; ok && now.Before(v.until) {
			ps.mu.Unlock()
			if v.err == nil {
				ps.present(p.database, p.user, t)
			}
			return v.err
		}
		g := ps.running[h]
		var freed <-chan struct{}
		var err error
		if g == nil {
			g, freed, err = ps.begin(now, h, p, t)
		}
		if g != nil {
			g.waiting++
		}
		ps.mu.Unlock()
		if err != nil {
			return err
		}
		if g == nil {
			select {
			case <-freed:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		select {
		case <-g.done:
			if errors.Is(g.err, errNobodyWaits) {
				continue // this client came when it had just been given up
			}
			return g.err
		case <-ctx.Done():
			ps.leave(g)
			return context.Cause(ctx)
		}
	}
}

// begin has a token judged if its source may have that. If it depends on those
// that are being judged, freed is closed when one of them is done. mu is held.
func (ps *proofs) begin(now time.Time, h tokenHash, p proof, t auth.Token) (g *proving, freed <-chan struct{}, err error) {
	if len(ps.running) >= maxProving {
		return nil, nil, errIAMTooMany
	}
	g = &proving{done: make(chan struct{})}
	for i, of := range [...]struct {
		proof
		bounds
	}{{proof{source: p.source}, ofSource}, {p, ofUser}} { // whoever has made up many users is stopped before the second
		a := ps.allowance(now, of.proof, of.bounds)
		switch {
		case a.left > 0:
			g.allowances[i] = a
		case a.running > 0:
			return nil, a.wait(), nil
		default:
			return nil, nil, errIAMTooMany
		}
	}
	for _, a := range g.allowances {
		a.take()
	}
	g.queue, g.giveUp = context.WithCancelCause(ps.ctx)
	ps.running[h] = g
	ps.wg.Go(func() { ps.ask(h, p, t, g) })
	return g, nil, nil
}

// leave is for a client that waits for g no more. When all have left, it is given
// up if the server has not been shown the token yet. Else it goes on: the answer
// is of use to the next, and must count against the source.
func (ps *proofs) leave(g *proving) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if g.waiting--; g.waiting == 0 {
		g.giveUp(errNobodyWaits)
	}
}

// ask has the server judge a token.
func (ps *proofs) ask(h tokenHash, p proof, t auth.Token, g *proving) {
	g.err = ps.judge(ps.ctx, g.queue, p.database, p.user, t)
	g.giveUp(nil)
	now := time.Now()
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.running, h)
	until := func(v verdict) time.Time { return v.until }
	switch {
	case g.err == nil:
		remember(ps.known, now, h, verdict{until: t.Expires()}, until)
	case refused(g.err):
		remember(ps.known, now, h, verdict{g.err, now.Add(refusedPause)}, until)
	}
	for _, a := range g.allowances {
		a.settle(now, g.err)
	}
	close(g.done)
}

// refused reports whether a server has said that a token is not right, or that it
// is of no use: its role is not in rds_iam, does not exist, or may not log in.
func refused(err error) bool {
	e, ok := errors.AsType[*backend.ConnectError](err)
	return backend.IsTokenRefused(err) || ok && e.Kind == backend.AuthImpossible || backend.Explain(err).Reason == backend.RoleRefused
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
