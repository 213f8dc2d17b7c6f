package pool

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
)

// maxConnecting bounds how many logins to one pool's server are under way at
// once. Logins are dear on both sides: a crowd that has to wait is served
// sooner by a few at a time.
const maxConnecting = 4

// launch opens connections for those who wait, as far as the limits go. mu is
// held.
func (p *Pool) launch() {
	for p.wanted() {
		p.connecting++
		p.set.goroutines.Go(p.open)
	}
}

// wanted reports whether one more login should be started. mu is held.
func (p *Pool) wanted() bool {
	total := len(p.leases) + p.connecting
	switch {
	case p.db == nil || p.paused || p.set.closing.Load() || p.set.ctx.Err() != nil:
		return false
	case p.size > 0 && total >= p.size:
		return false
	case p.connecting >= maxConnecting:
		return false
	case p.failed != nil && time.Now().Before(p.retryAt):
		return false
	}
	if p.connecting+p.nearlyFree() < p.waiting.n {
		return true
	}
	if p.connecting == 0 && p.welcome == nil && len(p.wantWelcome) > 0 {
		return true
	}
	return total < p.minSize && (p.db.User != "" || p.clients > 0)
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

// open makes one server, which goes to the oldest waiter.
func (p *Pool) open() {
	err := p.servers.CreateResource(p.set.ctx) // calls connect

	p.mu.Lock()
	defer p.mu.Unlock()
	p.connecting--
	defer p.set.changed()
	if err != nil {
		p.loginFailed(err)
		return
	}
	p.failed, p.failures = nil, 0
	p.idle++
	p.dispatch()
	p.closeStale() // it may have become unwanted meanwhile
	p.launch()
}

// connect is puddle's constructor: it logs in and gives the server, parked, to
// a loop.
func (p *Pool) connect(ctx context.Context) (*Lease, error) {
	p.mu.Lock()
	target, generation := p.target, p.generation
	p.mu.Unlock()
	if target == nil {
		return nil, ErrDatabaseRemoved
	}

	login, err := backend.Connect(ctx, target)
	if err != nil {
		return nil, err
	}
	l := &Lease{ID: p.set.nextID.Add(1), Pool: p, generation: generation}
	l.care.lease = l
	s, err := backend.NewServer(target, login, backend.ServerOptions{
		Tracked:     p.set.tracked,
		Statements:  p.set.statements,
		MaxPrepared: p.set.config().MaxPreparedStatements,
		Pool:        p,
		Parked:      l.onIdleEvent,
	})
	if err != nil {
		return nil, err
	}
	l.Server = s
	l.log = p.set.log.Named(serverLabel(l))
	if p.set.config().LogConnections {
		l.log.Info("new connection to server (from " + s.LocalAddr.String() + ")")
	}

	p.mu.Lock()
	p.leases[l] = struct{}{}
	if p.welcome == nil && generation == p.generation {
		p.welcome = newWelcome(login.Params, s.Vars)
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

// After enoughFailures in a row, logins are tried every server_login_retry only,
// and whoever asks is told so. The first is followed by a second after secondTry.
const (
	enoughFailures = 2
	secondTry      = 100 * time.Millisecond
)

// loginFailed notes the failure. If it is the server's last word and there is
// no other server, those who wait are told; while the server cannot be reached
// they wait on, and it is tried again after server_login_retry. mu is held.
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
	// One mishap is no outage: it is tried again at once.
	p.retryAt = time.Now().Add(secondTry)
	if p.failures >= enoughFailures {
		p.retryAt = time.Now().Add(p.set.config().ServerLoginRetry)
	}
	p.log.Warn("login to server: "+err.Error(), zap.String("database", p.Database), zap.String("user", p.User))
	if len(p.leases) == 0 && final(err) {
		p.refuseAll(err)
		p.answerWelcome(err)
	}
}

// final reports whether waiting longer makes no sense: the server, or our own
// configuration, has refused the login. A server that is starting up or
// cannot be reached is worth the wait.
func final(err error) bool {
	if said, ok := errors.AsType[*backend.LoginError](err); ok {
		switch said.Code {
		case "57P01", "57P02", "57P03": // it goes down, has crashed, or comes up
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

func newWelcome(params []backend.Parameter, vars backend.Vars) *Welcome {
	w := &Welcome{Params: append([]backend.Parameter(nil), params...), Vars: make(backend.Vars, len(vars))}
	copy(w.Vars, vars)
	return w
}
