package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/backend/wire"
	"github.com/pgvalet/pgvalet/config"
)

// Target is one place to log in to. It is immutable and can be used by many
// goroutines at once.
type Target struct {
	Host string // name, address, or directory of a unix socket (starts with "/", or "@" for Linux's abstract namespace)
	Port int

	Names *Names // remembers the addresses of Host; nil: they are looked up anew each time

	DBName, User string
	Password     auth.Secret     // for password, md5 and SCRAM; of kind SecretNone if there is none
	Keys         *auth.ScramKeys // for SCRAM, if Password is a secret for it; may be nil
	IAM          *IAM            // not nil: log in with a token only

	// SSLMode has libpq's meanings: disable is plain; allow is plain first, then
	// TLS when the server refuses the plain login; prefer is TLS first, then
	// plain when the server has no TLS, or the handshake or the login over TLS
	// fails; require insists on TLS without verifying anything, verify-ca
	// verifies the certificate's chain, verify-full its name too. A login
	// counts as refused when the server answers with SQLSTATE class 28. A unix
	// socket never uses TLS. As in PgBouncer, and unlike in libpq, require
	// does not become verify-ca when there is a file of authorities.
	SSLMode    config.SSLMode
	TLSConfig  *tls.Config // RootCAs, Certificates and versions, see NewServerTLS; nil: defaults
	ServerName string      // for verify-full and SNI; "": Host

	Params       []Parameter // additional startup parameters, in order
	Replication  Replication // what Params ask for, see ForReplication
	ConnectQuery string      // run after login; an error in it is reported through Warn and ignored

	// ConnectTimeout bounds one attempt to log in: name look-up, TCP, TLS,
	// authentication and ConnectQuery together, over all addresses. 0: none.
	ConnectTimeout time.Duration
	TCP            TCPOptions

	// Admit, if not nil, is asked for leave before each attempt to log in, when
	// the token for it is there already, and waits for it if need be. done is
	// called when the attempt has ended. The time that it takes is not a part
	// of ConnectTimeout. An error of it ends the login and is returned as it is.
	Admit func(ctx context.Context) (done func(), err error)

	// Trace, if not nil, is told of each step that has ended, well or not. It is
	// called by the goroutine of Connect.
	Trace func(Trace)

	// Warn is told what does not end a login: notices, refused tokens, a
	// failed ConnectQuery. May be nil. It is called by the goroutine of Connect.
	Warn func(msg string, err error)
}

// Parameter is one parameter of a startup message or of the server's.
type Parameter struct{ Name, Value string }

// Login is an open connection just after ReadyForQuery. The caller owns it, and
// either detaches Transport (with TLS) or calls Close.
type Login struct {
	Transport *evloop.Transport
	TLS       evloop.TLSConn // nil: plain
	Params    []Parameter    // what the server reported, in order, the last value of each name
	PID       uint32         // for Cancel, with Key
	Key       []byte         // nil if the server sent none
	Addr      net.Addr       // the server's
	LocalAddr net.Addr
}

// Close takes leave of the server and closes the connection.
func (l *Login) Close() error {
	// The goodbye keeps the server's log clean. It must not block: it fits
	// into any socket buffer, and the deadline is for one that does not.
	_ = l.Transport.SetDeadline(time.Now().Add(time.Second))
	if l.TLS != nil {
		_, _ = l.TLS.Write(wire.MsgTerminate)
		return l.TLS.Close()
	}
	_, _ = l.Transport.Write(wire.MsgTerminate)
	return l.Transport.Close()
}

// Connect opens a connection to t and logs in. Errors are those of this
// package, for errors.As: *LoginError when the server refused, *ConnectError
// otherwise; or ctx's own. When ctx ends, Connect returns at once.
//
// The addresses of the host are tried in turn until one answers; each gets its
// share of what is left of ConnectTimeout.
func Connect(ctx context.Context, t *Target) (*Login, error) {
	l, err := t.connectAny(ctx)
	if err != nil && ctx.Err() != nil {
		return nil, fmt.Errorf("connect to %s: %w", t.Place(), context.Cause(ctx))
	}
	return l, err
}

func (t *Target) connectAny(ctx context.Context) (*Login, error) {
	if t.IAM != nil {
		return t.connectIAM(ctx)
	}
	return t.connect(ctx, auth.Token{})
}

// connect is one attempt to log in; token is the zero Token without IAM.
func (t *Target) connect(ctx context.Context, token auth.Token) (*Login, error) {
	if t.Admit != nil {
		done, err := t.Admit(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	if t.ConnectTimeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.ConnectTimeout)
		defer cancel()
	}
	began := time.Now()
	addrs, err := t.resolve(ctx)
	t.trace(StepDNS, began, err, func() string { return listAddrs(addrs) })
	if err != nil {
		return nil, err
	}
	return t.connectAddrs(ctx, addrs, token)
}

func (t *Target) connectAddrs(ctx context.Context, addrs []net.Addr, token auth.Token) (l *Login, err error) {
	err = eachAddress(ctx, addrs, func(ctx context.Context, addr net.Addr) (err error) {
		a := attempt{t: t, ctx: ctx, addr: addr, token: token}
		l, err = a.bySSLMode()
		return err
	})
	return l, err
}

// leastShare is what an address gets of the time that is left, however many
// others there are: less is no attempt.
const leastShare = 2 * time.Second

// eachAddress calls try for one address after the other until one answers. The
// context of each call ends when the address has had its share of the time that
// ctx leaves: one that swallows packets must leave time for the others.
func eachAddress(ctx context.Context, addrs []net.Addr, try func(context.Context, net.Addr) error) error {
	var errs attemptErrors
	for i, addr := range addrs {
		err := withShare(ctx, len(addrs)-i, func(ctx context.Context) error { return try(ctx, addr) })
		if err == nil {
			return nil
		}
		// Latest first: it is the one that ended the search.
		errs = append(attemptErrors{fmt.Errorf("%s: %w", addr, err)}, errs...)
		if ctx.Err() != nil || !tryNextAddress(err) {
			break
		}
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errs
}

// withShare calls try with the share of one out of those that are left.
func withShare(ctx context.Context, left int, try func(context.Context) error) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(leastShare, time.Until(deadline)/time.Duration(left)))
		defer cancel()
	}
	return try(ctx)
}

// tryNextAddress reports whether err is about one address, rather than about
// the login as such. As in libpq, a server that is starting up or shutting down
// (57P03) counts as absent.
func tryNextAddress(err error) bool {
	if e, ok := errors.AsType[*LoginError](err); ok {
		return e.Code == "57P03"
	}
	if e, ok := errors.AsType[*ConnectError](err); ok {
		return e.Kind == ConnectFailed || e.Kind == ConnectTimeout || e.Kind == ConnectionLost
	}
	return false
}

// onUnixSocket reports whether t is reached through a unix socket.
func (t *Target) onUnixSocket() bool {
	return strings.HasPrefix(t.Host, "/") || strings.HasPrefix(t.Host, "@")
}

// Place names t in log lines.
func (t *Target) Place() string {
	if t.onUnixSocket() {
		return t.socketPath()
	}
	return net.JoinHostPort(t.Host, strconv.Itoa(t.Port))
}

// socketPath is where PostgreSQL puts the socket of a port.
func (t *Target) socketPath() string {
	return filepath.Join(t.Host, ".s.PGSQL."+strconv.Itoa(t.Port))
}

func (t *Target) resolve(ctx context.Context) ([]net.Addr, error) {
	if t.onUnixSocket() {
		return []net.Addr{&net.UnixAddr{Name: t.socketPath(), Net: "unix"}}, nil
	}
	if ip, err := netip.ParseAddr(t.Host); err == nil {
		return []net.Addr{&net.TCPAddr{IP: ip.Unmap().AsSlice(), Port: t.Port, Zone: ip.Zone()}}, nil
	}
	names := t.Names
	if names == nil {
		names = NewNames(nil)
	}
	ips, err := names.addresses(ctx, t.Host)
	if err != nil && ctx.Err() != nil {
		return nil, connectError(ConnectTimeout, "no answer to the look-up of %s", t.Host)
	}
	if err != nil {
		return nil, &ConnectError{Kind: DNSFailed, Err: err}
	}
	addrs := make([]net.Addr, len(ips))
	for i, ip := range ips {
		addrs[i] = &net.TCPAddr{IP: ip.Unmap().AsSlice(), Port: t.Port, Zone: ip.Zone()}
	}
	return addrs, nil
}

// dial opens a connection to an address of t.
func (t *Target) dial(ctx context.Context, addr net.Addr) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1, Control: t.TCP.SetBuffers} // Apply does the rest
	conn, err := d.DialContext(ctx, addr.Network(), addr.String())
	if err == nil {
		t.TCP.Apply(conn)
		return conn, nil
	}
	// The dialer gives the socket ctx's deadline, and may notice it before ctx
	// does. The kernel's own patience may end too.
	if e, ok := errors.AsType[net.Error](err); ctx.Err() != nil || ok && e.Timeout() {
		return nil, connectError(ConnectTimeout, "no answer to the connection request")
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		err = e.Err // the address is said already
	}
	return nil, &ConnectError{Kind: ConnectFailed, Err: err}
}

func (t *Target) warn(msg string, err error) {
	if t.Warn != nil {
		t.Warn(msg, err)
	}
}
