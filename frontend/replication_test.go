package frontend

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// replicationRig has a PostgreSQL of its own that replicates, and the database
// app on it.
func replicationRig(t *testing.T, lines string) (*rig, *backendtest.Postgres) {
	t.Helper()
	shared.Postgres(t) // skips without PostgreSQL
	pg, err := backendtest.StartPostgres(context.Background(), backendtest.PostgresOptions{
		Settings: map[string]string{"wal_level": "logical", "log_replication_commands": "on"},
		HBA:      []string{"local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	// PostgreSQL's programs ask for a database of this name.
	other := fmt.Sprintf("\n[databases.replication]\nhost = %q\nport = %d\nuser = \"postgres\"", pg.Host, pg.Port)
	return startRig(t, pg.Addr(), lines+"\npool_mode = \"transaction\""+other), pg
}

// TestReplicationStartup: a replication client has a server of its own, which
// was started with its own parameters, and it is gone with the client.
func TestReplicationStartup(t *testing.T) {
	r, _ := replicationRig(t, "default_pool_size = 3")
	logical := r.client("replication", "database", "application_name", "abc", "options", "-c enable_seqscan=off -c extra_float_digits=3")
	logical.query("IDENTIFY_SYSTEM")
	logical.want("T", "D …", "C IDENTIFY_SYSTEM", "Z I")
	for sql, want := range map[string]string{
		"SHOW application_name": "abc", "SHOW enable_seqscan": "off", "SHOW extra_float_digits": "3",
		"SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()": "walsender",
	} {
		if got := logical.row(sql); got != want {
			t.Errorf("%s: %s, not %s", sql, got, want)
		}
	}
	pid := logical.pid()
	ordinary := r.client("application_name", "xyz")
	if got := ordinary.pid(); got == pid {
		t.Error("somebody else has the walsender")
	}
	if got := logical.pid(); got != pid {
		t.Errorf("another server, %s instead of %s", got, pid)
	}
	logical.query("begin")
	logical.want("C BEGIN", "Z T")
	logical.query("nonsense")
	logical.want("ERROR 42601…", "Z E")
	logical.query("rollback")
	logical.want("C ROLLBACK", "Z I")

	for _, value := range []string{"true", "on", "yes", "1"} {
		physical := r.client("replication", value)
		physical.query("select 1")
		physical.want("ERROR 0A000 cannot execute SQL commands in WAL sender for physical replication", "Z I")
		physical.close()
		r.await("the walsender is gone", func() bool { return r.servers() == 2 })
	}
	kinds := map[string]string{}
	for _, s := range r.pools.Servers() {
		kinds["server "+s.Replication.String()] = s.State
	}
	for _, c := range r.sessions.Snapshot() {
		kinds["client "+c.Replication.String()] = c.State
	}
	if len(kinds) != 4 || kinds["server logical"] != "active" || kinds["client logical"] != "active" || kinds["server none"] != "idle" {
		t.Errorf("shown: %v", kinds)
	}
	logical.close()
	r.await("the walsender is gone", func() bool { return r.servers() == 1 })
}

// TestReplicationRefused: what the server says to a user who may not replicate is
// the client's own affair.
func TestReplicationRefused(t *testing.T) {
	r, pg := replicationRig(t, "")
	ctx := context.Background()
	if err := pg.Exec(ctx, "create role boss superuser login"); err != nil {
		t.Fatal(err)
	}
	boss, err := pg.Connect(ctx, "postgres", "boss")
	if err != nil {
		t.Fatal(err)
	}
	defer boss.Close(ctx)
	if _, err := boss.Exec(ctx, "alter role postgres rename to former; create role postgres login"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		conn := r.dial()
		if _, err := conn.Write(startupPacket(protocol30, "user", "postgres", "database", "app", "replication", "database")); err != nil {
			t.Fatal(err)
		}
		lines := transcript(t, conn, 0)
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "FATAL 42501 login failed") {
			t.Error(lines)
		}
	}
	if got := r.client().row("select 1"); got != "1" {
		t.Error(got)
	}
}

// TestReplicationPlaces: such a server takes a place in the pool. An idle server
// makes room for it, and so does one that becomes free.
func TestReplicationPlaces(t *testing.T) {
	r, _ := replicationRig(t, "default_pool_size = 1")
	ordinary := r.client()
	first := ordinary.pid()
	walsender := r.client("replication", "database")
	if got := walsender.pid(); got == first {
		t.Fatal("an ordinary server became a walsender")
	}
	if n := r.servers(); n != 1 {
		t.Errorf("%d servers", n)
	}
	ordinary.query("select 1")
	r.awaitWaiting(1)
	walsender.close()
	ordinary.want("T", "D 1", "C SELECT 1", "Z I")

	// The other way round, with somebody behind it in the queue.
	ordinary.do("begin")
	conn := r.dial()
	if _, err := conn.Write(startupPacket(protocol30, "user", "postgres", "database", "app", "replication", "database")); err != nil {
		t.Fatal(err)
	}
	r.awaitWaiting(1)
	other := r.client()
	other.query("select 2")
	r.awaitWaiting(2)
	ordinary.do("commit")
	walsender = &wireClient{t: t, conn: conn, front: pgproto3.NewFrontend(conn, conn), params: make(map[string]string)}
	walsender.until("Z I")
	if got := walsender.row("select 3"); got != "3" {
		t.Error(got)
	}
	r.awaitWaiting(1)
	walsender.send(&pgproto3.Terminate{})
	other.want("T", "D 2", "C SELECT 1", "Z I")
	r.awaitRest()
}

// TestReplicationGivesUp: one that waits in vain leaves nothing behind.
func TestReplicationGivesUp(t *testing.T) {
	r, _ := replicationRig(t, "default_pool_size = 1\nclient_login_timeout = 0.3")
	c := r.client()
	c.do("begin")
	conn := r.dial()
	if _, err := conn.Write(startupPacket(protocol30, "user", "postgres", "database", "app", "replication", "database")); err != nil {
		t.Fatal(err)
	}
	lines := transcript(t, conn, 0)
	if len(lines) != 2 || !strings.Contains(lines[0], "client_login_timeout") {
		t.Error(lines)
	}
	c.do("commit")
	if got := c.row("select 1"); got != "1" {
		t.Error(got)
	}
	r.awaitRest()
}

// TestReplicationReconnect: RECONNECT reaches servers that nobody gives back.
func TestReplicationReconnect(t *testing.T) {
	r, _ := replicationRig(t, "")
	c := r.client("replication", "database")
	c.pid()
	if err := r.pools.Reconnect("app"); err != nil {
		t.Fatal(err)
	}
	c.want("FATAL 08006 server conn crashed?", "EOF")
	r.await("the walsender is gone", r.noServers)
}

// noServers reports whether no pool has a server.
func (r *rig) noServers() bool { return len(r.pools.Servers()) == 0 }

// tool returns one of PostgreSQL's client programs, to be run against the rig.
func (r *rig) tool(pg *backendtest.Postgres, name string, args ...string) *exec.Cmd {
	r.t.Helper()
	path := filepath.Join(pg.BinDir, name)
	if _, err := os.Stat(path); err != nil {
		r.t.Skip(err)
	}
	host, port, err := net.SplitHostPort(r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(path, append(args, "--dbname", "host="+host+" port="+port+" user=postgres dbname=app sslmode=disable")...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.t.TempDir(), "LC_ALL=C"}
	return cmd
}

// TestBaseBackup: with the WAL streamed on a second connection meanwhile.
func TestBaseBackup(t *testing.T) {
	r, pg := replicationRig(t, "default_pool_size = 3")
	dir := filepath.Join(t.TempDir(), "backup")
	out, err := r.tool(pg, "pg_basebackup", "--checkpoint=fast", "--wal-method=stream", "--no-sync", "--pgdata", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err = exec.Command(filepath.Join(pg.BinDir, "pg_verifybackup"), dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.await("the walsenders are gone", r.noServers)
}

// TestReceiveWAL streams in both directions: the receiver reports what it has.
func TestReceiveWAL(t *testing.T) {
	r, pg := replicationRig(t, "default_pool_size = 3\nquery_timeout = 1\ntransaction_timeout = 1")
	dir := t.TempDir()
	cmd := r.tool(pg, "pg_receivewal", "--directory", dir, "--no-loop", "--status-interval=1", "--synchronous")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = backendtest.ChildAttr(nil, syscall.SIGKILL)
	p, err := backendtest.StartProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	exec := func(sql string) {
		t.Helper()
		if err := pg.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	flushed := func() bool {
		conn, err := pg.Connect(context.Background(), "postgres", "postgres")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		var ok bool
		err = conn.QueryRow(context.Background(), "select coalesce(bool_and(flush_lsn >= pg_current_wal_flush_lsn()), false) from pg_stat_replication").Scan(&ok)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	exec("create table big as select repeat('x', 1000) as x from generate_series(1, 20000)")
	r.await("the receiver has told that it has all", flushed)
	for range 3 {
		exec("insert into big select repeat('y', 1000) from generate_series(1, 10000); select pg_switch_wal()")
	}
	r.await("the receiver has told that it has all", flushed)
	if err := p.Stop(testTimeout, syscall.SIGINT); err != nil {
		t.Errorf("%v: %s", err, &out)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "0*")); err != nil || len(files) < 3 {
		t.Errorf("%v %v: %s", files, err, &out)
	}
	r.await("the walsender is gone", r.noServers)
}
