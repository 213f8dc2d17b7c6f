package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// serverPassword is that of every test's role on the server.
const serverPassword = "known to pgvalet only"

// database is a database of its own on shared, and the role that owns it.
type database struct {
	t    testing.TB
	pg   *backendtest.Postgres
	name string // of the database and of the role
}

var databases atomic.Int32

// newDatabase makes an empty database. It goes with the test, whoever is
// connected to it.
func newDatabase(t testing.TB) *database {
	t.Helper()
	d := &database{t: t, pg: shared.Postgres(t), name: fmt.Sprintf("e2e%d", databases.Add(1))}
	ctx := testContext(t)
	if err := d.pg.CreateLogin(ctx, d.name, backendtest.SCRAM, serverPassword); err != nil {
		t.Fatal(err)
	}
	if err := d.pg.Exec(ctx, "CREATE DATABASE "+d.name+" OWNER "+d.name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background() // testContext has ended
		if err := d.pg.Exec(ctx, "DROP DATABASE "+d.name+" WITH (FORCE)", "DROP ROLE "+d.name); err != nil {
			t.Error(err)
		}
	})
	return d
}

// direct opens a connection past the pooler, as the superuser.
func (d *database) direct() *pgx.Conn {
	d.t.Helper()
	conn := must(d.pg.Connect(testContext(d.t), d.name, d.pg.Superuser))(d.t)
	d.t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// exec runs statements past the pooler, as the owner.
func (d *database) exec(statements ...string) {
	d.t.Helper()
	ctx := testContext(d.t)
	conn := must(d.pg.Connect(ctx, d.name, d.name))(d.t)
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			d.t.Fatal(err)
		}
	}
}

// servers counts the pooler's connections to d that are as condition says.
func (d *database) servers(condition string) int {
	d.t.Helper()
	ctx := testContext(d.t)
	conn := must(d.pg.Connect(ctx, "postgres", d.pg.Superuser))(d.t)
	defer conn.Close(ctx)
	var n int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity a LEFT JOIN pg_stat_ssl s USING (pid) WHERE usename = $1 AND ("+condition+")", d.name).Scan(&n); err != nil {
		d.t.Fatal(err)
	}
	return n
}

// until waits until there are so many servers as condition says.
func (d *database) until(n int, condition string) {
	d.t.Helper()
	got := -1
	eventually(d.t, fmt.Sprintf("%d servers with %s", n, condition), func() bool {
		got = d.servers(condition)
		return got == n
	})
}

// serve makes d a database of the pooler's, under the name "shop", whose
// servers log in with a password.
func (p *pooler) serve(d *database) section {
	s := section{
		"host": d.pg.Host, "port": d.pg.Port, "dbname": d.name,
		"user": d.name, "password": serverPassword,
	}
	p.conf.databases["shop"] = s
	return s
}

// accessKey is what the pooler signs tokens with.
var accessKey = backendtest.AccessKey{
	ID:           "ASIAEXAMPLE000000001",
	Secret:       "kP9/secret/of/the/access/key/7TfyzX0000",
	SessionToken: "session+token+of+temporary+credentials/0123456789==",
}

// startRDS starts a stand-in for RDS in front of d, which knows accessKey.
func startRDS(t testing.TB, d *database) *backendtest.RDS {
	t.Helper()
	return startStandIn(t, d, backendtest.RDSOptions{})
}

// startDSQL is startRDS for Aurora DSQL.
func startDSQL(t testing.TB, d *database) *backendtest.RDS {
	t.Helper()
	return startStandIn(t, d, backendtest.RDSOptions{DSQL: true, Hosts: []string{"abcdefghijklmnopqrst012345.dsql.us-east-1.on.aws"}})
}

func startStandIn(t testing.TB, d *database, o backendtest.RDSOptions) *backendtest.RDS {
	t.Helper()
	o.Network, o.Address = "unix", d.pg.SocketPath()
	o.Keys, o.IAMUsers = []backendtest.AccessKey{accessKey}, []string{d.name}
	rds := must(backendtest.StartRDS(o))(t)
	t.Cleanup(func() {
		if err := rds.Close(); err != nil {
			t.Error(err)
		}
	})
	return rds
}

// serveRDS is serve with IAM.
func (p *pooler) serveRDS(rds *backendtest.RDS, d *database) section {
	p.t.Helper()
	p.write("server-ca.crt", string(rds.CA().PEM()))
	p.env = append(p.env, "AWS_ACCESS_KEY_ID="+accessKey.ID, "AWS_SECRET_ACCESS_KEY="+accessKey.Secret, "AWS_SESSION_TOKEN="+accessKey.SessionToken)
	host, _, err := net.SplitHostPort(rds.Endpoint())
	if err != nil {
		p.t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(rds.Addr())
	if err != nil {
		p.t.Fatal(err)
	}
	s := section{
		"host": "127.0.0.1", "port": must(strconv.Atoi(port))(p.t), "dbname": d.name,
		"user": d.name, "server_auth": "iam", "iam_host": host,
	}
	p.conf.databases["shop"] = s
	return s
}
