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
	ErrResumed        = errors.New("resumed before all servers were released")
)

// closeStale closes the idle servers that mustClose rejects. mu is held.
func (p *Pool) closeStale() {
	now := time.Now()
	p.closeIdle(func(l *Lease, _ *puddle.Resource[*Lease]) string { return p.mustClose(l, now) })
}

// exists reports whether there is the database, or can be; "" stands for all.
func (ps *Pools) exists(database string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return database == "" || ps.find(database)
}

// PausedAll reports whether everything is paused.
func (ps *Pools) PausedAll() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.pausedAll
}

// Paused reports whether a database is paused by itself, whatever PausedAll
// says.
func (ps *Pools) Paused(database string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.paused[database]
}

// AnyPaused reports whether any database is paused by itself.
func (ps *Pools) AnyPaused() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return len(ps.paused) > 0
}

// Pause lends no more servers of a database ("" for all), closes them as they
// become free, and returns when none is left. When ctx ends before that, the
// pause stays in force; when somebody resumes, it returns ErrResumed.
func (ps *Pools) Pause(ctx context.Context, database string) error {
	ps.mu.Lock()
	switch {
	case ps.pausedAll:
		ps.mu.Unlock()
		return ErrAlreadyPaused
	case database == "":
		ps.pausedAll = true
	case !ps.find(database):
		ps.mu.Unlock()
		return ErrNoSuchDatabase
	default:
		ps.paused[database] = true
	}
	ps.mu.Unlock()
	ps.applyPause()
	pools := ps.all(database)
	return ps.until(ctx, func() (bool, error) {
		if !ps.PausedAll() && !ps.Paused(database) {
			return false, ErrResumed
		}
		return count(pools, (*Pool).total) == 0 && !ps.proving(database), nil
	})
}

// Resume undoes Pause and Kill of the same database, and Pause of "".
func (ps *Pools) Resume(database string) error {
	ps.mu.Lock()
	switch {
	case database != "" && !ps.known(database):
		ps.mu.Unlock()
		return ErrNoSuchDatabase
	case database == "" && !ps.pausedAll, database != "" && !ps.paused[database]:
		ps.mu.Unlock()
		return ErrNotPaused
	case database == "":
		ps.pausedAll = false
	default:
		delete(ps.paused, database)
	}
	ps.mu.Unlock()
	ps.applyPause()
	ps.changed()
	return nil
}

// applyPause tells the pools whether they are paused.
func (ps *Pools) applyPause() {
	ps.mu.Lock() // while nobody else changes what is applied
	defer ps.mu.Unlock()
	for _, p := range ps.pools {
		paused := ps.pausedAll || ps.paused[p.Database]
		p.mu.Lock()
		if paused != p.paused {
			p.paused = paused
			if paused {
				p.closeStale()
			} else {
				p.dispatch()
				p.launch()
			}
		}
		p.mu.Unlock()
	}
}

// SetDisabled turns new clients of a database away, or lets them in again.
func (ps *Pools) SetDisabled(database string, disabled bool) error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	switch {
	case disabled && !ps.find(database), !ps.known(database):
		return ErrNoSuchDatabase
	case disabled:
		ps.disabled[database] = true
	default:
		delete(ps.disabled, database)
	}
	return nil
}

// Disabled reports whether a database takes no new clients.
func (ps *Pools) Disabled(database string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.disabled[database]
}

// WaitClose returns when all servers of a database ("" for all) are closed that
// are to be closed as soon as they are free, or when ctx ends.
func (ps *Pools) WaitClose(ctx context.Context, database string) error {
	if !ps.exists(database) {
		return ErrNoSuchDatabase
	}
	pools := ps.all(database)
	return ps.until(ctx, func() (bool, error) { return count(pools, (*Pool).stale) == 0, nil })
}

// stale is how many servers of the pool are to be closed. mu is held.
func (p *Pool) stale() (n int) {
	for l := range p.leases {
		if l.closeNeeded() {
			n++
		}
	}
	return n
}

// closeNeeded reports whether the server is closed as soon as it is free,
// whatever its age. Pool.mu is held.
func (l *Lease) closeNeeded() bool {
	p := l.Pool
	return l.state == stateClosing || l.generation != p.generation || p.db == nil || l.closeWhy != ""
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

// Kill pauses a database ("" for each of them) and turns away those who wait for its
// servers. Its clients, and with them the servers they hold, are the caller's
// to drop.
func (ps *Pools) Kill(database string) error {
	if !ps.exists(database) {
		return ErrNoSuchDatabase
	}
	ps.mu.Lock()
	if ps.pausedAll {
		ps.mu.Unlock()
		return ErrAlreadyPaused
	}
	for _, name := range ps.names() {
		if database == "" || database == name {
			ps.paused[name] = true
		}
	}
	ps.mu.Unlock()
	ps.applyPause()
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
	return ps.untilGone(ctx, pools)
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
	_ = ps.untilGone(context.Background(), pools)
}
