package pool

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
)

// Settings is what the pools need of a configuration and of the files that it
// names. It is immutable; Reload brings a new one.
type Settings struct {
	Config    *config.Config
	Userlist  *auth.Userlist
	ServerTLS *tls.Config
	TLSSum    [32]byte // of everything that ServerTLS was made of: servers are replaced when it changes
}

// Options are the parts that the pools are made of.
type Options struct {
	Settings Settings
	Tokens   *auth.TokenSource
	Loops    []*evloop.Loop
	Log      *zap.Logger
}

// Pools are all the pools of the process.
type Pools struct {
	// Static after New.
	tokens     *auth.TokenSource
	loops      []*evloop.Loop
	log        *zap.Logger
	tracked    *backend.Tracked
	statements *backend.Statements
	dns        *backend.Names
	ctx        context.Context // ends when Close gives up on what is under way
	stop       context.CancelFunc
	goroutines sync.WaitGroup // logins, cancel requests, the janitor

	settings atomic.Pointer[Settings]
	closing  atomic.Bool // no client gets a server any more
	nextID   atomic.Uint64
	turn     atomic.Uint32
	governor governor

	presented presentedTokens

	mu        sync.Mutex // guards the fields below
	pools     map[key]*Pool
	pausedAll bool                 // PAUSE without a database
	paused    map[string]bool      // databases
	disabled  map[string]bool      // databases
	auto      map[string]time.Time // databases that only the entry "*" stands for, and when each was last in use
	proofs    map[string]int       // of databases, how many are connected to their server
	past      map[string]Stats     // of the pools that pool_idle_timeout has dropped, by database

	limits   limits
	indebted bool // pools have debts; owned by the janitor

	changeMu sync.Mutex    // guards change; taken last
	change   chan struct{} // closed, and made anew, when a server is gone
}

type key struct{ database, user string }

// New returns pools without servers and starts their janitor. Close must
// follow.
func New(o Options) *Pools {
	ps := &Pools{
		tokens:     o.Tokens,
		loops:      o.Loops,
		log:        o.Log,
		tracked:    backend.NewTracked(o.Settings.Config.TrackExtraParameters),
		statements: backend.NewStatements(),
		dns:        backend.NewNames(nil),
		pools:      make(map[key]*Pool),
		paused:     make(map[string]bool),
		disabled:   make(map[string]bool),
		auto:       make(map[string]time.Time),
		proofs:     make(map[string]int),
		past:       make(map[string]Stats),
		change:     make(chan struct{}),
		governor:   governor{gates: make(map[endpoint]*gate)},
		presented:  presentedTokens{byKey: make(map[key]presentedToken)},
	}
	ps.governor.configure(o.Settings.Config)
	ps.dns.Configure(o.Settings.Config.DNSMaxTTL, o.Settings.Config.DNSNXDomainTTL)
	ps.limits.init()
	ps.ctx, ps.stop = context.WithCancel(context.Background())
	ps.settings.Store(&o.Settings)
	ps.goroutines.Go(ps.janitor)
	return ps
}

// NextID returns the number of a new connection, a client's or a server's: each
// has its own.
func (ps *Pools) NextID() uint64 { return ps.nextID.Add(1) }

// Tracked are the session parameters that follow a client to its servers.
func (ps *Pools) Tracked() *backend.Tracked { return ps.tracked }

// Tokens makes the IAM tokens that servers are logged in to with. nil: there are
// none.
func (ps *Pools) Tokens() *auth.TokenSource { return ps.tokens }

// Statements are the prepared statements of the process.
func (ps *Pools) Statements() *backend.Statements { return ps.statements }

func (ps *Pools) config() *config.Config { return ps.settings.Load().Config }

func (ps *Pools) check() (query string, delay time.Duration) {
	c := ps.config()
	return c.ServerCheckQuery, c.ServerCheckDelay
}

// cancelTimeout bounds cancel requests and the caretaker's work.
func (ps *Pools) cancelTimeout() time.Duration {
	if t := ps.config().CancelWaitTimeout; t > 0 {
		return t
	}
	return 10 * time.Second
}

func (ps *Pools) nextLoop() *evloop.Loop {
	return ps.loops[int(ps.turn.Add(1))%len(ps.loops)]
}

// changed tells those who wait for servers to be gone that one is. Pool.mu may
// be held.
func (ps *Pools) changed() {
	ps.changeMu.Lock()
	defer ps.changeMu.Unlock()
	close(ps.change)
	ps.change = make(chan struct{})
}

// untilGone waits until the pools have no server left.
func (ps *Pools) untilGone(ctx context.Context, pools []*Pool) error {
	return ps.until(ctx, func() (bool, error) { return count(pools, (*Pool).total) == 0, nil })
}

// total is how many servers the pool has, those of passages too, or is opening.
// mu is held.
func (p *Pool) total() int { return len(p.leases) + p.connecting + p.passages }

// count sums up a figure of pools, which is asked for with Pool.mu held.
func count(pools []*Pool, figure func(*Pool) int) (n int) {
	for _, p := range pools {
		p.mu.Lock()
		n += figure(p)
		p.mu.Unlock()
	}
	return n
}

// until waits until done reports true, or an error. Whatever makes it do so
// calls changed.
func (ps *Pools) until(ctx context.Context, done func() (bool, error)) error {
	for {
		ps.changeMu.Lock()
		change := ps.change
		ps.changeMu.Unlock()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-change:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Join returns the pool of a database for a client's user, as Get does, and
// counts a client in: until RemoveClient the pool stays.
func (ps *Pools) Join(database, user string) (*Pool, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p, err := ps.forClient(database, user)
	if err == nil {
		p.mu.Lock()
		p.clients++
		p.mu.Unlock()
	}
	return p, err
}

// Get returns the pool of a database for a client's user, and makes it if there
// is none yet. The server's user is the database's own, if it forces one. It
// returns ErrDatabaseRemoved for a database that a reload has removed since.
func (ps *Pools) Get(database, user string) (*Pool, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.forClient(database, user)
}

// forClient is Get; mu is held.
func (ps *Pools) forClient(database, user string) (*Pool, error) {
	c := ps.config()
	db := c.Database(database)
	if db == nil {
		return nil, ErrDatabaseRemoved
	}
	ps.register(db, c)
	if db.User != "" {
		user = db.User
	}
	return ps.get(db, user), nil
}

// ForQueries returns the pool of a database and a server user of the caller's
// choice, whatever user the database forces on clients: it is for Ask.
func (ps *Pools) ForQueries(database, user string) (*Pool, error) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	c := ps.config()
	db := c.Database(database)
	if db == nil {
		return nil, ErrDatabaseRemoved
	}
	ps.register(db, c)
	p := ps.get(db, user)
	p.mu.Lock()
	p.forQueries = true
	p.mu.Unlock()
	return p, nil
}

// get is called with mu held.
func (ps *Pools) get(db *config.Database, user string) *Pool {
	k := key{db.Name, user}
	if p := ps.pools[k]; p != nil {
		p.mu.Lock()
		p.usedAt = time.Now() // whoever gets it has the time to use it
		p.mu.Unlock()
		return p
	}
	p := &Pool{
		Database:    db.Name,
		User:        user,
		set:         ps,
		log:         ps.log,
		stats:       make([]Stats, len(ps.loops)),
		leases:      make(map[*Lease]struct{}),
		wantWelcome: make(map[chan welcomeAnswer]struct{}),
		paused:      ps.pausedAll || ps.paused[db.Name],
		usedAt:      time.Now(),
	}
	p.servers = p.newPuddle()
	p.limits = ps.limits.join(p)
	p.configure(ps.settings.Load(), db)
	ps.pools[k] = p
	return p
}

// configure takes what the settings say of the pool's database. mu is held, or
// the pool is new.
func (p *Pool) configure(s *Settings, db *config.Database) {
	c := s.Config
	if p.db != nil && !(db.SameServer(p.db) && p.tlsSum == s.TLSSum && p.hosts[0].target.SSLMode == c.ServerTLSSSLMode) {
		p.generation++
		p.welcome = nil
		p.failed, p.failures = nil, 0
	}
	p.db, p.tlsSum = db, s.TLSSum
	p.setHosts(s)
	p.useLearned()
	p.mode = c.PoolModeFor(db, p.User)
	p.minSize = c.MinPoolSizeFor(db)
	p.roundRobin, p.fastClose = c.ServerRoundRobin, c.ServerFastClose
	p.lifetime = c.ServerLifetimeFor(db)
	p.size = c.PoolSizeFor(db, p.User)
	p.reserve, p.reserveAfter = 0, c.ReservePoolTimeout
	if p.reserveAfter > 0 {
		p.reserve = c.ReservePoolSizeFor(db, p.User)
	}
	p.set.limits.set(p, c.MaxDBConnectionsFor(db), c.MaxUserConnectionsFor(p.User))
}

// setHosts makes the targets of p.db anew. What is known of a host stays known.
func (p *Pool) setHosts(s *Settings) {
	old := p.hosts
	p.hosts = nil
	for _, name := range p.db.Hosts() {
		h := &host{target: p.set.newTarget(s, p.db, name, p.User)}
		if i := slices.IndexFunc(old, func(o *host) bool { return o.target.Host == name }); i >= 0 {
			h.retryAt = old[i].retryAt
		}
		p.hosts = append(p.hosts, h)
	}
}

// newTarget is how the servers of a pool at one of its database's hosts are
// logged in to.
func (ps *Pools) newTarget(s *Settings, db *config.Database, host, user string) *backend.Target {
	t := NewTarget(s, db, host, user, ps.tokens, ps.log)
	t.Names = ps.dns
	if db.ServerAuth == config.ServerAuthClientToken {
		t.IAM = ps.presented.source(key{db.Name, user})
		t.IAM.Key = TokenKey(db, user)
	}
	return t
}

// NewTarget is how the servers of the pool of db and user at one of db's hosts are
// logged in to, but for the tokens that clients bring (client_token).
func NewTarget(s *Settings, db *config.Database, host, user string, tokens *auth.TokenSource, log *zap.Logger) *backend.Target {
	c := s.Config
	t := &backend.Target{
		Host:           host,
		Port:           db.Port,
		DBName:         db.DBName,
		User:           user,
		SSLMode:        c.ServerTLSSSLMode,
		TLSConfig:      s.ServerTLS,
		ServerName:     cmp.Or(db.ServerTLSName, host),
		ConnectQuery:   db.ConnectQuery,
		ConnectTimeout: c.ServerConnectTimeout,
		TCP:            backend.NewTCPOptions(&c.Settings),
		Warn: func(msg string, err error) {
			log.Warn(msg, zap.String("database", db.Name), zap.String("user", user), zap.Error(err))
		},
	}
	for _, p := range [...]backend.Parameter{
		{Name: "client_encoding", Value: db.ClientEncoding},
		{Name: "datestyle", Value: db.DateStyle},
		{Name: "timezone", Value: db.TimeZone},
		{Name: "application_name", Value: db.ApplicationName},
	} {
		if p.Value != "" {
			t.Params = append(t.Params, p)
		}
	}
	if db.ServerAuth == config.ServerAuthClientToken {
		return t
	}
	if db.ServerAuth.MakesTokens() {
		k := TokenKey(db, user)
		t.IAM = &backend.IAM{
			Key:        k,
			Token:      func(ctx context.Context) (auth.Token, error) { return tokens.Token(ctx, k) },
			Invalidate: func(tok auth.Token) { tokens.Invalidate(k, tok) },
		}
		return t
	}
	if db.User == user && db.Password != "" {
		t.Password = auth.ParseSecret(db.Password.Reveal())
	} else if secret, ok := s.Userlist.Lookup(user); ok {
		t.Password = secret
	}
	return t
}

// TokenKey is what the IAM tokens of db are signed for when user logs in.
func TokenKey(db *config.Database, user string) auth.TokenKey {
	service := auth.RDS
	if db.ServerAuth == config.ServerAuthDSQL {
		service = auth.DSQL
	}
	return auth.TokenKey{
		Service: service,
		Host:    db.IAMHost, Port: db.IAMPort, Region: db.IAMRegion, User: user,
		Credentials: auth.CredentialKey{
			Profile: db.IAMProfile, RoleARN: db.IAMRoleARN, ExternalID: db.IAMExternalID, SessionName: db.IAMSessionName,
		},
	}
}

// serverLabel is how a server is called in the log.
func serverLabel(l *Lease) string {
	t := l.Server.Target
	where := l.Server.Addr.String()
	if l.Server.Addr.Network() == "unix" {
		where = fmt.Sprintf("unix:%d", t.Port)
	}
	return fmt.Sprintf("S-%d: %s/%s@%s", l.ID, l.Pool.Database, t.User, where)
}

// pastStats returns the counters of the pools that are gone, by database.
func (ps *Pools) pastStats() map[string]Stats {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return maps.Clone(ps.past)
}

// all returns the pools of a database, or all of them for "".
func (ps *Pools) all(database string) []*Pool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	var list []*Pool
	for k, p := range ps.pools {
		if database == "" || k.database == database {
			list = append(list, p)
		}
	}
	return list
}

// Reload puts new settings into force. Servers that are wrong under them are
// closed as soon as they are free; the pools of databases that are gone lose
// theirs, and their waiting clients are told.
func (ps *Pools) Reload(s Settings) {
	ps.governor.configure(s.Config)
	ps.mu.Lock()
	ps.settings.Store(&s)
	ps.dns.Configure(s.Config.DNSMaxTTL, s.Config.DNSNXDomainTTL)
	gone := func(name string) bool { return s.Config.Database(name) == nil }
	maps.DeleteFunc(ps.paused, func(name string, _ bool) bool { return gone(name) })
	maps.DeleteFunc(ps.disabled, func(name string, _ bool) bool { return gone(name) })
	maps.DeleteFunc(ps.past, func(name string, _ Stats) bool { return gone(name) })
	ps.mu.Unlock()
	var dropped []*Pool
	for _, p := range ps.all("") {
		db := s.Config.Database(p.Database)
		p.mu.Lock()
		switch {
		case db == nil || db.User != "" && db.User != p.User && !p.forQueries:
			p.db = nil
			p.refuseAll(ErrDatabaseRemoved)
			p.answerWelcome(ErrDatabaseRemoved)
			p.closeStale()
			dropped = append(dropped, p)
		default:
			p.configure(&s, db)
			p.closeStale()
			p.dispatch()
			p.launch()
		}
		p.mu.Unlock()
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range dropped {
		ps.drop(p)
	}
}

// drop forgets a pool. mu is held.
func (ps *Pools) drop(p *Pool) {
	delete(ps.pools, key{p.Database, p.User})
	ps.limits.quit(p)
	ps.statements.Forget(p)
}
