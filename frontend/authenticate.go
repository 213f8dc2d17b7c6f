package frontend

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5/pgproto3"
	"go.uber.org/zap/zapcore"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
)

// ownUser is who may use the console without a password, on the unix socket and
// from a process of our own user.
const ownUser = "pgbouncer"

// account is what is known of the user that a client wants to be.
type account struct {
	known  bool
	secret auth.Secret
}

// authenticate has the client prove who it is. A user that does not exist is
// asked like any other and gets the same error, unless auth_query says that it
// does not exist (see account).
func (c *client) authenticate(ctx context.Context) error {
	if c.isOwnUser() {
		c.login.ownUser = true
		c.log(zapcore.InfoLevel, "pgbouncer access from unix socket")
		return nil
	}
	rule, err := c.rule()
	if err != nil {
		return err
	}
	switch rule.Method {
	case auth.MethodReject:
		return errRejected
	case auth.MethodAny:
		return c.authAny()
	case auth.MethodLDAP:
		return c.authLDAP(ctx, rule.LDAP)
	case auth.MethodIAM:
		return c.authIAM(ctx)
	}
	a, err := c.account(ctx)
	if err != nil {
		return err
	}
	c.login.secret = a.secret
	switch rule.Method {
	case auth.MethodTrust:
		if !a.known {
			return errTrust
		}
		return nil
	case auth.MethodCert:
		return c.authCert(a, rule.Map)
	case auth.MethodPeer:
		return c.authPeer(a, rule.Map)
	case auth.MethodPassword:
		return c.authPlain(ctx, a)
	case auth.MethodMD5:
		if a.secret.Kind() != auth.SecretScram { // which MD5 cannot check
			return c.authMD5(ctx, a)
		}
	}
	return c.authScram(ctx, a)
}

// rule returns how the client has to prove who it is: the rule that the HBA file
// has for it, or one made of auth_type.
func (c *client) rule() (*auth.HBARule, error) {
	switch c.cfg.AuthType {
	case config.AuthHBA:
	case config.AuthTrust:
		return &auth.HBARule{Method: auth.MethodTrust}, nil
	case config.AuthAny:
		return &auth.HBARule{Method: auth.MethodAny}, nil
	case config.AuthPlain:
		return &auth.HBARule{Method: auth.MethodPassword}, nil
	case config.AuthMD5:
		return &auth.HBARule{Method: auth.MethodMD5}, nil
	case config.AuthCert:
		return &auth.HBARule{Method: auth.MethodCert}, nil
	case config.AuthLDAP:
		return &auth.HBARule{Method: auth.MethodLDAP, LDAP: c.acceptor.o.LDAP()}, nil
	case config.AuthIAM:
		if c.login.Console { // which no server stands behind
			return &auth.HBARule{Method: auth.MethodScram}, nil
		}
		return &auth.HBARule{Method: auth.MethodIAM}, nil
	default:
		return &auth.HBARule{Method: auth.MethodScram}, nil
	}
	who := auth.HBAClient{
		TLS:         c.login.TLS != nil,
		Replication: c.login.Replication == backend.PhysicalReplication,
		Database:    c.login.database,
		User:        c.login.User,
	}
	if c.login.Console {
		who.Database = consoleName
	}
	if !c.socket.unix() {
		who.Addr = hostOf(c.login.Addr.String())
	}
	rule := c.acceptor.o.HBA().Find(who)
	if rule == nil {
		return nil, errNoMethod
	}
	c.log(zapcore.DebugLevel, fmt.Sprintf("line %d of auth_hba_file holds: %s", rule.Line, rule.Method))
	return rule, nil
}

// hostOf returns the host of an address with a port. It is valid whatever
// address says, so that nobody passes for a client on the unix socket.
func hostOf(address string) netip.Addr {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.IPv6Unspecified()
	}
	return ap.Addr()
}

// isOwnUser reports whether the client is the operator at the console.
func (c *client) isOwnUser() bool {
	if !c.login.Console || c.login.User != ownUser || !c.socket.unix() {
		return false
	}
	uid, err := c.socket.peerUID()
	return err == nil && uid == os.Getuid()
}

// authAny lets everybody in, as the user that the database forces.
func (c *client) authAny() error {
	if c.login.Console {
		return nil
	}
	db := c.cfg.Database(c.login.database)
	switch {
	case db == nil:
		return errNoDatabase.with(c.login.database)
	case db.User == "":
		return fmt.Errorf("auth_type any needs a user in databases.%s: %w", db.Name, errInternal)
	}
	c.login.User = db.User
	return nil
}

// authCert compares the names in the client's certificate, which the handshake
// has verified, with the user, or looks them up in the map.
func (c *client) authCert(a account, m *auth.IdentMap) error {
	if c.login.TLS == nil {
		return fmt.Errorf("%w: TLS connection required", errCert)
	}
	state := c.login.TLS.ConnectionState()
	if len(state.VerifiedChains) == 0 {
		return fmt.Errorf("%w: TLS client certificate required", errCert)
	}
	leaf := state.PeerCertificates[0]
	names := append([]string{leaf.Subject.CommonName}, leaf.DNSNames...)
	switch {
	case !a.known:
		return fmt.Errorf("%w: no such user", errCert)
	case m != nil && !m.Allows(names, c.login.User):
		return fmt.Errorf("%w: ident map: %s does not have a match for the names %q", errCert, m.Name, names)
	case m == nil && !slices.Contains(names, c.login.User):
		return fmt.Errorf("%w: TLS certificate name mismatch: the names are %q", errCert, names)
	}
	return nil
}

// authPeer compares the name of the system user whose process the client is
// with the user, or looks it up in the map.
func (c *client) authPeer(a account, m *auth.IdentMap) error {
	if !c.socket.unix() {
		return fmt.Errorf("%w: peer is for the unix socket", errPeer)
	}
	uid, err := c.socket.peerUID()
	if err != nil {
		return fmt.Errorf("%w: who is at the other end is not known: %w", errPeer, err)
	}
	peer, err := user.LookupId(strconv.Itoa(uid))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errPeer, err)
	case !a.known:
		return fmt.Errorf("%w: no such user", errPeer)
	case m != nil && !m.Allows([]string{peer.Username}, c.login.User):
		return fmt.Errorf("%w: ident map %s cannot be matched for the system user %q", errPeer, m.Name, peer.Username)
	case m == nil && peer.Username != c.login.User:
		return fmt.Errorf("%w: the system user is %q", errPeer, peer.Username)
	}
	return nil
}

// maxLDAP is how many logins ask LDAP servers at once: a server that hangs must
// not gather more of them, and of their connections, than that.
const maxLDAP = 32

// authLDAP has an LDAP server check the password, which pgvalet then knows for
// logins to servers. It is asked for in cleartext, with or without TLS, as in
// PgBouncer: lines of hostssl, or client_tls_sslmode, are there to insist on it.
func (c *client) authLDAP(ctx context.Context, l *auth.LDAP) error {
	password, err := c.askPassword(&pgproto3.AuthenticationCleartextPassword{}, maxCleartext)
	if err != nil {
		return err
	}
	slots := c.acceptor.ldapSlots
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	err = l.Authenticate(ctx, c.login.User, password)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%w: %w", errLDAP, err)
	}
	c.login.secret = auth.PlainSecret(password)
	return nil
}

// account looks the user up: in auth_file, and if it is not there and the
// database has an auth_user, with auth_query. A database that does not exist has
// none, so that nobody learns that.
func (c *client) account(ctx context.Context) (account, error) {
	if secret, ok := c.acceptor.o.Userlist().Lookup(c.login.User); ok {
		return account{true, secret}, nil
	}
	q, err := c.authQuery()
	if err != nil || q == nil {
		return account{}, err
	}
	a, err := c.acceptor.queries.ask(ctx, *q)
	if err == nil && !a.known {
		err = errNoUserFound // as PgBouncer: the query could make up a secret if nobody is to know
	}
	return a, err
}
