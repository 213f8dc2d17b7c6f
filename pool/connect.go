package pool

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
)

// launch opens connections for those who wait, as far as the limits go. mu is
// held.
func (p *Pool) launch() {
	for !p.queued && p.mayLaunch(p.connecting) { // else the arbiter does it
		since, needed := p.needs(p.connecting)
		if !needed || !p.set.limits.take(p, urgent(since)) {
			return
		}
		p.start(since)
	}
}

// start begins a login that is needed since then and has a place under the
// limits. mu is held.
func (p *Pool) start(since time.Time) {
	if p.full(p.connecting) {
		p.log.Warn("taking connection from reserve_pool", zap.String("database", p.Database), zap.String("user", p.User))
	}
	p.connecting++
	if w := p.waiting.head; w != nil && w.dedicated != nil {
		p.waiting.remove(w)
		p.dedicating++
		close(w.dedicated)
		return
	}
	p.set.goroutines.Go(func() { p.open(want{since: since}) })
}

// full reports whether another server, beside those that are being connected,
// would be one of the reserve. mu is held.
func (p *Pool) full(connecting int) bool {
	return p.size > 0 && len(p.leases)+connecting >= p.size
}

// mayLaunch reports whether one more login is allowed, as far as it is for the
// pool to say. mu is held.
func (p *Pool) mayLaunch(connecting int) bool {
	switch {
	case p.db == nil || p.paused || p.set.closing.Load() || p.set.ctx.Err() != nil:
		return false
	case p.full(connecting - p.reserve):
		return false
	case connecting >= p.set.config().ServerLoginParallelFor(p.db): // more would only wait for each other
		return false
	case p.failed != nil && time.Now().Before(p.retryAt):
		return false
	}
	return true
}

// nobodyWaits puts a login that no client waits for behind those that one does.
const nobodyWaits = time.Hour

// needs reports whether the pool needs another server beside those that are
// being connected, and since when. mu is held.
func (p *Pool) needs(connecting int) (since time.Time, ok bool) {
	if p.db == nil {
		return time.Time{}, false
	}
	now, full := time.Now(), p.full(connecting)
	if w := p.waiting.at(connecting - p.dedicating + p.nearlyFree()); w != nil && (!full || now.Sub(w.since) >= p.reserveAfter) {
		return w.since, true
	}
	if full {
		return time.Time{}, false
	}
	if connecting == 0 && p.welcome == nil && len(p.wantWelcome) > 0 {
		return p.wantedSince, true
	}
	if len(p.leases)+connecting < p.minSize && (p.db.User == p.User || p.clients > 0) && !now.Before(p.refillAt) {
		return now.Add(nobodyWaits), true
	}
	return time.Time{}, false
}

// urgent reports whether a client waits for a login that is needed since then.
func urgent(since time.Time) bool { return !since.After(time.Now()) }

// claim is how many logins clients wait for now, and since when. mu is held.
func (p *Pool) claim() (n int, since time.Time) {
	for p.mayLaunch(p.connecting + n) {
		s, needed := p.needs(p.connecting + n)
		if !needed || !urgent(s) {
			break
		}
		if n == 0 {
			since = s
		}
		n++
	}
	return n, since
}

// soon is how long those who wait do without a new server because one that is
// being checked or reset is about to come.
const soon = time.Second

// nearlyFree is how many servers the caretaker has had for a moment only, and
// not for the sake of a client that left in the middle of something. mu is held.
func (p *Pool) nearlyFree() int {
	n := 0
	since := time.Now().Add(p.set.cancelTimeout() - soon)
	for l := range p.leases {
		if l.state == stateTested && l.brief && l.deadline.After(since) {
			n++
		}
	}
	return n
}

// want is what a login is for.
type want struct {
	since    time.Time // when somebody began to need it
	replaces *Lease    // the server that it is to replace; nil: none
}

// open makes one server, which goes to the oldest waiter.
func (p *Pool) open(w want) {
	err := p.servers.CreateResource(context.WithValue(p.set.ctx, wantKey{}, w)) // calls connect

	p.mu.Lock()
	defer p.mu.Unlock()
	p.connecting--
	defer p.set.changed()
	if w.replaces != nil {
		p.replaced(w.replaces, err)
	}
	if err != nil {
		p.set.limits.give(p, false)
	}
	switch {
	case errors.Is(err, errNotNeeded):
		p.launch()
		return
	case err != nil:
		p.loginFailed(err)
		return
	}
	p.failed, p.failures = nil, 0
	p.logins.succeeded++
	p.idle++
	p.dispatch()
	p.closeStale() // it may have become unwanted meanwhile
	p.launch()
}

// wantKey is under which the context of connect has the want of open: puddle
// hands nothing else through.
type wantKey struct{}

// errNotNeeded ends a login whose turn came when nobody needed it any more.
var errNotNeeded = errors.New("server is not needed any more")

// admit returns what lets a login to t begin, see governor.
func (p *Pool) admit(t *backend.Target, w want) func(context.Context) (func(), error) {
	return func(ctx context.Context) (func(), error) {
		leave, err := p.set.governor.enter(ctx, endpointOf(t.Host, t.Port), w.since, t.IAM != nil)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		_, needed := p.needs(p.connecting - 1)
		if w.replaces != nil {
			_, needed = p.leases[w.replaces]
		}
		p.mu.Unlock()
		if !needed {
			leave()
			return nil, errNotNeeded
		}
		return leave, nil
	}
}

// connect is puddle's constructor: it logs in and gives the server, parked, to
// a loop.
func (p *Pool) connect(ctx context.Context) (*Lease, error) {
	p.mu.Lock()
	if p.db == nil {
		p.mu.Unlock()
		return nil, ErrDatabaseRemoved
	}
	hosts, generation := p.order(time.Now()), p.generation
	p.mu.Unlock()

	w := ctx.Value(wantKey{}).(want)
	var l *Lease
	var params []backend.Parameter
	err := p.eachHost(ctx, hosts, func(t *backend.Target) (err error) {
		l, params, err = p.logIn(ctx, t, generation, p.admit(t, w))
		return err
	})
	if err != nil {
		return nil, err
	}
	s := l.Server

	p.mu.Lock()
	p.leases[l] = struct{}{}
	p.writer = p.writer || slices.Contains(params, backend.Parameter{Name: "in_hot_standby", Value: "off"})
	// A failover brings another server, or the same one in another role.
	if generation == p.generation && (p.welcome == nil || !slices.Equal(p.welcome.Params, params)) {
		p.welcome = newWelcome(params, s.Vars)
		p.answerWelcome(nil)
	}
	p.mu.Unlock()

	loop := p.set.nextLoop()
	if err := loop.Attach(s.Stream, s); err != nil {
		p.mu.Lock()
		delete(p.leases, l)
		p.mu.Unlock()
		s.Close()
		return nil, err
	}
	return l, nil
}

// logIn opens a server that no loop has yet, when admit lets it; params are what
// it said of itself.
func (p *Pool) logIn(ctx context.Context, target *backend.Target, generation uint64, admit func(context.Context) (func(), error)) (l *Lease, params []backend.Parameter, err error) {
	attempt := *target
	attempt.Admit = admit
	login, err := backend.Connect(ctx, &attempt)
	if err != nil {
		return nil, nil, err
	}
	l = &Lease{ID: p.set.NextID(), Pool: p, generation: generation}
	l.care.lease = l
	s, err := backend.NewServer(target, login, backend.ServerOptions{
		Tracked:     p.set.tracked,
		Statements:  p.set.statements,
		MaxPrepared: func() int { return p.set.config().MaxPreparedStatements },
		Pool:        p,
		Parked:      l.onIdleEvent,
	})
	if err != nil {
		return nil, nil, err
	}
	l.Server = s
	l.endOfLife = endOfLife(target, s.ConnectedAt)
	l.log = p.set.log.Named(serverLabel(l))
	if p.set.config().LogConnections {
		l.log.Info("new connection to server (from " + s.LocalAddr.String() + ")")
	}
	return l, login.Params, nil
}

// After enoughFailures in a row whoever asks for a server is told, and does not
// wait for the next login.
const enoughFailures = 2

// firstRetry is the pause after the first failure in a row. Each further one
// doubles it, up to server_login_retry.
const firstRetry = 100 * time.Millisecond

// retryPause is how long to wait after so many failures in a row. Pools and
// processes that failed together do not come back together: each takes up to a
// third off.
func retryPause(failures int, most time.Duration) time.Duration {
	pause := most
	if failures < 20 { // firstRetry<<20 is more than a day
		pause = min(most, firstRetry<<max(0, failures-1))
	}
	return pause - rand.N(pause/3+1)
}

// loginFailed notes the failure. If it is the server's last word and there is
// no other server that will be lent again, those who wait are told; while the
// server cannot be reached they wait on, and it is tried again after
// server_login_retry. mu is held.
func (p *Pool) loginFailed(err error) {
	if p.set.ctx.Err() != nil {
		p.answerWelcome(ErrShuttingDown)
		return
	}
	p.failed = err
	if p.connecting == 0 { // the last of those that were tried together
		p.failures++
	}
	if final(err) {
		p.failures = max(p.failures, enoughFailures)
	}
	p.retryAt = time.Now().Add(retryPause(p.failures, p.set.config().ServerLoginRetry))
	what := "login to server: " + err.Error()
	if said, ok := errors.AsType[*backend.LoginError](err); ok {
		what = "server login failed: " + said.Severity + " " + said.Message + ": " + err.Error() // as PgBouncer begins it
	}
	p.log.Warn(what, append([]zap.Field{
		zap.String("database", p.Database), zap.String("user", p.User), zap.Stringer("reason", p.logins.fail(err)),
	}, p.signer()...)...)
	if !p.hasPresent() && final(err) {
		p.refuseAll(err)
		p.answerWelcome(err)
	}
}

// hasPresent reports whether there is a server that is not only waiting to be
// closed because it is older than a RECONNECT. mu is held.
func (p *Pool) hasPresent() bool {
	for l := range p.leases {
		if l.generation == p.generation {
			return true
		}
	}
	return false
}

// final reports whether waiting longer makes no sense: the server, or our own
// configuration, has refused the login. A server that is starting up or
// cannot be reached is worth the wait.
func final(err error) bool {
	if _, ok := errors.AsType[*backend.LoginError](err); ok {
		switch backend.Explain(err).Reason {
		case backend.NoAnswer, // authentication_timeout: RDS's IAM agent has no time for it, on a small instance mostly
			backend.NotReady: // it goes down, has crashed, or comes up
			return false
		}
		return true
	}
	var c *backend.ConnectError
	if !errors.As(err, &c) {
		return true
	}
	switch c.Kind {
	case backend.ConnectFailed, backend.ConnectTimeout, backend.DNSFailed, backend.ConnectionLost:
		return false
	case backend.TLSFailed: // the server, or what is in front of it, has gone in the middle of it
		return !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET)
	}
	return true
}

// Welcome returns what the pool's server said of itself. It opens a connection
// if there has been none yet, and waits for it as long as ctx lives.
func (p *Pool) Welcome(ctx context.Context) (*Welcome, error) {
	p.mu.Lock()
	if p.welcome != nil {
		defer p.mu.Unlock()
		return p.welcome, nil
	}
	if err := p.refusal(time.Now()); err != nil {
		if r := (*RetryError)(nil); !errors.As(err, &r) || final(err) {
			p.mu.Unlock()
			return nil, err
		}
	}
	answer := make(chan welcomeAnswer, 1)
	if len(p.wantWelcome) == 0 {
		p.wantedSince = time.Now()
	}
	p.wantWelcome[answer] = struct{}{}
	p.launch()
	p.mu.Unlock()

	select {
	case a := <-answer:
		return a.welcome, a.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.wantWelcome, answer)
	if p.failed != nil {
		return nil, &ServerDownError{p.failed}
	}
	return nil, &ServerDownError{ctx.Err()}
}

// welcomeAnswer is a Welcome, or the reason why there is none.
type welcomeAnswer struct {
	welcome *Welcome
	err     error
}

// ServerDownError ends a login that has waited for a server in vain.
type ServerDownError struct{ Err error }

func (e *ServerDownError) Error() string {
	return "client_login_timeout (server down): " + e.Err.Error()
}

func (e *ServerDownError) Unwrap() error { return e.Err }

// answerWelcome wakes the logins that wait. mu is held.
func (p *Pool) answerWelcome(err error) {
	for ch := range p.wantWelcome {
		ch <- welcomeAnswer{p.welcome, err}
		delete(p.wantWelcome, ch)
	}
}

// Aurora DSQL ends a session after an hour, in the middle of whatever it does.
// Those that were opened together are closed one after the other before.
const (
	dsqlSession = 55 * time.Minute
	dsqlJitter  = 10 * time.Minute
)

func endOfLife(t *backend.Target, connectedAt time.Time) time.Time {
	if t.IAM == nil || t.IAM.Key.Service != auth.DSQL {
		return time.Time{}
	}
	return connectedAt.Add(dsqlSession - rand.N(dsqlJitter))
}

func newWelcome(params []backend.Parameter, vars backend.Vars) *Welcome {
	w := &Welcome{Params: append([]backend.Parameter(nil), params...), Vars: make(backend.Vars, len(vars))}
	copy(w.Vars, vars)
	return w
}
