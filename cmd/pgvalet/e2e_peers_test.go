package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// cancelAt sends the cancel request for conn to another pooler, and waits until
// that has closed the connection. hops is how often it may be forwarded.
func cancelAt(t testing.TB, network, address string, conn *pgx.Conn, hops byte) {
	t.Helper()
	c := must(net.Dial(network, address))(t)
	defer c.Close()
	request := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 16, 4, 210, 22, 46}, conn.PgConn().PID())
	secret := conn.PgConn().SecretKey()
	if len(secret) != 4 || secret[3]&3 != 3 {
		t.Fatalf("secret %x of a client is not what peers have", secret)
	}
	request = append(request, secret...)
	request[15] = request[15]&^3 | hops
	must(c.Write(request))(t)
	must(io.Copy(io.Discard, c))(t)
}

// endless runs a query that does not end by itself. The channel gets its end.
func endless(t testing.TB, d *database, conn *pgx.Conn) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "SELECT pg_sleep(600)")
		done <- err
	}()
	d.until(1, "query LIKE 'SELECT pg_sleep%' AND state = 'active'")
	return done
}

func cancelled(t testing.TB, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		wantError(t, err, "57014", "canceling statement due to user request")
	case <-testContext(t).Done():
		t.Fatal("the query goes on")
	}
}

// peer gives p a number and another peer.
func (p *pooler) peer(id, other int, host string, port int) {
	p.conf.set("peer_id", id)
	p.conf.peers = map[string]section{strconv.Itoa(other): {"host": host, "port": port}}
}

func TestCancelThroughPeer(t *testing.T) {
	d := newDatabase(t)
	a, b := newPooler(t), newPooler(t)
	for _, p := range []*pooler{a, b} {
		p.serve(d)
	}
	a.peer(1, 2, b.dir, 1)
	a.start()
	b.peer(258, 1, "127.0.0.1", a.port)
	b.conf.peers["77"] = section{"host": b.dir, "port": 1} // where nobody is
	b.start()
	// Now that the port of b is known.
	a.peer(1, 258, b.dir, b.port)
	a.reload()

	for _, tt := range []struct{ at, of *pooler }{{b, a}, {a, b}, {a, a}} {
		conn := tt.of.connect(t)
		done := endless(t, d, conn)
		cancelAt(t, "tcp", fmt.Sprintf("127.0.0.1:%d", tt.at.port), conn, 3)
		cancelled(t, done)
		conn.Close(testContext(t))
	}

	// A request that has been forwarded too often goes no further.
	conn := a.connect(t)
	done := endless(t, d, conn)
	b.log.mark()
	cancelAt(t, "tcp", fmt.Sprintf("127.0.0.1:%d", b.port), conn, 0)
	b.logged("TTL was exhausted")
	select {
	case err := <-done:
		t.Errorf("the query ended: %v", err)
	default:
	}
	cancelAt(t, "tcp", fmt.Sprintf("127.0.0.1:%d", b.port), conn, 1)
	cancelled(t, done)

	// A peer that is not there, and one that nobody knows.
	for _, peer := range []int{77, 78} {
		b.log.mark()
		c := must(net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.port)))(t)
		must(c.Write([]byte{0, 0, 0, 16, 4, 210, 22, 46, 1, byte(peer), 0, 1, 1, 1, 1, 3}))(t)
		must(io.Copy(io.Discard, c))(t)
		c.Close()
		if peer == 77 {
			b.logged("failed to forward cancel request: ")
		} else {
			b.logged("could not find peer to forward request to")
		}
	}
}

// TestCancelThroughPgBouncer has a PgBouncer as the peer: both make and read
// keys of one form.
func TestCancelThroughPgBouncer(t *testing.T) {
	exe := os.Getenv("PGBOUNCER")
	if exe == "" {
		var err error
		if exe, err = exec.LookPath("pgbouncer"); err != nil {
			t.Skip("no PgBouncer: set PGBOUNCER to its path")
		}
	}
	credential, err := backendtest.Unprivileged()
	if err != nil {
		t.Skip(err)
	}
	d := newDatabase(t)
	p := newPooler(t)
	p.serve(d)
	theirs := must(backendtest.FreePort())(t)
	p.peer(1, 2, "127.0.0.1", theirs)
	p.start()

	dir := must(os.MkdirTemp("", "pgbouncer"))(t)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(0, os.Chmod(dir, 0o777))(t)
	ini := filepath.Join(dir, "pgbouncer.ini")
	must(0, os.WriteFile(filepath.Join(dir, "users.txt"), []byte(`"app" ""`), 0o644))(t)
	must(0, os.WriteFile(ini, fmt.Appendf(nil, "[databases]\nshop = host=%s port=%d dbname=%s user=%s password='%s'\n"+
		"[peers]\n1 = host=127.0.0.1 port=%d\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = trust\nauth_file = %s\npeer_id = 2\n",
		d.pg.Host, d.pg.Port, d.name, d.name, serverPassword, p.port, theirs, filepath.Join(dir, "users.txt")), 0o644))(t)
	cmd := exec.Command(exe, ini)
	cmd.SysProcAttr = backendtest.ChildAttr(credential, syscall.SIGKILL)
	var log logLines
	cmd.Stderr = &log
	process := must(backendtest.StartProcess(cmd))(t)
	go func() {
		<-process.Done()
		log.end()
	}()
	t.Cleanup(func() {
		_ = process.Stop(testPatience, syscall.SIGQUIT)
		if t.Failed() {
			t.Log(log.String())
		}
	})
	if _, err := log.wait("process up"); err != nil {
		t.Fatal(err)
	}

	ours := p.connect(t)
	done := endless(t, d, ours)
	cancelAt(t, "tcp", fmt.Sprintf("127.0.0.1:%d", theirs), ours, 3)
	cancelled(t, done)

	config := must(pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=app dbname=shop sslmode=disable", theirs)))(t)
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	conn := must(pgx.ConnectConfig(testContext(t), config))(t)
	defer conn.Close(context.Background())
	done = endless(t, d, conn)
	cancelAt(t, "tcp", fmt.Sprintf("127.0.0.1:%d", p.port), conn, 3)
	cancelled(t, done)
}
