package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestReloadDatabases(t *testing.T) {
	p, d := serving(t)
	p.start()
	steady := p.inTransaction(t, d)

	other := newDatabase(t)
	p.conf.databases["store"] = maps.Clone(p.conf.databases["shop"])
	p.conf.databases["store"]["dbname"] = other.name
	p.conf.databases["store"]["user"] = other.name
	_, err := p.dial(testContext(t), "database", "store")
	wantError(t, err, "3D000", "no such database: store")
	p.reload()
	client := p.connect(t, "database", "store")
	if got := one(t, client, "SELECT current_database()"); got != other.name {
		t.Errorf("store is %s, want %s", got, other.name)
	}

	// One goes: its clients are told, those of others notice nothing.
	busy := p.connect(t, "database", "store")
	one(t, busy, "BEGIN; SELECT 1")
	delete(p.conf.databases, "store")
	p.reload()
	for name, conn := range map[string]*pgx.Conn{"idle": client, "in a transaction": busy} {
		t.Run(name, func(t *testing.T) {
			wantError(t, closedBy(t, conn), "57P01", "database removed")
		})
	}
	_, err = p.dial(testContext(t), "database", "store")
	wantError(t, err, "3D000", "no such database: store")
	other.until(0, "true")
	commit(t, d, steady)
}

func TestReloadPoolSize(t *testing.T) {
	p, d := serving(t)
	p.conf.databases["shop"]["pool_size"] = 1
	p.conf.set("query_wait_notify", "10ms")
	p.start()
	first, second, third := p.inTransaction(t, d), p.connect(t), p.connect(t)
	wait := startWaiting(t, second)

	p.conf.databases["shop"]["pool_size"] = 2
	p.reload()
	if err := <-wait; err != nil {
		t.Error(err)
	}
	one(t, second, "BEGIN; SELECT 1")
	wait = startWaiting(t, third)
	one(t, second, "COMMIT; SELECT 1")
	if err := <-wait; err != nil {
		t.Error(err)
	}

	p.conf.databases["shop"]["pool_size"] = 1
	p.reload()
	wait = startWaiting(t, second)
	commit(t, d, first)
	if err := <-wait; err != nil {
		t.Error(err)
	}
	d.until(1, "true")
}

func TestReloadUserlist(t *testing.T) {
	p, _ := serving(t)
	p.start()
	steady := p.connect(t)
	old := p.users["app"]
	p.users["app"] = "another password"
	p.users["newcomer"] = "and one more"
	p.reload()
	p.connect(t)
	p.connect(t, "user", "newcomer")
	one(t, steady, "SELECT 'passwords are for logins'")
	p.users["app"] = old // what dial sends
	_, err := p.dial(testContext(t))
	wantError(t, err, "28P01", "SASL authentication failed")
	delete(p.users, "newcomer")
	p.reload()
	_, err = p.dial(testContext(t), "user", "newcomer")
	wantError(t, err, "28P01", "SASL authentication failed")
}

// TestScramKeysAreComputedAhead: at the start, and for whom a reload brings.
func TestScramKeysAreComputedAhead(t *testing.T) {
	p, _ := serving(t)
	p.conf.set("verbose", 1)
	p.start()
	p.logged("scram keys are computed")
	p.reload()
	p.logged("scram keys are computed")
}

func TestReloadClientCertificate(t *testing.T) {
	p, _ := serving(t)
	p.start()
	steady := p.connect(t)
	old := string(must(os.ReadFile(p.path("ca.crt")))(t))
	p.useCertificate()
	p.reload()
	one(t, p.connect(t), "SELECT 1")
	one(t, steady, "SELECT 'certificates are for logins'")
	p.write("ca.crt", old)
	if _, err := p.dial(testContext(t)); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
		t.Errorf("with the old authority: %v", err)
	}
}

// TestReloadOfABadFile changes nothing, and says where the mistake is.
func TestReloadOfABadFile(t *testing.T) {
	p, d := serving(t)
	p.start()
	steady := p.inTransaction(t, d)
	good := p.conf.String()
	lastLine := strings.Count(good, "\n") + 1
	tests := []struct {
		name  string
		spoil func()
		want  string
	}{
		{
			"unknown key", func() { p.write("pgvalet.toml", good+"pol_size = 3\n") },
			fmt.Sprintf("/pgvalet.toml:%d: databases.shop.pol_size: unknown key; did you mean pool_size?", lastLine),
		},
		{
			"two mistakes", func() { p.write("pgvalet.toml", "[pgvalet]\nlisten_addr = 7\nlisten_port = 'x'\n") },
			"/pgvalet.toml:2: pgvalet.listen_addr: ",
		},
		{"no auth_file", func() { os.Remove(p.path("userlist.txt")) }, "auth_file: open "},
		{"no certificate", func() { p.write("client.crt", "") }, "TLS setup failed: client_tls_cert_file"},
		{"no key", func() { os.Remove(p.path("client.key")) }, "TLS setup failed: client_tls_key_file: open " + p.path("client.key") + ": No such file or directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p.writeConf()
			tt.spoil()
			p.log.mark()
			p.signal(syscall.SIGHUP)
			if line := p.logged(tt.want); !strings.Contains(line, " ERROR ") {
				t.Errorf("logged %q, want an error", line)
			}
			p.logged("WARNING reload failed: the configuration stays as it is")
			one(t, p.connect(t), "SELECT 'as before'")
		})
	}
	commit(t, d, steady)
}

// TestReloadKeepsWhatNeedsARestart: a setting that a reload cannot change has
// its old value everywhere until the next start.
func TestReloadKeepsWhatNeedsARestart(t *testing.T) {
	p, _ := serving(t)
	p.start()
	p.conf.set("track_extra_parameters", "IntervalStyle,work_mem")
	p.conf.set("stats_users", "app")
	for range 2 { // and says so each time
		p.reload()
		p.logged("reload: track_extra_parameters takes effect at the next start")
	}
	_, err := p.dial(testContext(t), "work_mem", "64kB")
	wantError(t, err, "0A000", "unsupported startup parameter: work_mem")
	console := p.connect(t, "database", "pgbouncer")
	rows := must(console.Query(testContext(t), "SHOW CONFIG"))(t)
	var key, changeable string
	var value, def *string
	must(pgx.ForEachRow(rows, []any{&key, &value, &def, &changeable}, func() error {
		if key == "track_extra_parameters" && *value != "IntervalStyle" {
			t.Errorf("SHOW CONFIG says %s", *value)
		}
		return nil
	}))(t)
}

// TestReloadServerTLS: servers under old settings are replaced, none is taken
// away from a client.
func TestReloadServerTLS(t *testing.T) {
	p, d := serving(t)
	p.start()
	busy, other := p.inTransaction(t, d), p.connect(t)
	pid := one(t, other, "SELECT pg_backend_pid()")
	p.conf.set("server_tls_sslmode", "require")
	p.reload()
	if got := one(t, other, "SELECT pg_backend_pid()"); got == pid {
		t.Error("the server is the same under other TLS settings")
	}
	commit(t, d, busy)
	one(t, other, "SELECT 1")
	d.until(1, "true")

	p.conf.set("server_tls_sslmode", "disable")
	p.reload()
	one(t, other, "SELECT 1")
	d.until(1, "true")
	d.until(1, "NOT s.ssl")

	// And back: what stays the same leaves the servers alone.
	p.conf.set("server_tls_sslmode", "verify-full")
	p.reload()
	pid = one(t, other, "SELECT pg_backend_pid()")
	d.until(1, "s.ssl")
	p.reload()
	if got := one(t, other, "SELECT pg_backend_pid()"); got != pid {
		t.Error("the server was replaced by a reload that changes nothing")
	}
}

func TestReloadChangesTheLog(t *testing.T) {
	p, _ := serving(t)
	p.start()
	for _, name := range []string{"one", "two", ""} {
		p.conf.set("logfile", name)
		p.reload()
		p.connect(t)
		p.logged("login attempt")
	}
	p.conf.set("logfile", "no/such/directory/log")
	p.writeConf()
	p.signal(syscall.SIGHUP)
	p.logged("ERROR logfile: ")
	p.logged("the configuration stays as it is")
	p.signal(syscall.SIGQUIT)
	p.exit(0)
	for _, name := range []string{"one", "two"} {
		if n := strings.Count(string(must(os.ReadFile(p.path(name)))(t)), "login attempt"); n != 1 {
			t.Errorf("%s holds %d logins, want 1", name, n)
		}
	}
}

func TestReloadReopensTheLog(t *testing.T) {
	p, _ := serving(t)
	p.conf.set("logfile", "log")
	p.conf.set("log_format", "json")
	p.start()
	p.connect(t)
	if err := os.Rename(p.path("log"), p.path("log.1")); err != nil {
		t.Fatal(err)
	}
	p.connect(t)
	p.reload()
	p.connect(t)
	p.signal(syscall.SIGQUIT)
	p.exit(0)

	var both string
	for name, logins := range map[string]int{"log.1": 2, "log": 1} {
		content := string(must(os.ReadFile(p.path(name)))(t))
		if got := strings.Count(content, "login attempt"); got != logins {
			t.Errorf("%s holds %d logins, want %d", name, got, logins)
		}
		both += content
	}
	for _, content := range []string{both, p.log.String()} {
		for line := range strings.Lines(content) {
			var e struct{ Time, Level, Msg, Peer string }
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Time == "" || e.Level == "" || e.Msg == "" {
				t.Errorf("%v in %s", err, line)
			}
			if strings.Contains(line, "login attempt") && !strings.HasPrefix(e.Peer, "C-") {
				t.Errorf("a client's line does not name it: %s", line)
			}
		}
	}
	if len(both) != len(p.log.String()) {
		t.Errorf("%d bytes are in the files, %d on the terminal", len(both), len(p.log.String()))
	}
}
