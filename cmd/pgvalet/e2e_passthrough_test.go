package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// passThrough returns a pgvalet, not started, one of whose databases is passed
// through to a stand-in for RDS.
func passThrough(t testing.TB) (*pooler, *database, *backendtest.RDS) {
	t.Helper()
	p, d, rds := overIAM(t)
	p.conf.databases["shop"] = section{
		"host": "127.0.0.1", "port": must(strconv.Atoi(portOf(t, rds.Addr())))(t),
		"pool_mode": "passthrough", "passthrough_names": backendtest.DefaultRDSHost,
	}
	return p, d, rds
}

func portOf(t testing.TB, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// dialThrough connects as a client of RDS that is led to a port of the pooler.
func dialThrough(t testing.TB, rds *backendtest.RDS, d *database, port int) (*pgx.Conn, error) {
	t.Helper()
	config := must(pgx.ParseConfig("host=" + backendtest.DefaultRDSHost + " port=5432 sslmode=verify-full dbname=" + d.name + " user=" + d.name))(t)
	config.Password = clientToken(t, rds.Endpoint(), d.name, accessKey)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(rds.CA().PEM())
	config.TLSConfig = &tls.Config{RootCAs: pool, ServerName: backendtest.DefaultRDSHost}
	config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }
	config.Port = uint16(port)
	return pgx.ConnectConfig(testContext(t), config)
}

// TestPassthrough: the client's TLS ends at RDS, which checks the client's own
// token; clients of other databases are served as ever.
func TestPassthrough(t *testing.T) {
	p, d, rds := passThrough(t)
	p.conf.databases["own"] = section{"host": filepath.Dir(d.pg.SocketPath()), "port": d.pg.Port, "dbname": d.name, "user": d.name}
	port := must(backendtest.FreePort())(t)
	p.conf.databases["shop"]["passthrough_port"] = port
	p.start()
	for name, port := range map[string]int{"by name": p.port, "by port": port} {
		t.Run(name, func(t *testing.T) {
			conn := must(dialThrough(t, rds, d, port))(t)
			defer conn.Close(context.Background())
			if got := one(t, conn, "SELECT current_user"); got != d.name {
				t.Errorf("the user is %s", got)
			}
			// More than fits into any buffer, in both directions.
			long := strings.Repeat("x", 5<<20)
			if got := one(t, conn, "SELECT length('"+long+"') || repeat('y', 5000000)"); len(got) != 7+5000000 {
				t.Errorf("%d bytes came back", len(got))
			}
		})
	}
	if _, err := p.dial(testContext(t)); err == nil || !strings.Contains(err.Error(), "passthrough mode") {
		t.Errorf("a client that logs in to pgvalet is told: %v", err)
	}
	one(t, p.connect(t, "database", "own"), "SELECT 1")
}

// TestPassthroughLimits: a client that is passed through counts like any other,
// and PAUSE, KILL and a shutdown hold for it.
func TestPassthroughLimits(t *testing.T) {
	p, d, rds := passThrough(t)
	p.users["dba"] = clientPassword
	p.conf.set("admin_users", "dba")
	p.conf.set("max_client_conn", 2)
	p.start()
	first := must(dialThrough(t, rds, d, p.port))(t)
	defer first.Close(context.Background())
	second := must(dialThrough(t, rds, d, p.port))(t)
	if conn, err := dialThrough(t, rds, d, p.port); err == nil {
		conn.Close(context.Background())
		t.Error("a third client was passed through")
	}
	p.logged("no more connections allowed (max_client_conn)")
	second.Close(context.Background())
	eventually(t, "there is room for another one", func() bool {
		conn, err := dialThrough(t, rds, d, p.port)
		if err == nil {
			conn.Close(context.Background())
		}
		return err == nil
	})
	admin := p.connect(t, "user", "dba", "database", "pgbouncer", "default_query_exec_mode", "simple_protocol")
	rows := must(admin.PgConn().Exec(testContext(t), "SHOW CLIENTS").ReadAll())(t)
	if n := len(rows[0].Rows); n < 2 {
		t.Errorf("SHOW CLIENTS has %d rows, want the client and the console's", n)
	}
	must(admin.PgConn().Exec(testContext(t), "KILL shop").ReadAll())(t)
	if _, err := first.Exec(testContext(t), "SELECT 1"); err == nil {
		t.Error("KILL did not reach a client that is passed through")
	}
	if _, err := dialThrough(t, rds, d, p.port); err == nil {
		t.Error("a client was passed through to a database that is paused")
	}
	must(admin.PgConn().Exec(testContext(t), "RESUME shop").ReadAll())(t)
	last := must(dialThrough(t, rds, d, p.port))(t)
	admin.Close(context.Background())

	p.signal(syscall.SIGTERM)
	p.logged("SIGTERM")
	one(t, last, "SELECT 'is served to the end'")
	last.Close(context.Background())
	p.exit(0)
}
