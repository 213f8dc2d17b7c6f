package backendtest

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// AuthMethod is how a login role made by CreateLogin authenticates over TCP.
type AuthMethod string

// The methods, by their names in pg_hba.conf.
const (
	Trust    AuthMethod = "trust"
	Password AuthMethod = "password" // in cleartext
	MD5      AuthMethod = "md5"
	SCRAM    AuthMethod = "scram-sha-256"
)

// DefaultHBA trusts the unix socket, asks over TCP for what a role's
// membership says (see CreateLogin), and trusts everybody else.
var DefaultHBA = []string{
	"local all all                trust",
	"host  all +auth_password all password",
	"host  all +auth_md5      all md5",
	"host  all +auth_scram    all scram-sha-256",
	"host  all all            all trust",
}

// Addr returns the TCP address, "127.0.0.1:port".
func (p *Postgres) Addr() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

// SocketPath returns the path of the unix socket.
func (p *Postgres) SocketPath() string {
	return filepath.Join(p.SocketDir, ".s.PGSQL."+strconv.Itoa(p.Port))
}

// DSN returns a URL to connect to db as user over TCP, for pgx, psql and
// pgbench. A password, where the role needs one, is up to the caller.
func (p *Postgres) DSN(db, user string) string {
	sslmode := "disable"
	if p.options.TLS != nil {
		sslmode = "require"
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.User(user),
		Host:     p.Addr(),
		Path:     "/" + db,
		RawQuery: "sslmode=" + sslmode,
	}
	return u.String()
}

// Connect opens a connection to db as user over the unix socket, where
// DefaultHBA trusts everybody. The caller closes it.
func (p *Postgres) Connect(ctx context.Context, db, user string) (*pgx.Conn, error) {
	// Parsed and then replaced, because pgx merges PG* environment variables
	// into what is left unsaid.
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d sslmode=disable", p.SocketDir, p.Port))
	if err != nil {
		return nil, err
	}
	config.Database, config.User, config.Password = db, user, ""
	return pgx.ConnectConfig(ctx, config)
}

// Exec runs statements as the superuser in the database "postgres", each in
// a transaction of its own but all in one session.
func (p *Postgres) Exec(ctx context.Context, statements ...string) error {
	return p.ExecIn(ctx, "postgres", statements...)
}

// ExecIn is Exec in the database db.
func (p *Postgres) ExecIn(ctx context.Context, db string, statements ...string) error {
	conn, err := p.Connect(ctx, db, p.Superuser)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("%w: %s", err, sql)
		}
	}
	return nil
}

// CreateLogin makes a login role that DefaultHBA lets in over TCP by method
// only, with a password hashed to match. A role of that name that owns nothing
// is replaced, so that a test can be repeated on one server.
func (p *Postgres) CreateLogin(ctx context.Context, name string, method AuthMethod, password string) error {
	role := pgx.Identifier{name}.Sanitize()
	drop := "DROP ROLE IF EXISTS " + role
	if method == Trust {
		return p.Exec(ctx, drop, "CREATE ROLE "+role+" LOGIN")
	}
	group := map[AuthMethod]string{Password: "auth_password", MD5: "auth_md5", SCRAM: "auth_scram"}[method]
	if group == "" {
		return fmt.Errorf("unknown authentication method %q", method)
	}
	encryption := "scram-sha-256"
	if method == MD5 {
		encryption = "md5"
	}
	return p.Exec(ctx, drop,
		"SET password_encryption = '"+encryption+"'",
		"CREATE ROLE "+role+" LOGIN PASSWORD '"+strings.ReplaceAll(password, "'", "''")+"' IN ROLE "+group)
}
