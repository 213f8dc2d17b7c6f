package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
)

// host is one of the hosts that the servers of a pool can be at. Pool.mu guards
// it.
type host struct {
	target  *backend.Target
	retryAt time.Time // it has failed: before this the others come first
}

// order returns the hosts in the order in which a login is to try them: by
// load_balance_hosts, but those that have failed lately come last, the one that
// is to be tried again soonest first. mu is held.
func (p *Pool) order(now time.Time) []*host {
	sticky := p.db.LoadBalanceHosts == config.LoadBalanceDisable
	all := p.hosts
	if sticky {
		all = rotate(all, p.turn)
	}
	var good, failing []*host
	for _, h := range all {
		if h.retryAt.After(now) {
			failing = append(failing, h)
		} else {
			good = append(good, h)
		}
	}
	if !sticky {
		good = rotate(good, p.turn)
		p.turn++
	}
	slices.SortStableFunc(failing, func(a, b *host) int { return a.retryAt.Compare(b.retryAt) })
	return append(good, failing...)
}

func rotate(hosts []*host, by int) []*host {
	if len(hosts) == 0 {
		return nil
	}
	by %= len(hosts)
	return slices.Concat(hosts[by:], hosts[:by])
}

// inTurn calls try for one host after the other until one takes the login.
func inTurn(ctx context.Context, hosts []*host, try func(*host, *backend.Target) error) (err error) {
	for i, h := range hosts {
		t := *h.target
		if i < len(hosts)-1 {
			// A host that swallows packets must leave time for the others. How
			// long they took does not count: most of it may have been the wait
			// for the governor.
			t.ConnectTimeout /= time.Duration(len(hosts))
		}
		if err = try(h, &t); err == nil || ctx.Err() != nil || !tryNextHost(err) {
			break
		}
	}
	return err
}

// eachHost is inTurn for the pool's hosts, about which it learns from what comes
// of it.
func (p *Pool) eachHost(ctx context.Context, hosts []*host, try func(*backend.Target) error) error {
	return inTurn(ctx, hosts, func(h *host, t *backend.Target) error {
		began := time.Now()
		err := try(t)
		if errors.Is(err, errNotNeeded) || err != nil && ctx.Err() != nil {
			return err
		}
		p.noteAttempt(h, err)
		if err != nil {
			p.logAttempt(t, err, time.Since(began))
		}
		return err
	})
}

// noteAttempt remembers what came of a login to h. The host of a login that was
// successful is the one to begin with, where hosts do not take turns.
func (p *Pool) noteAttempt(h *host, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		h.retryAt = time.Now().Add(p.set.config().ServerLoginRetry)
		return
	}
	h.retryAt = time.Time{}
	if i := slices.Index(p.hosts, h); i >= 0 && p.db != nil && p.db.LoadBalanceHosts == config.LoadBalanceDisable {
		p.turn = i
	}
}

// logAttempt says why a login to a server has ended, in PgBouncer's words; what
// is known in detail is said by loginFailed.
func (p *Pool) logAttempt(t *backend.Target, err error, age time.Duration) {
	if !p.set.config().LogDisconnections {
		return
	}
	why := "login failed"
	if c, ok := errors.AsType[*backend.ConnectError](err); ok {
		why = c.ClientMessage()
	} else if said, ok := errors.AsType[*backend.LoginError](err); ok && t.Replication == backend.NoReplication {
		why = said.Message
	}
	p.set.log.Named(fmt.Sprintf("S-%d: %s/%s@%s", p.set.nextID.Add(1), p.Database, t.User, t.Place())).
		Info(fmt.Sprintf("closing because: %s (age=%ds)", why, int(age.Seconds())))
}

// tryNextHost reports whether another host may take a login that this one did
// not. A role or a database is the same everywhere.
func tryNextHost(err error) bool {
	if said, ok := errors.AsType[*backend.LoginError](err); ok {
		return !backend.IsTokenRefused(err) && said.Code[:min(2, len(said.Code))] != "28" && said.Code != "3D000"
	}
	if c, ok := errors.AsType[*backend.ConnectError](err); ok {
		return c.Kind != backend.NoToken && c.Kind != backend.BadTarget && c.Kind != backend.AuthImpossible
	}
	return false
}

// followNames has the names of the pool's hosts looked up again when it is time,
// and condemns the servers at addresses that a name has no more. mu is held.
func (p *Pool) followNames() {
	names := p.set.dns
	for _, h := range p.hosts {
		if name := h.target.Host; names.Stale(name) {
			p.set.goroutines.Go(func() {
				ctx, cancel := context.WithTimeout(p.set.ctx, lookUpTimeout)
				defer cancel()
				names.Refresh(ctx, name)
			})
		}
	}
	for l := range p.leases {
		addr, ok := l.Server.Addr.(*net.TCPAddr)
		if !ok || l.state == stateClosing || l.closeWhy != "" {
			continue
		}
		if ip, ok := netip.AddrFromSlice(addr.IP); ok && names.Gone(l.Server.Target.Host, ip.Unmap().WithZone(addr.Zone)) {
			l.closeWhy = "obsolete connection"
		}
	}
}

// lookUpTimeout bounds a look-up that nobody waits for.
const lookUpTimeout = 10 * time.Second
