package pool

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/puddle/v2"
)

// This file is what the operator can do to the pools: from the console, by
// signal, and at the end.

// Errors of the console's commands, in PgBouncer's words.
var (
	ErrNoSuchDatabase = errors.New("no such database")
	ErrAlreadyPaused  = errors.New("already suspended/paused")
	ErrNotPaused      = errors.New("pooler is not paused/suspended")
)

// closeStale closes the idle servers that mustClose rejects. mu is held.
func (p *Pool) closeStale() {
	now := time.Now()
	p.closeIdle(func(l *Lease, _ *puddle.Resource[*Lease]) string { return p.mustClose(l, now) })
}

// exists reports whether there is the database; "" stands for all.
func (ps *Pools) exists(database string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return database == "" || ps.known(database)
}

// setPaused changes the state of one database, or of all; it reports whether
// anything was different before.
func (ps *Pools) setPaused(database string, paused bool) bool {
	ps.mu.Lock()
	news := false
	for _, name := range ps.names() {
		if (database == "" || name == database) && ps.paused[name] != paused {
			news = true
			if paused {
				ps.paused[name] = true
			} else {
				delete(ps.paused, name)
			}
		}
	}
	ps.mu.Unlock()
	for _, p := range ps.all(database) {
		p.mu.Lock()
		p.paused = paused
		if paused {
			p.closeStale()
		} else {
			p.dispatch()
			p.launch()
		}
		p.mu.Unlock()
	}
	return news
}

// anyPaused reports whether a database, or any for "", is paused.
func (ps *Pools) anyPaused(database string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return database == "" && len(ps.paused) > 0 || ps.paused[database]
}

// Paused reports whether a database is paused.
func (ps *Pools) Paused(database string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.paused[database]
}

// Pause lends no more servers of a database ("" for all), closes them as they
// become free, and returns when none is left, the pause was undone or ctx ends;
// in the last case the pause stays in force.
func (ps *Pools) Pause(ctx context.Context, database string) error {
	if !ps.exists(database) {
		return ErrNoSuchDatabase
	}
	if !ps.setPaused(database, true) {
		return ErrAlreadyPaused
	}
	return ps.untilGone(ctx, ps.all(database), func() bool { return ps.anyPaused(database) })
}

// Resume undoes Pause and Kill.
func (ps *Pools) Resume(database string) error {
	if !ps.exists(database) {
		return ErrNoSuchDatabase
	}
	if !ps.setPaused(database, false) {
		return ErrNotPaused
	}
	ps.changed()
	return nil
}

// Reconnect replaces the servers of a database ("" for all): each is closed as
// soon as it is free.
func (ps *Pools) Reconnect(database string) error {
	if !ps.exists(database) {
		return ErrNoSuchDatabase
	}
	for _, p := range ps.all(database) {
		p.mu.Lock()
		p.generation++
		p.welcome = nil
		p.failed, p.failures = nil, 0
		p.closeStale()
		p.launch()
		p.mu.Unlock()
	}
	return nil
}

// Kill pauses a database ("" for all) and turns away those who wait for its
// servers. Its clients, and with them the servers they hold, are the caller's
// to drop.
func (ps *Pools) Kill(database string) error {
	if !ps.exists(database) {
		return ErrNoSuchDatabase
	}
	ps.setPaused(database, true)
	for _, p := range ps.all(database) {
		p.mu.Lock()
		p.refuseAll(ErrDatabaseRemoved)
		p.mu.Unlock()
	}
	return nil
}

// Drain turns away everybody who waits for a server or asks for one from now
// on, and returns when the last server is closed or ctx ends.
func (ps *Pools) Drain(ctx context.Context) error {
	ps.closing.Store(true)
	pools := ps.all("")
	for _, p := range pools {
		p.mu.Lock()
		p.refuseAll(ErrShuttingDown)
		p.closeStale()
		p.mu.Unlock()
	}
	return ps.untilGone(ctx, pools, func() bool { return true })
}

// Close ends the janitor and the logins and cancel requests that are under way,
// waits for them, and closes every server. The clients must be gone, and the
// loops must still run.
func (ps *Pools) Close() {
	ps.closing.Store(true)
	ps.stop()
	pools := ps.all("")
	for _, p := range pools {
		p.mu.Lock()
		p.refuseAll(ErrShuttingDown)
		p.answerWelcome(ErrShuttingDown)
		p.mu.Unlock()
	}
	ps.goroutines.Wait()
	for _, p := range pools {
		p.mu.Lock()
		p.closeStale()
		for l := range p.leases {
			if loop := l.Server.Stream.Loop(); loop != nil && l.state != stateClosing {
				l.closeWhy = "server shutting down"
				loop.Post(destroy, l)
			}
		}
		p.mu.Unlock()
	}
	_ = ps.untilGone(context.Background(), pools, func() bool { return true })
}
