package frontend

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

const (
	// lingerTime and lingerBytes bound the wait for a client that was told
	// why its connection ends to read that and close its side.
	lingerTime  = 300 * time.Millisecond
	lingerBytes = 256 << 10
)

// Login is a client that has authenticated. Whoever admits it owns its
// connection from then on.
type Login struct {
	ID        uint64 // unique in the process; the console's id
	Transport *evloop.Transport
	TLS       evloop.TLSConn   // nil: not encrypted
	Database  *config.Database // nil for the console
	Console   bool             // the database is pgbouncer or pgvalet
	User      string
	Protocol  uint32 // 3<<16 or 3<<16|2; a NegotiateProtocolVersion was sent if one was due
	// Params are the parameters of the start-up packet, those inside of
	// options among them, each once. Every name is tracked, in the client's
	// own spelling; the console's may be anything. Those of a replication
	// connection are as the client sent them, options included.
	Params      []Parameter
	Replication backend.Replication // what kind of connection it is to be
	Addr        net.Addr
	LocalAddr   net.Addr
	Since       time.Time // when the connection was accepted
	ServerName  string    // of a client that is passed through: which host it asks for (SNI), "" if it does not say

	// Release gives the client's place in max_client_conn back. Whoever admits
	// the client calls it once, when the session ends, and not at all if Admit
	// has returned an error. It holds nothing of the login: a session may keep
	// it.
	Release func()

	unix     string // see unixPlace; "" for a client that is not on a unix socket
	database string // the name that the client asked for
	ownUser  bool   // the operator, see client.isOwnUser
	secret   auth.Secret
	keys     *auth.ScramKeys
	out      []byte // to be sent before anything else
}

// Conn returns the connection, with TLS if there is any.
func (l *Login) Conn() net.Conn {
	if l.TLS != nil {
		return l.TLS
	}
	return l.Transport
}

// Write sends all of b, behind what the login has left to be sent with it: the
// last word of the authentication, mostly. Whoever admits the client writes with
// it first, with an empty b if need be.
func (l *Login) Write(b []byte) error {
	if l.out != nil {
		b = append(l.out, b...)
		l.out = nil
	}
	if len(b) == 0 {
		return nil
	}
	_, err := l.Conn().Write(b)
	return err
}

// Read reads up to len(p) bytes. Nothing is read ahead, so after exactly the
// bytes of a message the connection can still be detached.
func (l *Login) Read(p []byte) (int, error) { return l.Conn().Read(p) }

// Label names the client in log lines: "C-id: database/user@address".
func (l *Login) Label() string {
	return clientLabel(l.ID, l.database, l.User, cmp.Or(l.unix, l.Addr.String()))
}

// clientLabel is PgBouncer's prefix of a client's log lines.
func clientLabel(id uint64, database, user, where string) string {
	if database == "" {
		database = "(nodb)"
	}
	if user == "" {
		user = "(nouser)"
	}
	return fmt.Sprintf("C-%d: %s/%s@%s", id, printable(database), printable(user), where)
}

// unixPlace stands for the address of a client on a unix socket, which is the
// process pid if that is known.
func unixPlace(pid, port int) string {
	if pid == 0 {
		return fmt.Sprintf("unix:%d", port)
	}
	return fmt.Sprintf("unix(%d):%d", pid, port)
}

// printable makes s, which a client chose, safe for a log line.
func printable(s string) string {
	const most = 256
	if len(s) > most {
		s = s[:most] + "..."
	}
	quoted := fmt.Sprintf("%q", s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// client is a connection that logs in, for one goroutine.
type client struct {
	acceptor  *Acceptor
	cfg       *config.Config
	socket    *socket
	tlsConfig *tls.Config // nil: TLS is not for this client
	ticket    *ticket
	passage   string // the database in passthrough mode that the listener is for; "": any
	login     Login
	named     atomic.Pointer[clientName] // nil until the client has said who it is
}

// clientName is who a client says it is.
type clientName struct{ database, user string }

// info is the state of the login. Any goroutine may call it.
func (c *client) info() ClientInfo {
	name := c.named.Load()
	if name == nil {
		name = &clientName{"(nodb)", "(nouser)"}
	}
	l := &c.login
	i := ClientInfo{ConnInfo: pool.ConnInfo{
		ID: l.ID, Database: name.database, User: name.user, State: "login", Addr: l.Addr, LocalAddr: l.LocalAddr,
		ConnectedAt: l.Since, RequestAt: l.Since,
	}}
	i.FD, i.PeerPID = describeSocket(c.socket)
	return i
}

func newClient(a *Acceptor, cfg *config.Config, conn net.Conn) *client {
	c := &client{acceptor: a, cfg: cfg, socket: &socket{Conn: conn}, ticket: a.admission.newTicket(conn.RemoteAddr())}
	if cfg.ClientTLSSSLMode != config.SSLDisable && !c.socket.unix() {
		c.tlsConfig = a.o.TLS()
	}
	c.login = Login{
		ID:        a.o.NextID(),
		Transport: evloop.NewTransport(c.socket),
		Addr:      conn.RemoteAddr(),
		LocalAddr: conn.LocalAddr(),
		Since:     time.Now(),
		Release:   func() {},
	}
	if c.socket.unix() {
		_, pid := describeSocket(c.socket)
		c.login.unix = unixPlace(pid, cfg.ListenPort)
	}
	return c
}

// hangup ends a connection without a word to the client.
type hangup struct {
	reason string
	quiet  bool // nothing that anybody needs to know
}

func (h *hangup) Error() string { return h.reason }

// run logs the client in and has it admitted. nil means that the connection
// is somebody else's now.
func (c *client) run(ctx context.Context) error {
	if c.passage != "" {
		db := c.cfg.Databases[c.passage]
		if db == nil {
			return errNoDatabase.with(c.passage)
		}
		return c.passThrough(ctx, db, false, false)
	}
	s, err := c.start(ctx)
	switch {
	case errors.Is(err, errPassed):
		return nil
	case err != nil:
		return err
	}
	if err := c.check(s); err != nil {
		return err
	}
	if err := c.authenticate(ctx); err != nil {
		return err
	}
	if err := c.authorize(); err != nil {
		return err
	}
	if err := c.takeRoom(); err != nil {
		return err
	}
	l := c.login // of its own: a session must not keep this login's configuration alive
	if err := c.acceptor.o.Admit(ctx, &l); err != nil {
		c.login.out = l.out
		return err
	}
	return nil
}

// check decides what can be decided before the client has proved who it is.
func (c *client) check(s *startup) error {
	l := &c.login
	l.User, l.database, l.Protocol = s.user, s.database, s.protocol()
	c.named.Store(&clientName{l.database, l.User})
	l.Console = config.IsConsole(s.database)
	l.out = s.negotiate(l.out)
	var err error
	l.Replication, err = s.replicationKind()
	if c.cfg.LogConnections {
		c.log(zapcore.InfoLevel, fmt.Sprintf("login attempt: db=%s user=%s tls=%s replication=%s",
			printable(s.database), printable(s.user), c.encryption(), l.Replication.Startup()))
	}
	if c.cfg.ClientTLSSSLMode >= config.SSLRequire && l.TLS == nil && !c.socket.unix() {
		return errTLSRequired
	}
	// It is counted when it has proved who it is: nobody else is to take the
	// places of a user.
	if err := c.roomFor(); err != nil {
		return err
	}
	if l.Console {
		l.Params = s.parameters
		return nil
	}
	switch {
	case err != nil:
		return err
	case l.Replication != backend.NoReplication:
		l.Params = s.replicationParameters()
	default:
		if l.Params, err = s.sessionParameters(&c.cfg.Settings); err != nil {
			return err
		}
	}
	if c.cfg.ApplicationNameAddHost {
		l.Params = c.addHost(l.Params)
	}
	if !c.acceptor.takePlace(c.cfg.MaxClientConn) {
		return errTooMany
	}
	l.Release = c.acceptor.freePlace
	// Not before the place is taken: a shutdown waits for those that have one.
	if c.acceptor.o.ShuttingDown() {
		return errShuttingDown
	}
	return nil
}

// addHost completes the application_name with the client's address.
func (c *client) addHost(params []Parameter) []Parameter {
	name, where := "app", "unix:"+strconv.Itoa(c.cfg.ListenPort)
	for _, p := range params {
		if strings.EqualFold(p.Name, "application_name") {
			name = p.Value
		}
	}
	if !c.socket.unix() {
		where = c.login.Addr.String()
	}
	return setParameter(params, Parameter{Name: "application_name", Value: name + " - " + where})
}

// authorize decides what the client, now known, may use.
func (c *client) authorize() error {
	l := &c.login
	if l.Console {
		if admin, stats := consoleRights(c.cfg, l); !admin && !stats {
			return errNotAllowed
		}
		return nil
	}
	if l.Database = c.cfg.Database(l.database); l.Database == nil {
		return errNoDatabase.with(l.database)
	}
	if l.Database.PoolMode == config.PoolModePassthrough {
		return errPassage
	}
	return nil
}

// consoleRights returns what a client may do on the console: everything, or only
// look. Neither means no access.
func consoleRights(cfg *config.Config, l *Login) (admin, stats bool) {
	admin = l.ownUser || slices.Contains(cfg.AdminUsers, l.User)
	return admin, cfg.AuthType == config.AuthAny || slices.Contains(cfg.StatsUsers, l.User)
}

// flush sends b after what waits to be sent.
func (c *client) flush(b []byte) error {
	if err := c.login.Write(b); err != nil {
		return broken(err)
	}
	return nil
}

// broken turns a failed read or write into the end of the login: an Error when
// there is something to tell the client, a hangup when it is gone.
func broken(err error) error {
	var known *Error
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errLoginTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &hangup{reason: "client unexpected eof"}
	}
	return &hangup{reason: err.Error()}
}

// end logs why the login failed, and tells the client if it can be told.
func (c *client) end(err error) {
	if c.acceptor.ctx.Err() != nil {
		err = &hangup{reason: "login interrupted"} // by Close: nothing of it is the client's fault
	}
	var h *hangup
	silent := errors.As(err, &h)
	level := zapcore.InfoLevel
	if (silent && h.quiet) || !c.cfg.LogDisconnections {
		level = zapcore.DebugLevel
	}
	age := int(time.Since(c.login.Since).Seconds())
	reason := err.Error()
	var fields []zap.Field
	if told := clientErrorFor(err); !silent && !errors.As(err, new(*Error)) && told != errInternal {
		reason, fields = told.Message, append(fields, zap.Error(err)) // tools look for what the client is told
	}
	c.log(level, fmt.Sprintf("closing because: %s (age=%ds)", printable(reason), age), fields...)
	c.login.Transport.SetDeadline(time.Now().Add(lingerTime))
	if !silent {
		told := clientErrorFor(err)
		if c.cfg.LogPoolerErrors {
			c.log(zapcore.WarnLevel, "pooler error: "+printable(told.Message))
		}
		if c.flush(told.Append(nil)) != nil {
			return
		}
	}
	if c.login.TLS != nil {
		_ = c.login.TLS.CloseWrite()
	}
	// Closing a socket that holds unread bytes resets the connection, and the
	// error, or an alert of a handshake, would be lost with it.
	_ = c.socket.CloseWrite()
	_, _ = io.CopyN(io.Discard, c.socket.Conn, lingerBytes)
}

// tlsName is how the log and the console name an encryption.
func tlsName(state *tls.ConnectionState) string {
	return strings.Replace(tls.VersionName(state.Version), " ", "v", 1) + "/" + tls.CipherSuiteName(state.CipherSuite)
}

// encryption describes the connection for the log.
func (c *client) encryption() string {
	if c.login.TLS == nil {
		return "no"
	}
	state := c.login.TLS.ConnectionState()
	return tlsName(&state)
}

func (c *client) log(level zapcore.Level, message string, fields ...zap.Field) {
	if log := c.acceptor.o.Log; log.Core().Enabled(level) {
		log.Named(c.login.Label()).Log(level, message, fields...)
	}
}
