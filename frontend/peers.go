package frontend

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// Several processes behind one address are peers: a cancel request that reaches
// one of them may be for a client of another. With peer_id, keys have
// PgBouncer's form (PgSocket.cancel_key, eight bytes), so that PgBouncer and
// pgvalet can be peers: bytes 1 and 2 are the peer's number, the lower first,
// and the lowest two bits of byte 7 say how often a request may still be
// forwarded. 45 random bits are left.
const (
	peerHops = 3 // in a new key
	peerBits = 3 // of the last byte
)

// peerOf returns the number in a key.
func peerOf(pid uint32) int { return int(pid>>16&0xff | pid&0xff00) }

// peerPID puts the number of a peer into a random pid.
func peerPID(random uint32, peer int) uint32 {
	return random&0xff0000ff | uint32(peer&0xff)<<16 | uint32(peer)&0xff00
}

// defaultCancelWait is cancel_wait_timeout where that is 0.
const defaultCancelWait = 10 * time.Second

// peers forwards cancel requests.
type peers struct {
	config func() *config.Config // static
	log    *zap.Logger           // static

	mu   sync.Mutex // guards byID
	byID map[int]*peerPool
}

// peerPool limits the requests on their way to one peer.
type peerPool struct {
	size            int // static, with places
	places          *semaphore.Weighted
	waiting, active atomic.Int64
}

// PeerPoolInfo says how many cancel requests are on their way to a peer.
type PeerPoolInfo struct {
	ID      int
	Waiting int // for a place in its pool
	Active  int // being sent
}

// PeerPools returns the pools of all peers that have had something to do, by
// number.
func (c *Sessions) PeerPools() []PeerPoolInfo {
	p := &c.peers
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []PeerPoolInfo
	for _, id := range slices.Sorted(maps.Keys(p.byID)) {
		list = append(list, PeerPoolInfo{id, int(p.byID[id].waiting.Load()), int(p.byID[id].active.Load())})
	}
	return list
}

// pool returns the pool of a peer. A changed size is a new pool: the old one
// empties.
func (p *peers) pool(id, size int) *peerPool {
	p.mu.Lock()
	defer p.mu.Unlock()
	pool := p.byID[id]
	if pool == nil || pool.size != size {
		pool = &peerPool{size: size, places: semaphore.NewWeighted(int64(cmp.Or(size, math.MaxInt32)))}
		p.byID[id] = pool
	}
	return pool
}

// forward sends a cancel request for somebody else's client to that peer, and
// returns when the peer has dealt with it.
func (p *peers) forward(ctx context.Context, pid uint32, secret []byte) error {
	cfg := p.config()
	if cfg.PeerID == 0 || len(secret) != shortSecret {
		return nil
	}
	id := peerOf(pid)
	if id == cfg.PeerID || id == 0 {
		return nil // the client is gone
	}
	log := p.log.With(zap.Int("peer", id))
	if secret[shortSecret-1]&peerBits == 0 {
		log.Info("failed to forward cancel request because its TTL was exhausted")
		return nil
	}
	peer := cfg.Peers[id]
	if peer == nil {
		log.Info("could not find peer to forward request to")
		return nil
	}
	secret = slices.Clone(secret)
	secret[shortSecret-1]--

	wait := cmp.Or(cfg.CancelWaitTimeout, defaultCancelWait)
	ctx, cancel := context.WithTimeoutCause(ctx, wait, pool.ErrCancelWait)
	defer cancel()
	log.Debug("forwarding cancellation request to peer")
	places := p.pool(id, cfg.PeerPoolSizeFor(peer))
	err := places.send(ctx, func() error {
		return backend.ForwardCancel(ctx, peer.Host, peer.Port, backend.NewTCPOptions(&cfg.Settings), pid, secret)
	})
	if err != nil {
		log.Warn(fmt.Sprintf("failed to forward cancel request: %v", err))
	}
	return err
}

// send runs fn when there is a place.
func (p *peerPool) send(ctx context.Context, fn func() error) error {
	p.waiting.Add(1)
	err := p.places.Acquire(ctx, 1)
	p.waiting.Add(-1)
	if err != nil {
		return context.Cause(ctx)
	}
	p.active.Add(1)
	defer p.active.Add(-1)
	defer p.places.Release(1)
	return fn()
}
