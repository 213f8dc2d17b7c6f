package pool

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
)

// A replication connection is with a walsender, and belongs to one client from
// its login to its end. It takes a place in the pool like any other server, but
// puddle never sees it. Its client waits in the queue for that place: where
// there is none an idle server is closed for its sake, or the next one that
// becomes free.

// Dedication is whom a server of its own is for.
type Dedication struct {
	Loop   *evloop.Loop // that the server is given to
	Client uint64       // the client's number, for the console
	Kind   backend.Replication
	Params []backend.Parameter // of the client's startup packet, for the server's
}

// Dedicate logs in to a server for one client, once there is room for one. The
// lease is the caller's, its server parked; Discard, Return and Abandon all close
// it. A login that fails is the client's own affair, and is not tried again.
func (p *Pool) Dedicate(ctx context.Context, d Dedication) (*Lease, *Welcome, error) {
	refused := make(chan error, 1)
	w := &Waiter{Loop: d.Loop, ID: d.Client, Refused: func(err error) { refused <- err }, dedicated: make(chan struct{})}
	p.mu.Lock()
	if err := p.refusal(time.Now()); err != nil {
		p.mu.Unlock()
		return nil, nil, err
	}
	p.waiting.push(w, time.Now())
	p.launch()
	p.dispatch()
	p.mu.Unlock()

	select {
	case <-w.dedicated:
	case err := <-refused:
		return nil, nil, err
	case <-ctx.Done():
		if p.Leave(w) {
			return nil, nil, &ServerDownError{ctx.Err()}
		}
		select { // one or the other is so, or about to be
		case <-w.dedicated:
		case err := <-refused:
			return nil, nil, err
		}
	}
	l, params, err := p.logInFor(ctx, d, w.since)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.connecting--
	p.dedicating--
	defer p.set.changed()
	defer p.launch()
	if err != nil {
		p.set.limits.give(p, false)
		p.log.Warn("login to server: "+err.Error(), zap.String("database", p.Database), zap.String("user", p.User))
		return nil, nil, err
	}
	p.lend(l, w, time.Now())
	p.leases[l] = struct{}{}
	return l, newWelcome(params, l.Server.Vars), nil
}

func (p *Pool) logInFor(ctx context.Context, d Dedication, since time.Time) (l *Lease, params []backend.Parameter, err error) {
	p.mu.Lock()
	if p.db == nil {
		p.mu.Unlock()
		return nil, nil, ErrDatabaseRemoved
	}
	hosts, generation := p.order(time.Now()), p.generation
	p.mu.Unlock()
	err = p.eachHost(ctx, hosts, func(t *backend.Target) (err error) {
		*t = *t.ForReplication(d.Kind, d.Params)
		l, params, err = p.logIn(ctx, t, generation, func(ctx context.Context) (func(), error) {
			return p.set.governor.enter(ctx, endpointOf(t.Host, t.Port), since, t.IAM != nil)
		})
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	l.Replication = d.Kind
	if err := d.Loop.Attach(l.Server.Stream, l.Server); err != nil {
		l.Server.Close()
		return nil, nil, err
	}
	return l, params, nil
}

// makeRoom reports whether the next free server is to be closed, because the
// place of it is for a client that waits for a server of its own. mu is held.
func (p *Pool) makeRoom() bool {
	w := p.waiting.next()
	if w == nil || w.dedicated == nil || p.paused {
		return false
	}
	w.roomMade = true
	return true
}

// Discard closes a server from Dedicate whose client has gone before it could
// take it into use.
func (l *Lease) Discard(why string) {
	l.Pool.mu.Lock()
	defer l.Pool.mu.Unlock()
	loop := l.Server.Stream.Loop()
	if loop == nil {
		return // its loop has closed it already
	}
	l.Pool.condemn(l, why)
	loop.Post(closeClaimed, l)
}

// dropStale ends the replication connections to what is not the database's server
// any more: nobody ever gives them back. mu is held.
func (p *Pool) dropStale() {
	for l := range p.leases {
		if l.Replication != backend.NoReplication && l.state == stateActive && l.generation != p.generation {
			if loop := l.Server.Stream.Loop(); loop != nil {
				loop.Post(func(any) {
					if l.Server.Stream.OwnedBy(loop) { // else its client has yet to take it into use
						l.Server.Fail(errStale)
					}
				}, nil)
			}
		}
	}
}

var errStale = errors.New("database configuration changed")
