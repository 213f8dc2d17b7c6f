package frontend

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// authQuery is one question: the secret of a user, as a database knows it.
type authQuery struct {
	database string // where it is asked
	runner   string // who asks: auth_user
	query    string
	user     string
	wait     time.Duration // how long at most; 0: for ever
}

// authQuery returns what to ask for the client's user, nil if there is nobody to
// be asked.
func (c *client) authQuery() (*authQuery, error) {
	db := c.cfg.Database(c.login.database)
	if c.login.Console {
		db = &config.Database{Name: consoleName}
	}
	if db == nil || c.cfg.AuthUserFor(db) == "" {
		return nil, nil
	}
	name := c.cfg.AuthDBNameFor(db)
	if name == "" {
		name = db.Name
	}
	if config.IsConsole(name) {
		return nil, fmt.Errorf(`%w: cannot use the reserved "%s" database as an auth_dbname`, errInternal, name)
	}
	at := c.cfg.Database(name)
	if at == nil {
		return nil, fmt.Errorf("%w: authentication database %q is not configured", errInternal, name)
	}
	runner := c.cfg.AuthUserFor(db)
	return &authQuery{name, runner, c.cfg.AuthQueryFor(db), c.login.User, c.cfg.QueryWaitTimeoutFor(at, runner)}, nil
}

// authQueries runs auth_query for logins. One question is asked once at a time:
// logins that come while it is being asked share the answer to the next time.
// So a storm of logins does not ask more often than the database answers, and
// yet every answer is younger than the login that it decides: a secret that has
// been changed or taken away serves nobody any more. An answer is not kept.
type authQueries struct {
	pools *pool.Pools
	ctx   context.Context
	wg    *sync.WaitGroup // of the goroutines that ask

	mu      sync.Mutex // guards running, and asking.waiters and next
	running map[authQuery]*asking
}

// asking is one time that a question is asked.
type asking struct {
	ctx     context.Context
	cancel  context.CancelFunc // when nobody waits any more
	waiters int
	next    *asking // nil: nobody has come since this began

	done    chan struct{} // closed when the fields below are set
	account account
	err     error
}

func (qs *authQueries) newAsking() *asking {
	a := &asking{done: make(chan struct{})}
	a.ctx, a.cancel = context.WithCancel(qs.ctx)
	return a
}

// ask returns the answer to q. It must be called by a goroutine that wg counts.
func (qs *authQueries) ask(ctx context.Context, q authQuery) (account, error) {
	qs.mu.Lock()
	a := qs.running[q]
	switch {
	case a == nil:
		a = qs.newAsking()
		qs.running[q] = a
		qs.wg.Go(func() { qs.run(q, a) })
	case a.next == nil || a.next.waiters == 0: // those who waited have given up
		a.next = qs.newAsking()
		a = a.next
	default:
		a = a.next
	}
	a.waiters++
	qs.mu.Unlock()

	select {
	case <-a.done:
		return a.account, a.err
	case <-ctx.Done():
	}
	qs.mu.Lock()
	defer qs.mu.Unlock()
	if a.waiters--; a.waiters == 0 {
		a.cancel()
	}
	return account{}, context.Cause(ctx)
}

// run asks a question as long as somebody wants to know.
func (qs *authQueries) run(q authQuery, a *asking) {
	for a != nil {
		a.account, a.err = qs.query(a.ctx, q)
		a.cancel()
		qs.mu.Lock()
		next := a.next
		if next != nil {
			qs.running[q] = next
		} else {
			delete(qs.running, q)
		}
		qs.mu.Unlock()
		close(a.done)
		a = next
	}
}

// query asks once. NULL for the secret matches nothing, as an empty one does.
func (qs *authQueries) query(ctx context.Context, q authQuery) (account, error) {
	if q.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, q.wait, errQueryWaitTimeout)
		defer cancel()
	}
	if qs.pools.Disabled(q.database) {
		return account{}, errAuthDisabled.with(fmt.Sprintf(`"%s" is disabled`, q.database))
	}
	p, err := qs.pools.ForQueries(q.database, q.runner)
	if err != nil {
		return account{}, err
	}
	answer, err := p.Ask(ctx, q.query, q.user)
	var said *pool.QueryError
	switch {
	case errors.As(err, &said):
		return account{}, fmt.Errorf("error in auth_query: %w", err)
	case err != nil:
		return account{}, err
	case answer.Columns != 2:
		return account{}, fmt.Errorf("expected 2 columns from auth_query, not %d", answer.Columns)
	case len(answer.Rows) == 0:
		return account{}, nil
	case len(answer.Rows) > 1:
		return account{}, fmt.Errorf("auth_query returned %d rows", len(answer.Rows))
	}
	name, secret := answer.Rows[0][0], answer.Rows[0][1]
	switch {
	case name == nil:
		return account{}, errors.New("auth_query response contained null user name")
	case string(name) != q.user:
		return account{}, fmt.Errorf("auth_query returned user %q", printable(string(name)))
	}
	return account{true, auth.ParseSecret(string(secret))}, nil
}
