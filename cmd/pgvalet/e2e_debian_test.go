package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// debianINI is what Debian's package of PgBouncer installs as pgbouncer.ini, as
// far as it says anything: the folders and the port are the test's, and there is
// an administrator.
const debianINI = `;; Database name = connect string
[databases]

; any other setting
;* = host=testserver

[users]
;user1 = pool_size=5

[pgbouncer]
logfile = %[1]s/log/pgbouncer.log
pidfile = %[1]s/run/pgbouncer.pid

listen_addr = localhost
listen_port = %[2]d

;unix_socket_dir = /tmp
unix_socket_dir = %[1]s/run

; any, trust, plain, md5, cert, hba, pam
auth_type = md5
auth_file = %[1]s/etc/userlist.txt

admin_users = dba
;stats_users = stats, root
;pool_mode = session
`

// TestDebian runs as Debian's unit of PgBouncer has it run: the file as its only
// argument, Type=notify, reloaded with SIGHUP and stopped with SIGINT.
func TestDebian(t *testing.T) {
	dir := must(os.MkdirTemp("", "deb"))(t) // short, for the sockets
	defer os.RemoveAll(dir)
	port := must(backendtest.FreePort())(t)
	for _, folder := range []string{"etc", "log", "run"} {
		must(0, os.Mkdir(filepath.Join(dir, folder), 0o755))(t)
	}
	path := filepath.Join(dir, "etc", "pgbouncer.ini")
	must(0, os.WriteFile(path, fmt.Appendf(nil, debianINI, dir, port), 0o640))(t)
	must(0, os.WriteFile(filepath.Join(dir, "etc", "userlist.txt"), []byte("\"dba\" \"secret\"\n"), 0o640))(t)
	if out, err := exec.CommandContext(testContext(t), "pgvalet", "check", path).CombinedOutput(); err != nil || strings.Contains(string(out), "warning") {
		t.Errorf("check: %v, output %s", err, out)
	}

	env, hears := serviceManager(t, dir)
	cmd := exec.CommandContext(testContext(t), "pgvalet", path)
	cmd.Env = append(os.Environ(), env)
	must(0, cmd.Start())(t)
	hears("READY=1")
	if pid := string(must(os.ReadFile(filepath.Join(dir, "run", "pgbouncer.pid")))(t)); strings.TrimSpace(pid) != fmt.Sprint(cmd.Process.Pid) {
		t.Errorf("the pid file says %q, not %d", pid, cmd.Process.Pid)
	}
	for _, host := range []string{"localhost", filepath.Join(dir, "run")} {
		conn := must(pgx.Connect(testContext(t), fmt.Sprintf("host=%s port=%d user=dba password=secret dbname=pgbouncer sslmode=disable default_query_exec_mode=simple_protocol", host, port)))(t)
		if got := column(t, conn, "SHOW DATABASES", "name"); len(got) != 1 || got[0] != "pgbouncer" {
			t.Errorf("on %s: databases %s", host, got)
		}
		must(0, conn.Close(testContext(t)))(t)
	}
	must(0, cmd.Process.Signal(syscall.SIGHUP))(t)
	hears(`RELOADING=1\nMONOTONIC_USEC=\d+\n`)
	hears("READY=1")
	must(0, cmd.Process.Signal(syscall.SIGINT))(t)
	hears("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if left := must(os.ReadDir(filepath.Join(dir, "run")))(t); len(left) > 0 {
		t.Errorf("%s is left behind", left)
	}
	log := string(must(os.ReadFile(filepath.Join(dir, "log", "pgbouncer.log")))(t))
	for _, want := range []string{"process up", fmt.Sprintf(": pgbouncer/dba@unix(%d):%d login attempt: db=pgbouncer user=dba", os.Getpid(), port), "got SIGHUP", "got SIGINT"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
}
