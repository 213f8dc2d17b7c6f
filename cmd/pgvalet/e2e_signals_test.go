package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// serving returns a pgvalet that serves a database, not started yet.
func serving(t testing.TB) (*pooler, *database) {
	t.Helper()
	d := newDatabase(t)
	p := newPooler(t)
	p.serve(d)
	p.conf.set("pidfile", "pid")
	return p, d
}

// inTransaction returns a client that has written something and not committed.
func (p *pooler) inTransaction(t testing.TB, d *database) *pgx.Conn {
	t.Helper()
	d.exec("CREATE TABLE IF NOT EXISTS written (i int)", "TRUNCATE written")
	conn := p.connect(t)
	one(t, conn, "BEGIN; INSERT INTO written VALUES (1); SELECT 1")
	return conn
}

// commit ends what inTransaction has begun, and checks that it has happened.
func commit(t testing.TB, d *database, conn *pgx.Conn) {
	t.Helper()
	if _, err := conn.Exec(testContext(t), "COMMIT"); err != nil {
		t.Errorf("commit: %v", err)
	}
	if n := one(t, d.direct(), "SELECT count(*) FROM written"); n != "1" {
		t.Errorf("%s rows are written, want 1", n)
	}
}

// closedBy waits until the client's connection has ended, and returns what it
// was told at last.
func closedBy(t testing.TB, conn *pgx.Conn) error {
	t.Helper()
	_, err := conn.PgConn().ReceiveMessage(testContext(t))
	return err
}

// refused checks that TCP connections are.
func (p *pooler) refused(t testing.TB) {
	t.Helper()
	eventually(t, "TCP connections are refused", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)))
		if err == nil {
			conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

// gone checks what must not be left of a process that has ended well.
func (p *pooler) gone(t testing.TB, d *database) {
	t.Helper()
	for _, name := range []string{"pid", ".s.PGSQL." + strconv.Itoa(p.port)} {
		if _, err := os.Stat(p.path(name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind (%v)", name, err)
		}
	}
	d.until(0, "true")
	if p.log.find("process down") == "" {
		t.Error("the end is not logged")
	}
}

func TestTermWaitsForClients(t *testing.T) {
	p, d := serving(t)
	p.start()
	if pid := string(must(os.ReadFile(p.path("pid")))(t)); pid != strconv.Itoa(p.cmd.Process.Pid)+"\n" {
		t.Errorf("the pid file says %q", pid)
	}
	busy, idle := p.inTransaction(t, d), p.connect(t)
	one(t, idle, "SELECT 1")

	p.signal(syscall.SIGTERM)
	p.refused(t)
	one(t, idle, "SELECT 'still served'")
	commit(t, d, busy)
	one(t, busy, "SELECT 'still served'")
	// The unix socket is there for the console, and for nobody else.
	_, err := p.dial(testContext(t), "host", p.dir, "sslmode", "disable", "channel_binding", "disable")
	wantError(t, err, "57P03", "pooler is shutting down")
	busy.Close(testContext(t))
	if !p.running() {
		t.Error("pgvalet has ended before its last client")
	}
	one(t, idle, "SELECT 'still served'")
	idle.Close(testContext(t))
	p.exit(0)
	p.gone(t, d)
}

func TestSecondTermEndsAtOnce(t *testing.T) {
	p, d := serving(t)
	p.start()
	conn := p.inTransaction(t, d)
	p.signal(syscall.SIGTERM)
	p.refused(t)
	one(t, conn, "SELECT 'still served'")
	p.signal(syscall.SIGTERM)
	p.exit(0)
	if err := closedBy(t, conn); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("the client is told: %v", err)
	}
	p.gone(t, d)
}

func TestIntWaitsForTransactions(t *testing.T) {
	p, d := serving(t)
	p.start()
	busy, idle := p.inTransaction(t, d), p.connect(t)
	one(t, idle, "SELECT 1")

	p.signal(syscall.SIGINT)
	p.refused(t)
	_, err := idle.Exec(testContext(t), "SELECT 'too late'")
	wantError(t, err, "57P01", "server shutting down")
	one(t, busy, "SELECT 'still in the transaction'")
	if !p.running() {
		t.Error("pgvalet has ended before the last transaction")
	}
	commit(t, d, busy)
	p.exit(0)
	p.gone(t, d)
}

func TestIntTurnsTheQueueAway(t *testing.T) {
	p, d := serving(t)
	p.conf.databases["shop"]["pool_size"] = 1
	p.conf.set("query_wait_notify", "10ms")
	p.start()
	busy, waiting := p.inTransaction(t, d), p.connect(t)
	wait := startWaiting(t, waiting)
	p.signal(syscall.SIGINT)
	wantError(t, <-wait, "57P01", "server shutting down")
	commit(t, d, busy)
	p.exit(0)
	p.gone(t, d)
}

// startWaiting sends a query, and returns when the client has been told that it
// waits for a server. The channel gets the end of the query.
func startWaiting(t testing.TB, conn *pgx.Conn) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT 'waited for'")
		done <- err
	}()
	select {
	case <-noticed(conn, queuedNotice):
	case err := <-done:
		t.Fatalf("the client did not have to wait: %v", err)
	case <-testContext(t).Done():
		t.Fatal("the client was not told that it waits")
	}
	return done
}

func TestQuitEndsAtOnce(t *testing.T) {
	p, d := serving(t)
	p.start()
	conn := p.inTransaction(t, d)
	p.signal(syscall.SIGQUIT)
	p.exit(0)
	if err := closedBy(t, conn); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		t.Errorf("the client is told: %v", err)
	}
	p.gone(t, d)
	if n := one(t, d.direct(), "SELECT count(*) FROM written"); n != "0" {
		t.Errorf("%s rows are written by a transaction that was not committed", n)
	}
}

func TestPauseAndResume(t *testing.T) {
	p, d := serving(t)
	p.conf.set("query_wait_notify", "10ms")
	p.start()
	busy, other := p.inTransaction(t, d), p.connect(t)
	one(t, other, "SELECT 1")

	p.signal(syscall.SIGUSR1)
	p.logged("pausing all activity")
	d.until(1, "true") // the transaction goes on
	commit(t, d, busy)
	d.until(0, "true")
	wait := startWaiting(t, other)
	late := p.connect(t) // a login needs no server
	waitLate := startWaiting(t, late)
	if n := d.servers("true"); n != 0 {
		t.Errorf("%d servers while paused", n)
	}

	p.signal(syscall.SIGUSR2)
	for _, w := range []<-chan error{wait, waitLate} {
		if err := <-w; err != nil {
			t.Errorf("after the pause: %v", err)
		}
	}
	one(t, busy, "SELECT 'and on'")
	p.log.mark()
	p.signal(syscall.SIGUSR2)
	p.logged("pooler is not paused/suspended")
}

func TestTermWhilePaused(t *testing.T) {
	p, d := serving(t)
	p.start()
	conn := p.connect(t)
	one(t, conn, "SELECT 1")
	p.signal(syscall.SIGUSR1)
	d.until(0, "true")
	p.signal(syscall.SIGTERM)
	p.refused(t)
	conn.Close(testContext(t))
	p.exit(0)
	p.gone(t, d)
}

// TestTermWaitsForALogin: a client that is about to log in is served, too.
func TestTermWaitsForALogin(t *testing.T) {
	p, _ := serving(t)
	p.conf.set("auth_type", "plain")
	p.start()
	conn := must(net.Dial("unix", p.path(".s.PGSQL."+strconv.Itoa(p.port))))(t)
	defer conn.Close()
	must(0, conn.SetDeadline(time.Now().Add(testPatience)))(t)
	client := pgproto3.NewFrontend(conn, conn)
	receive := func(want pgproto3.BackendMessage) {
		t.Helper()
		for {
			m := must(client.Receive())(t)
			if e, ok := m.(*pgproto3.ErrorResponse); ok {
				t.Fatalf("got an error: %s", e.Message)
			}
			if reflect.TypeOf(m) == reflect.TypeOf(want) {
				return
			}
		}
	}
	client.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "app", "database": "shop"}})
	must(0, client.Flush())(t)
	receive(&pgproto3.AuthenticationCleartextPassword{})
	p.signal(syscall.SIGTERM)
	p.refused(t)
	client.Send(&pgproto3.PasswordMessage{Password: clientPassword})
	must(0, client.Flush())(t)
	receive(&pgproto3.ReadyForQuery{})
	client.Send(&pgproto3.Query{String: "SELECT pg_sleep(0.2)"})
	must(0, client.Flush())(t)
	receive(&pgproto3.CommandComplete{})
	conn.Close()
	p.exit(0)
}

// TestLogReaderGone: what reads the log may end before pgvalet does.
func TestLogReaderGone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pgvalet.toml")
	must(0, errors.Join(
		os.WriteFile(filepath.Join(dir, "users.txt"), nil, 0o600),
		os.WriteFile(path, []byte("[pgvalet]\nunix_socket_dir = '.'\nauth_file = 'users.txt'\n"), 0o600),
	))(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(testContext(t), "pgvalet", path)
	cmd.Stderr = w
	must(0, cmd.Start())(t)
	w.Close()
	for lines := bufio.NewScanner(r); ; {
		if !lines.Scan() {
			t.Fatal("pgvalet did not start")
		}
		if strings.Contains(lines.Text(), "process up") {
			break
		}
	}
	r.Close()
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGQUIT} {
		_ = cmd.Process.Signal(s) // it may have ended, as Wait tells
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("pgvalet ended with %v", err)
	}
}
