package pool

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
)

// Errors of PassThrough.
var (
	ErrPassageLimit  = errors.New("as many clients are passed through as max_db_connections allows")
	ErrPassagePaused = errors.New("the database is paused")

	ErrPassageDisabled = errors.New("the database is disabled")
)

// PassThrough opens a connection to the server of a database in passthrough mode
// for one client. If that has named one of the database's hosts, no other one will
// do: its certificate would be for another name. The connection counts as one of
// the pool's servers, busy until end is called. Errors but those of this package
// are those of backend.Open.
func (ps *Pools) PassThrough(ctx context.Context, database, name string, askTLS bool) (p *Pool, server *evloop.Transport, end func(), err error) {
	if p, err = ps.Get(database, ""); err != nil {
		return nil, nil, nil, err
	}
	if ps.Disabled(database) {
		return nil, nil, nil, ErrPassageDisabled
	}
	var hosts []*host
	p.mu.Lock()
	if err = p.noPassage(); err == nil {
		p.passages++
		hosts = p.hostsFor(name)
	}
	p.mu.Unlock()
	if err != nil {
		return nil, nil, nil, err
	}
	end = func() {
		p.mu.Lock()
		p.passages--
		p.mu.Unlock()
		ps.changed()
	}
	err = p.eachHost(ctx, hosts, func(t *backend.Target) (err error) {
		server, err = backend.Open(ctx, t, askTLS)
		return err
	})
	if err != nil {
		end()
		return nil, nil, nil, err
	}
	return p, server, end, nil
}

// hostsFor returns the hosts to try for a client that wants to be passed through to
// the host of that name, "" for none. mu is held.
func (p *Pool) hostsFor(name string) []*host {
	for _, h := range p.hosts {
		if strings.EqualFold(h.target.Host, name) {
			// A copy: that clients ask for it does not make it the pool's choice.
			return []*host{{target: h.target}}
		}
	}
	return p.order(time.Now())
}

// noPassage is why no client can be passed through now, nil if one can. mu is
// held.
func (p *Pool) noPassage() error {
	if err := p.noPassages(); err != nil {
		return err
	}
	if limit := p.set.config().MaxDBConnectionsFor(p.db); limit > 0 && p.passages >= limit {
		return ErrPassageLimit
	}
	return nil
}

// noPassages is why nobody can be passed through now, nil if there is no such
// reason. mu is held.
func (p *Pool) noPassages() error {
	switch {
	case p.db == nil:
		return ErrDatabaseRemoved
	case p.set.closing.Load():
		return ErrShuttingDown
	case p.paused:
		return ErrPassagePaused
	}
	return nil
}

// BeginPassage counts in a client from PassThrough, unless it has come too late:
// since then the database may have been removed, paused or killed. RemoveClient
// must follow in any case.
func (p *Pool) BeginPassage() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients++
	return p.noPassages()
}
