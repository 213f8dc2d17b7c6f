package main

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// TestSet: a setting that the console changes is in force at once, until RELOAD.
func TestSet(t *testing.T) {
	p, d := serving(t)
	p.conf.databases["shop"]["pool_size"] = 1
	p.conf.set("admin_users", "app")
	p.start()
	console := p.connect(t, "database", "pgbouncer")
	set := func(sql string) (pgconn.CommandTag, error) { return console.Exec(testContext(t), sql) }

	steady := p.inTransaction(t, d)
	tag := must(set("SET query_wait_timeout = '0.1'"))(t)
	if tag.String() != "SET query_wait_timeout=0.1" {
		t.Errorf("tag %q", tag)
	}
	_, err := p.connect(t).Exec(testContext(t), "SELECT 1")
	wantError(t, err, "53300", "query_wait_timeout")
	commit(t, d, steady)
	for _, sql := range []string{
		"SET query_wait_timeout = soon", "SET listen_port = 1", "SET no_such_setting = 1", "SET default_pool_size = '-1'",
	} {
		_, err := set(sql)
		wantError(t, err, "08P01", "SET failed")
	}
	if got := p.setting(t, "query_wait_timeout"); got != "0.1" {
		t.Errorf("query_wait_timeout is %s", got)
	}
	p.reload()
	if got := p.setting(t, "query_wait_timeout"); got != "120" {
		t.Errorf("query_wait_timeout is %s after RELOAD", got)
	}
}

// setting returns what SHOW CONFIG says of a setting.
func (p *pooler) setting(t testing.TB, name string) string {
	t.Helper()
	rows := must(p.connect(t, "database", "pgbouncer").Query(testContext(t), "SHOW CONFIG"))(t)
	var key, changeable, found string
	var value, def *string // NULL for what is not set
	must(pgx.ForEachRow(rows, []any{&key, &value, &def, &changeable}, func() error {
		if key == name && value != nil {
			found = *value
		}
		return nil
	}))(t)
	return found
}

// TestSetTLS: settings that are valid only together can be set one by one.
func TestSetTLS(t *testing.T) {
	p, _ := serving(t)
	p.conf.set("admin_users", "app")
	p.start()
	console := p.connect(t, "database", "pgbouncer")
	ca := must(backendtest.NewCA())(t)
	cert, key, err := must(ca.Issue("127.0.0.1", "localhost"))(t).WriteFiles(p.dir, "other")
	if err != nil {
		t.Fatal(err)
	}
	must(console.Exec(testContext(t), "SET client_tls_cert_file = '"+cert+"'"))(t)
	p.logged("TLS settings could not be applied, still using old configuration")
	p.connect(t) // with the old certificate
	must(console.Exec(testContext(t), "SET client_tls_key_file = '"+key+"'"))(t)
	p.write("ca.crt", string(ca.PEM()))
	p.connect(t) // with the new one
}
