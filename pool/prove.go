package pool

import (
	"context"
	"sync"
	"time"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
)

// presentedTokens are the IAM tokens that clients have logged in with: the
// newest for each pool that opens its servers with them (server_auth =
// client_token).
type presentedTokens struct {
	mu    sync.Mutex // guards byKey
	byKey map[key]presentedToken
}

type presentedToken struct {
	auth.Token
	refused bool // by the server, after it had accepted it
}

// Prove has the server of a database judge the IAM token of a client: it alone
// can. It logs in as user with the token, once, and leaves again. The error is
// that of backend.Connect, see backend.IsTokenRefused; or the cause of the end of
// queue, which ends with ctx, if that comes before the login has begun.
func (ps *Pools) Prove(ctx, queue context.Context, database, user string, token auth.Token) error {
	s := ps.settings.Load()
	db := s.Config.Database(database)
	if db == nil {
		return ErrDatabaseRemoved
	}
	var hosts []*host
	for _, name := range db.Hosts() {
		hosts = append(hosts, &host{target: ps.newTarget(s, db, name, user)})
	}
	var login *backend.Login
	err := inTurn(ctx, hosts, func(_ *host, t *backend.Target) (err error) {
		t.ConnectQuery = ""
		t.Admit = func(context.Context) (func(), error) {
			return ps.admitProof(queue, database, endpointOf(t.Host, t.Port))
		}
		login, err = backend.ConnectWith(ctx, t, token)
		return err
	})
	if err != nil {
		return err
	}
	_ = login.Close() // it has said what we wanted to know
	ps.Present(database, user, token)
	return nil
}

// admitProof waits until a proof may connect to the server: not while the database
// is paused, and behind every login that a pool needs. Whoever comes with wrong
// tokens must not keep those who are in from getting servers.
func (ps *Pools) admitProof(queue context.Context, database string, e endpoint) (done func(), err error) {
	for {
		err := ps.until(queue, func() (bool, error) { return !ps.PausedAll() && !ps.Paused(database), nil })
		if err != nil {
			return nil, context.Cause(queue)
		}
		leave, err := ps.governor.enter(queue, e, time.Now().Add(nobodyWaits), true)
		if err != nil {
			return nil, err
		}
		ps.mu.Lock()
		paused := ps.pausedAll || ps.paused[database]
		if !paused {
			ps.proofs[database]++
		}
		ps.mu.Unlock()
		if !paused {
			return func() { leave(); ps.proofDone(database) }, nil
		}
		leave() // it was paused meanwhile
	}
}

func (ps *Pools) proofDone(database string) {
	ps.mu.Lock()
	if ps.proofs[database]--; ps.proofs[database] == 0 {
		delete(ps.proofs, database)
	}
	ps.mu.Unlock()
	ps.changed()
}

// proving reports whether a proof of a database ("" for any) has a connection to
// its server.
func (ps *Pools) proving(database string) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.proofs[database] > 0 || database == "" && len(ps.proofs) > 0
}

// Present notes a token that Prove has accepted before, if the database's servers
// are opened with the tokens of clients: the server may have refused it for a
// moment since.
func (ps *Pools) Present(database, user string, token auth.Token) {
	if db := ps.config().Database(database); db != nil && db.ServerAuth == config.ServerAuthClientToken {
		ps.presented.add(key{db.Name, user}, token)
	}
}

// add keeps the token that lives longest, but prefers any to one that the server
// has refused.
func (p *presentedTokens) add(k key, t auth.Token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if kept := p.byKey[k]; kept.refused || t.Expires().After(kept.Expires()) {
		p.byKey[k] = presentedToken{Token: t}
	}
}

// accessKey returns the end of the ID of the access key that signed the token that
// is kept.
func (p *presentedTokens) accessKey(k key) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byKey[k].AccessKey()
}

// source is where a pool's target takes its tokens from.
func (p *presentedTokens) source(k key) *backend.IAM {
	return &backend.IAM{
		Token: func(context.Context) (auth.Token, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			t := p.byKey[k]
			if !t.Usable(time.Now()) {
				delete(p.byKey, k)
				return auth.Token{}, backend.ErrNoClientToken
			}
			return t.Token, nil
		},
		// RDS refuses for a moment while it restarts or throttles, and nobody can
		// sign another token: the refused one is kept as long as it lives, unless
		// a client brings one. The pool's pauses bound how often it is shown.
		Invalidate: func(t auth.Token) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if kept := p.byKey[k]; kept.Token == t && t != (auth.Token{}) {
				p.byKey[k] = presentedToken{Token: t, refused: true}
			}
		},
	}
}
