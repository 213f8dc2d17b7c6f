package main

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PgBouncer's own file runs as it is: with PgBouncer's defaults, and a fallback
// for databases without an entry, which come and go with their clients.
func TestPgBouncerINI(t *testing.T) {
	d := newDatabase(t)
	p := newPooler(t)
	p.file = "pgbouncer.ini"
	p.users["dba"] = clientPassword
	ini := func(main string) string {
		return fmt.Sprintf(`
[databases]
* = host=%s port=%d user=%s password='%s'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 0
unix_socket_dir = %s
auth_type = scram-sha-256
auth_file = %s
admin_users = dba
client_tls_sslmode = require
client_tls_cert_file = %s
client_tls_key_file = %s
autodb_idle_timeout = 0.1
server_idle_timeout = 0.1
%s`, d.pg.Host, d.pg.Port, d.name, serverPassword, p.dir, p.path("userlist.txt"), p.path("client.crt"), p.path("client.key"), main)
	}
	p.write(p.file, ini(""))
	p.start()

	client := p.connect(t, "database", d.name)
	p.logged("registered new auto-database: " + d.name)
	if got := one(t, client, "SELECT current_database()"); got != d.name {
		t.Errorf("connected to %s, want %s", got, d.name)
	}
	console := p.connect(t, "user", "dba", "database", "pgbouncer", "default_query_exec_mode", "simple_protocol")
	if got := strings.Join(column(t, console, "SHOW DATABASES", "name"), " "); got != d.name+" pgbouncer" {
		t.Errorf("databases: %s", got)
	}
	for i, key := range column(t, console, "SHOW CONFIG", "key") {
		want := map[string]string{"pool_mode": "session", "unix_socket_mode": "511", "max_client_conn": "100", "server_tls_sslmode": "prefer"}[key]
		if got := column(t, console, "SHOW CONFIG", "value")[i]; want != "" && got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}

	// A file with a mistake changes nothing, not even what stands before it.
	p.write(p.file, ini("max_client_conn = 7\nquery_timeout = 1s\n"))
	p.signal(syscall.SIGHUP)
	p.logged(p.file + ":17: pgbouncer.query_timeout: must be a number of seconds, without a unit")
	if got := strings.Join(column(t, console, "SHOW CONFIG", "value"), " "); strings.Contains(got, " 7 ") {
		t.Errorf("the first half of a bad file is in force: %s", got)
	}

	// The database stays as long as it has a client.
	one(t, client, "SELECT 1")
	p.log.mark()
	client.Close(testContext(t))
	p.logged("dropping database as it does not exist anymore or inactive auto-database")
	if got := column(t, console, "SHOW DATABASES", "name"); len(got) != 1 {
		t.Errorf("databases: %s", got)
	}
	p.connect(t, "database", d.name)
	p.logged("registered new auto-database: " + d.name)
}

// TestINIForgets: what a reload does not find in the file any more returns to its
// default.
func TestINIForgets(t *testing.T) {
	p := newPooler(t)
	p.file = "pgbouncer.ini"
	p.users["dba"] = clientPassword
	ini := func(databases, main, users string) string {
		return fmt.Sprintf(`
[databases]
shop = host=127.0.0.1 %s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 0
unix_socket_dir = %s
auth_type = scram-sha-256
auth_file = %s
admin_users = dba
client_tls_sslmode = require
client_tls_cert_file = %s
client_tls_key_file = %s
%s
[users]
%s
`, databases, p.dir, p.path("userlist.txt"), p.path("client.crt"), p.path("client.key"), main, users)
	}
	p.write(p.file, ini("user=forced pool_size=3", "max_client_conn = 7", "batch = pool_mode=statement"))
	p.start()
	console := p.connect(t, "user", "dba", "database", "pgbouncer", "default_query_exec_mode", "simple_protocol")
	shown := func() string {
		var b strings.Builder
		for i, key := range column(t, console, "SHOW CONFIG", "key") {
			if key == "max_client_conn" {
				b.WriteString(column(t, console, "SHOW CONFIG", "value")[i])
			}
		}
		for _, c := range []string{"force_user", "pool_size"} {
			b.WriteString(" " + column(t, console, "SHOW DATABASES", c)[1])
		}
		for i, user := range column(t, console, "SHOW USERS", "name") {
			if user == "batch" {
				b.WriteString(" batch " + column(t, console, "SHOW USERS", "pool_mode")[i])
			}
		}
		return b.String()
	}
	if got := shown(); got != "7 forced 3 batch statement" {
		t.Errorf("in force is %s", got)
	}
	p.write(p.file, ini("", "", ""))
	p.reload()
	if got := shown(); got != "100 NULL 20" {
		t.Errorf("in force after the reload is %s", got)
	}
}

// column returns one column of what the console shows; NULL is "NULL".
func column(t *testing.T, conn *pgx.Conn, sql, name string) []string {
	t.Helper()
	rows := must(conn.Query(testContext(t), sql, pgx.QueryExecModeSimpleProtocol))(t)
	defer rows.Close()
	var all []string
	for rows.Next() {
		for i, f := range rows.FieldDescriptions() {
			if f.Name != name {
				continue
			}
			value := "NULL"
			if raw := rows.RawValues()[i]; raw != nil {
				value = string(raw)
			}
			all = append(all, value)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
