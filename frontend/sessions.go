package frontend

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// SessionsOptions are the parts that sessions are made of.
type SessionsOptions struct {
	Config func() *config.Config
	Pools  *pool.Pools
	Loops  []*evloop.Loop
	Log    *zap.Logger
}

// Sessions are the clients that have logged in.
type Sessions struct {
	// Static after NewSessions.
	config  func() *config.Config
	pools   *pool.Pools
	log     *zap.Logger
	began   time.Time // what moments count from
	workers []*worker
	keys    cancelKeys
	peers   peers
	groups  groups
	varSets varSets

	turn      atomic.Uint32
	suspended atomic.Bool
	loopsTold sync.Mutex // held while suspended changes and the loops are told
	count     atomic.Int64
	unnamed   atomic.Uint64 // how many Parse messages for unnamed statements there were: the number of the last
}

// NewSweeps returns, for each event loop that is going to be made, the function
// that looks after deadlines, and a function that gives them the sessions made
// later: loops come before the sessions that they serve.
func NewSweeps(n int) (sweeps []func(time.Time) bool, bind func(*Sessions)) {
	workers := make([]atomic.Pointer[worker], n)
	for i := range n {
		sweeps = append(sweeps, func(now time.Time) bool {
			w := workers[i].Load()
			return w != nil && w.sweep(now)
		})
	}
	return sweeps, func(c *Sessions) {
		for i, w := range c.workers {
			workers[i].Store(w)
		}
	}
}

// NewSessions returns an empty set.
func NewSessions(o SessionsOptions) *Sessions {
	c := &Sessions{config: o.Config, pools: o.Pools, log: o.Log, began: time.Now()}
	c.keys.init(o.Config().PeerID)
	c.peers = peers{config: o.Config, log: o.Log, byID: make(map[int]*peerPool)}
	c.groups.byKey = make(map[groupKey]*group)
	for _, l := range o.Loops {
		w := &worker{sessions: c, loop: l, passages: make(map[*passage]struct{}), parting: make(map[*passage]moment)}
		w.giveBack = w.returnLease
		c.workers = append(c.workers, w)
	}
	return c
}

// Count is how many clients there are.
func (c *Sessions) Count() int { return int(c.count.Load()) }

// Admit welcomes a client that has authenticated and gives it to an event loop.
// It waits for a server of the client's pool if none has been seen yet: only a
// server knows what a client must be told. On error the caller still owns the
// connection.
func (c *Sessions) Admit(ctx context.Context, l *Login) error {
	p, err := c.pools.Join(l.Database.Name, l.User)
	if err != nil {
		return err
	}
	if c.pools.Disabled(l.Database.Name) {
		p.RemoveClient()
		return errDisabled.with(fmt.Sprintf(`"%s" is disabled`, l.Database.Name))
	}
	if p.User == l.User {
		p.Learn(pool.Credentials{Secret: l.secret, Keys: l.keys})
	}
	if l.Replication != backend.NoReplication {
		return c.admitReplication(ctx, l, p)
	}
	welcome, err := c.awaitWelcome(ctx, l, p)
	if err != nil {
		p.RemoveClient()
		return err
	}
	tracked := c.pools.Tracked()
	vars := make(backend.Vars, len(welcome.Vars))
	copy(vars, welcome.Vars)
	for _, param := range l.Params {
		vars.Set(tracked, param.Name, param.Value)
	}

	s := c.newSession(l, p.Mode())
	s.believes = c.varSets.of(vars)
	c.enter(s, p, l.User)
	if err := c.welcome(s, l, welcome); err != nil {
		c.leave(s)
		return err
	}
	return nil
}

// place is where a client is, for its label.
func (c *Sessions) place(addr netip.AddrPort, st *evloop.Stream) string {
	if addr.IsValid() {
		return netAddrOf(addr).String()
	}
	return unixPlace(evloop.PeerPID(st.FD()), c.config().ListenPort)
}

// newSession makes the session of a login.
func (c *Sessions) newSession(l *Login, mode config.PoolMode) *session {
	return &session{
		id:        l.ID,
		addr:      addrPortOf(l.Addr),
		local:     unique.Make(addrPortOf(l.LocalAddr)),
		since:     c.moment(l.Since),
		requestAt: c.moment(l.Since), // as PgBouncer shows it
		readyAt:   c.moment(time.Now()),
		release:   l.Release,
		mode:      mode,
		secretLen: uint8(c.keys.secretLength(l)),
		place:     notAdopted,
	}
}

// welcome ends the login and gives the session to its loop. On error the
// connection is closed, or still the caller's.
func (c *Sessions) welcome(s *session, l *Login, welcome *pool.Welcome) error {
	err := l.Write(greeting(welcome, c.pools.Tracked(), s.believes.vars, s.pid, c.keys.secretOf(s.pid, s), c.config().LoginNotifyMessage))
	if err == nil {
		s.stream, err = l.Transport.Detach(l.TLS)
	}
	if err == nil {
		if err = s.w.take(s); err != nil {
			s.stream.Close()
		}
	}
	return err
}

// awaitWelcome waits for what a server of p says of itself, as long as a client may
// wait for a server.
func (c *Sessions) awaitWelcome(ctx context.Context, l *Login, p *pool.Pool) (*pool.Welcome, error) {
	cfg := c.config()
	limit, late := cfg.QueryWaitTimeoutFor(l.Database, l.User), errQueryWaitTimeout
	if query := cfg.QueryTimeoutFor(l.User); query > 0 && (limit == 0 || query < limit) {
		limit, late = query, errQueryTimeoutWaiting
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, late)
		defer cancel()
	}
	welcome, err := p.Welcome(ctx)
	if _, down := errors.AsType[*pool.ServerDownError](err); down && errors.Is(context.Cause(ctx), late) {
		return nil, late
	}
	return welcome, err
}

// enter makes a client known, which its pool counts already.
func (c *Sessions) enter(s *session, p *pool.Pool, user string) {
	w := c.workers[int(c.turn.Add(1))%len(c.workers)]
	s.group = c.groups.join(w, p, user)
	s.pid = c.keys.add(s)
	c.count.Add(1)
}

// leave undoes enter.
func (c *Sessions) leave(s *session) {
	c.keys.remove(s.pid, s)
	c.groups.leave(s.group)
	s.pool.RemoveClient()
	c.count.Add(-1)
}

// sharing reports whether the session changes servers.
func (s *session) sharing() bool { return s.mode != config.PoolModeSession }

// tracking reports whether the names of its statements are managed.
func (s *session) tracking() bool { return s.limits.tracking && s.sharing() }

// greeting is what ends a login: AuthenticationOk, the parameters, the key, a
// notice if there is one, and ReadyForQuery.
func greeting(welcome *pool.Welcome, tracked *backend.Tracked, vars backend.Vars, pid uint32, secret []byte, notice string) []byte {
	b := []byte{wire.Authentication, 0, 0, 0, 8, 0, 0, 0, 0}
	for _, p := range welcome.Params {
		if tracked.Index(p.Name) < 0 {
			b = wire.AppendParameterStatus(b, p.Name, p.Value)
		}
	}
	for i, name := range tracked.Names() {
		if vars[i].Known {
			b = wire.AppendParameterStatus(b, name, vars[i].Value)
		}
	}
	start := len(b)
	b = append(b, wire.BackendKeyData, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, pid)
	b = append(b, secret...)
	wire.PutLen(b[start:], len(b)-start)
	if notice != "" {
		b = wire.AppendError(b, wire.NoticeResponse, "NOTICE", "00000", notice)
	}
	return append(b, wire.MsgReadyIdle...)
}

// ClientInfo is the state of one client at one moment, for SHOW CLIENTS.
type ClientInfo struct {
	pool.ConnInfo
	Wait    time.Duration // how long it has been waiting
	PeerPID int           // of a client on a unix socket
}

// Snapshot returns the state of every client. It asks each loop in turn and
// must not be called from one.
func (c *Sessions) Snapshot() []ClientInfo {
	var list []ClientInfo
	for _, w := range c.workers {
		w.loop.Call(func() {
			for _, s := range w.list {
				if s.state < sessionLingering {
					list = append(list, s.info())
				}
			}
			for t := range w.passages {
				list = append(list, t.info())
			}
		})
	}
	return list
}

// info is the state of the session.
func (s *session) info() ClientInfo {
	w := s.w
	i := ClientInfo{ConnInfo: pool.ConnInfo{
		ID: s.id, Database: s.database, User: s.user, State: "idle", Addr: netAddrOf(s.addr), LocalAddr: netAddrOf(s.local.Value()),
		ConnectedAt: w.timeOf(s.since), RequestAt: w.timeOf(s.requestAt), Vars: s.believes.vars, Prepared: len(s.statement),
		FD: s.stream.FD(), Kept: s.in.Len(), Left: s.left, Queued: s.stream.Queued(),
	}}
	switch {
	case s.state == sessionWaiting:
		i.State, i.Wait = "waiting", w.now().sub(s.requestAt)
	case s.lease != nil:
		i.State, i.Link, i.Replication = "active", s.lease.ID, s.lease.Replication
	}
	if n := w.sessions.pools.Tracked().Index("application_name"); n >= 0 {
		i.ApplicationName = i.Vars[n].Value
	}
	if cs, ok := s.stream.TLS(); ok {
		i.TLS = &cs
	}
	if !s.addr.IsValid() {
		i.PeerPID = evloop.PeerPID(i.FD)
	}
	return i
}

// each runs fn for every session that is not on its way out, on the session's
// loop, and returns when all is done.
func (c *Sessions) each(fn func(*session)) {
	for _, w := range c.workers {
		w.loop.Call(func() {
			w.config() // what follows from a new one holds for the next request
			for i := range slices.Backward(w.list) {
				if i < len(w.list) && w.list[i].state < sessionLingering {
					fn(w.list[i])
				}
			}
		})
	}
}

// Kill ends the sessions of a database ("" for all), with err as the reason.
func (c *Sessions) Kill(database string, err error) {
	c.each(func(s *session) {
		if database == "" || s.database == database {
			s.fatal(err)
		}
	})
	c.eachPassage(func(t *passage) {
		if database == "" || t.pool.Database == database {
			t.end(err.Error())
		}
	})
}

// KillClient ends the session that the console shows with this id; it reports
// whether there is one.
func (c *Sessions) KillClient(id int) bool {
	found := false
	c.each(func(s *session) {
		if shownID(s.id) == id {
			found = true
			s.fatal(errKilled)
		}
	})
	c.eachPassage(func(t *passage) {
		if shownID(t.id) == id {
			found = true
			t.end(errKilled.Error())
		}
	})
	return found
}

// KillGone ends the sessions whose database the configuration no longer has, or
// has with another user.
func (c *Sessions) KillGone() {
	c.each(func(s *session) {
		if p, err := c.pools.Get(s.database, s.user); err != nil || p != s.pool {
			s.fatal(pool.ErrDatabaseRemoved)
		}
	})
	c.eachPassage(func(t *passage) {
		if p, err := c.pools.Get(t.pool.Database, ""); err != nil || p != t.pool {
			t.end(pool.ErrDatabaseRemoved.Error())
		}
	})
}

// Close closes every client's connection at once and without a word, as
// PgBouncer does at the end.
func (c *Sessions) Close() {
	for _, w := range c.workers {
		w.loop.Call(func() {
			for len(w.list) > 0 {
				w.list[len(w.list)-1].end("shutdown")
			}
			for t := range w.passages {
				t.end("shutdown")
			}
		})
		w.loop.Call(func() {}) // their servers have been given back by then
	}
}
