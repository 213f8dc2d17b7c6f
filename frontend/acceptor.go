package frontend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

const (
	// A failing accept, for want of file descriptors mostly, is tried again
	// after a pause that doubles up to the longest.
	shortestAcceptPause = 5 * time.Millisecond
	longestAcceptPause  = time.Second
)

// AcceptorOptions is what an Acceptor needs. Every function must be set, and
// is called from many goroutines.
type AcceptorOptions struct {
	// Config returns the present configuration; a login asks once.
	Config func() *config.Config
	// Userlist returns the users that may log in; nil has nobody in it.
	Userlist func() *auth.Userlist
	// HBA returns the rules of auth_hba_file; nil lets nobody in.
	HBA func() *auth.HBA
	// LDAP returns the options of auth_type ldap.
	LDAP func() *auth.LDAP
	// Pools are where auth_query is run and IAM tokens are proved; it may be nil
	// if there is neither.
	Pools *pool.Pools
	// TLS returns what NewClientTLS made, nil for no encryption.
	TLS func() *tls.Config
	// Scram returns what checks SCRAM logins.
	Scram func() *auth.ScramServer
	// Cancel handles a CancelRequest. The connection is closed when it
	// returns, which tells the client that the request was handled; so it may
	// wait, for as long as ctx lives: as in Admit. key is 4 to 256 bytes long. The
	// error is for the log.
	Cancel func(ctx context.Context, pid uint32, key []byte) error
	// Admit takes an authenticated client over. It sends everything from
	// AuthenticationOk to the first ReadyForQuery, the first of it with
	// Login.Write. With an error it has taken
	// nothing: the client is told (see Error) and the connection closed. ctx
	// ends when Admit returns, and before that, as reads and writes do, when
	// client_login_timeout is over or the Acceptor is closed. A session that
	// goes on to use Login.Transport instead of detaching it removes the
	// deadline with SetDeadline.
	Admit func(ctx context.Context, l *Login) error
	// PassThrough takes over a client of a database in passthrough mode. ahead
	// are bytes of it that have been read; with askTLS the server is to be asked
	// for TLS before it gets them. As with Admit, with an error it has taken
	// nothing.
	PassThrough func(ctx context.Context, l *Login, ahead []byte, askTLS bool) error
	// ShuttingDown reports whether only the console may still be used.
	ShuttingDown func() bool
	// NextID returns the number of a new connection.
	NextID func() uint64
	Log    *zap.Logger
	// Slots is how many logins may compute at the same time, at least 1.
	Slots int
}

// Acceptor turns accepted sockets into authenticated clients.
type Acceptor struct {
	// Static after NewAcceptor.
	o         AcceptorOptions
	admission *admission
	queries   authQueries
	ldapSlots chan struct{}
	proofs    proofs
	ctx       context.Context // done when Close begins
	cancel    context.CancelFunc
	freePlace func() // undoes takePlace; one for all clients
	places    places

	logins  atomic.Int64
	clients atomic.Int64 // what max_client_conn limits

	wg sync.WaitGroup // goroutines of logins and calls of Serve

	mu        sync.Mutex // guards the fields below, and wg.Add against Close
	listeners map[net.Listener]struct{}
	loggingIn map[*client]struct{}
	closed    bool
}

// NewAcceptor returns an Acceptor that serves nothing yet.
func NewAcceptor(o AcceptorOptions) *Acceptor {
	a := &Acceptor{
		o: o, admission: newAdmission(o.Slots), ldapSlots: make(chan struct{}, maxLDAP),
		listeners: make(map[net.Listener]struct{}), loggingIn: make(map[*client]struct{}),
	}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.queries = authQueries{pools: o.Pools, ctx: a.ctx, wg: &a.wg, running: make(map[authQuery]*asking)}
	a.proofs.init(a.ctx, o.Pools, &a.wg)
	a.freePlace = func() { a.clients.Add(-1) }
	a.places.init()
	return a
}

// Serve accepts clients on ln, TCP or unix, until ln or the Acceptor is closed,
// which is not an error. ln is closed when Serve returns. The tcp_*
// settings are applied to what it accepts; a setting of 0 leaves the value
// that the socket has, so the listener should be made with keep-alive off
// (net.ListenConfig).
func (a *Acceptor) Serve(ln net.Listener) error { return a.serveAll(ln, "") }

// ServePassthrough is Serve for a listener whose clients are all for one database
// in passthrough mode: whatever they say goes to its server.
func (a *Acceptor) ServePassthrough(ln net.Listener, database string) error {
	return a.serveAll(ln, database)
}

func (a *Acceptor) serveAll(ln net.Listener, passage string) error {
	defer ln.Close()
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.listeners[ln] = struct{}{}
	a.wg.Add(1)
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.listeners, ln)
		a.mu.Unlock()
		a.wg.Done()
	}()

	pause := shortestAcceptPause
	for {
		conn, err := ln.Accept()
		switch {
		case err == nil:
			pause = shortestAcceptPause
			if a.crowded(conn) {
				conn.Close()
				continue
			}
			// Serve itself is counted, so Close cannot be past its Wait.
			a.logins.Add(1)
			a.wg.Go(func() { a.serve(conn, passage) })
		case errors.Is(err, net.ErrClosed):
			return nil
		case !passing(err):
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		default:
			a.o.Log.Warn("accept failed", zap.Stringer("listener", ln.Addr()), zap.Error(err), zap.Duration("pause", pause))
			select {
			case <-time.After(pause):
			case <-a.ctx.Done():
			}
			pause = min(2*pause, longestAcceptPause)
		}
	}
}

// loginReserve is how many connections may log in beyond what max_client_conn
// allows: for the console and for cancel requests.
const loginReserve = 100

// crowded reports whether more connections have yet to log in than there may be
// clients: they cost descriptors that servers need too, and
// whoever opens them may say nothing for as long as client_login_timeout. The
// unix socket stays open for the operator.
func (a *Acceptor) crowded(conn net.Conn) bool {
	limit := a.o.Config().MaxClientConn
	return limit > 0 && a.Logins() >= limit+loginReserve && conn.LocalAddr().Network() != "unix"
}

// passing reports whether accept may work again later.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Logins returns the number of connections that are neither admitted nor closed
// yet.
func (a *Acceptor) Logins() int { return int(a.logins.Load()) }

// LoggingIn returns the connections whose login is in progress.
func (a *Acceptor) LoggingIn() []ClientInfo {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]ClientInfo, 0, len(a.loggingIn))
	for c := range a.loggingIn {
		list = append(list, c.info())
	}
	return list
}

// Listeners returns what Serve is accepting clients on.
func (a *Acceptor) Listeners() []net.Listener {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Keys(a.listeners))
}

// Clients returns the number of clients that count for max_client_conn: those
// that have sent their start-up packet and whose Login.Release was not called.
func (a *Acceptor) Clients() int { return int(a.clients.Load()) }

// Close closes all listeners, breaks the logins in progress, and returns when
// no goroutine is left. It waits for calls of Cancel and Admit. Admitted
// clients are not touched.
func (a *Acceptor) Close() {
	a.mu.Lock()
	a.closed = true
	for ln := range a.listeners {
		ln.Close()
	}
	a.mu.Unlock()
	a.cancel()
	a.wg.Wait()
}

// serve carries one connection from accept to admission or to its end. passage is
// the database that it is passed through to, "" for none in particular.
func (a *Acceptor) serve(conn net.Conn, passage string) {
	defer a.logins.Add(-1)
	stop := context.AfterFunc(a.ctx, func() { conn.Close() })
	defer stop()

	cfg := a.o.Config()
	backend.NewTCPOptions(&cfg.Settings).Apply(conn)
	c := newClient(a, cfg, conn)
	a.mu.Lock()
	a.loggingIn[c] = struct{}{}
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		delete(a.loggingIn, c)
		a.mu.Unlock()
	}()
	ctx := a.ctx
	if cfg.ClientLoginTimeout > 0 {
		deadline := c.login.Since.Add(cfg.ClientLoginTimeout)
		conn.SetDeadline(deadline)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, deadline, errLoginTimeout)
		defer cancel()
	}
	c.passage = passage
	if err := c.run(ctx); err != nil {
		c.login.Release()
		c.end(err)
		conn.Close()
	}
}

// takePlace counts a client for max_client_conn, until freePlace.
func (a *Acceptor) takePlace(limit int) bool {
	if n := a.clients.Add(1); limit > 0 && n > int64(limit) {
		a.clients.Add(-1)
		return false
	}
	return true
}
