package frontend

import (
	"context"
	"errors"
	"strings"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// admitReplication is Admit for a replication connection. Such a client has a
// server of its own from its login to its end, which was logged in to with its
// own startup parameters. Nothing is run on that server but what the client asks
// for: a walsender for physical replication knows no SQL.
func (c *Sessions) admitReplication(ctx context.Context, l *Login, p *pool.Pool) error {
	s := c.newSession(l, config.PoolModeSession)
	c.enter(s, p, l.User)
	d := pool.Dedication{Loop: s.w.loop, Client: l.ID, Kind: l.Replication}
	for _, param := range l.Params {
		d.Params = append(d.Params, backend.Parameter(param))
	}
	lease, welcome, err := p.Dedicate(ctx, d)
	if err != nil {
		c.leave(s)
		if said, ok := errors.AsType[*backend.LoginError](err); ok {
			// The server is the client's own: PgBouncer ends both with one text.
			e := loginFailed(said.SQLSTATE(), "login failed", err)
			e.Detail = strings.TrimSpace("The server says: " + said.Message + ". " + e.Detail)
			return e
		}
		return err
	}
	s.believes = c.varSets.of(welcome.Vars)
	s.lease, s.srv = lease, lease.Server // see link
	if err := c.welcome(s, l, welcome); err != nil {
		lease.Discard("client connection lost")
		c.leave(s)
		return err
	}
	return nil
}

// link takes the server into use that the session has brought along.
func (s *session) link() {
	now := s.w.now()
	s.requestAt, s.xactAt, s.readyAt = now, now, now
	s.stats.ServerAssignments++
	s.w.loop.Arm()
	if err := s.srv.Stream.Unpark(s.w.loop); err != nil {
		s.Lost(err)
		return
	}
	s.srv.Hold(s)
}
