package frontend

import (
	"sync"
	"time"

	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// group is what the clients of one user and pool on one loop have in common.
// There are few groups and many clients.
type group struct {
	// Static after construction.
	w        *worker
	pool     *pool.Pool
	stats    *pool.Stats
	database string
	user     string // of the clients, not of the servers

	// Owned by the loop.
	limits limits         // of the present configuration,
	cfg    *config.Config // which is this

	members int // guarded by groups.mu
}

// limits are what the configuration allows a client; a timeout of zero is none.
type limits struct {
	query, queryWait, queryNotify, transaction, idleTransaction, idle time.Duration
	maxPacket                                                         int
	noPQExec                                                          bool
	tracking                                                          bool // max_prepared_statements is not 0
}

// configure takes the limits from c.
func (g *group) configure(c *config.Config) {
	if g.cfg == c {
		return
	}
	g.cfg = c
	g.limits = limits{
		query:           c.QueryTimeoutFor(g.user),
		queryNotify:     c.QueryWaitNotify,
		transaction:     c.TransactionTimeoutFor(g.user),
		idleTransaction: c.IdleTransactionTimeoutFor(g.user),
		idle:            c.ClientIdleTimeoutFor(g.user),
		queryWait:       c.QueryWaitTimeout,
		maxPacket:       c.MaxPacketSize,
		noPQExec:        c.DisablePQExec,
		tracking:        c.MaxPreparedStatements > 0,
	}
	if db := c.Database(g.database); db != nil {
		g.limits.queryWait = c.QueryWaitTimeoutFor(db, g.user)
	}
}

// groups are those that have members.
type groups struct {
	mu    sync.Mutex // guards byKey and group.members
	byKey map[groupKey]*group
}

type groupKey struct {
	w    *worker
	pool *pool.Pool
	user string
}

// join returns the group for a new client. leave must follow.
func (gs *groups) join(w *worker, p *pool.Pool, user string) *group {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	k := groupKey{w, p, user}
	g := gs.byKey[k]
	if g == nil {
		g = &group{w: w, pool: p, stats: p.Stats(w.loop), database: p.Database, user: user}
		gs.byKey[k] = g
	}
	g.members++
	return g
}

// leave counts a client out.
func (gs *groups) leave(g *group) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if g.members--; g.members == 0 {
		delete(gs.byKey, groupKey{g.w, g.pool, g.user})
	}
}
