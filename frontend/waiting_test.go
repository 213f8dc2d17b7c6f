package frontend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// The third invariant: nothing that a client sends is lost while it waits.

// busy returns a client that keeps the only server until the function is called.
func (r *rig) busy() (release func()) {
	r.t.Helper()
	holder := r.client()
	holder.query("begin")
	holder.want("C BEGIN", "Z T")
	return func() {
		r.t.Helper()
		holder.query("commit")
		holder.want("C COMMIT", "Z I")
		holder.close()
	}
}

// bigPipeline is a pipeline of some hundred KiB, and the replies to it.
func bigPipeline(t testing.TB) (send []byte, want []string) {
	for i := range 300 {
		switch value := fmt.Sprint("v", i); i % 3 {
		case 0:
			send = append(send, bytesOf(t, parse("", "select $1::text /*"+strings.Repeat("c", i*7)+"*/"), bind("", value), execute)...)
			want = append(want, "1", "2", "D "+value, "C SELECT 1")
		case 1:
			name := fmt.Sprint("n", i)
			send = append(send, bytesOf(t, parse(name, fmt.Sprintf("select $1::text || '%d'", i)), bind(name, value), execute, flush)...)
			want = append(want, "1", "2", "D "+value+fmt.Sprint(i), "C SELECT 1")
		default:
			send = append(send, bytesOf(t, syncMsg, query("select '"+value+"' /*"+strings.Repeat("q", i*5)+"*/"))...)
			want = append(want, "Z I", "T", "D "+value, "C SELECT 1", "Z I")
		}
	}
	return append(send, bytesOf(t, syncMsg)...), append(want, "Z I")
}

func TestWaitingPipeline(t *testing.T) {
	for _, step := range []int{1 << 30, 65536, 9973, 611} {
		t.Run(fmt.Sprint(step), func(t *testing.T) {
			r := newRig(t, "")
			release := r.busy()
			c := r.client()
			send, want := bigPipeline(t)
			if len(send) < 2*65536 {
				t.Fatalf("the pipeline has %d bytes", len(send))
			}
			c.write(send[:5])
			send = send[5:]
			done := make(chan error, 1)
			go func() {
				for len(send) > 0 {
					n := min(step, len(send))
					if _, err := c.conn.Write(send[:n]); err != nil {
						done <- err
						return
					}
					send = send[n:]
				}
				done <- nil
			}()
			r.awaitWaiting(1)
			release()
			c.want(want...)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestWaitingForParameters has a client wait for a server, and then for the
// server to take its parameters, in the middle of what it has sent.
func TestWaitingForParameters(t *testing.T) {
	r := newRig(t, "")
	release := r.busy()
	c := r.client("application_name", "another", "timezone", "Asia/Tokyo")
	send, want := bigPipeline(t)
	c.write(send)
	r.awaitWaiting(1)
	release()
	c.want(want...)
	if got := c.row("select current_setting('application_name') || current_setting('timezone')"); got != "anotherAsia/Tokyo" {
		t.Error(got)
	}
}

func TestQueryWaitTimeout(t *testing.T) {
	r := newRig(t, "query_wait_timeout = 0.2")
	release := r.busy()
	c, next := r.client(), r.client()
	send, _ := bigPipeline(t)
	c.write(send)
	c.want("FATAL 53300 query_wait_timeout", "EOF")
	if w := r.info().Waiting; w != 0 {
		t.Errorf("%d ghosts wait", w)
	}
	release()
	next.query("select 1")
	next.want("T", "D 1", "C SELECT 1", "Z I")
}

func TestQueryWaitNotify(t *testing.T) {
	r := newRig(t, "query_wait_notify = 0.1")
	release := r.busy()
	c := r.client()
	c.query("select 1")
	c.want("N No server connection available in postgres backend, client being queued")
	release()
	c.want("T", "D 1", "C SELECT 1", "Z I")
}

// TestLeavesQueue has clients disappear from the middle of the queue; the others
// keep their places.
func TestLeavesQueue(t *testing.T) {
	r := newRig(t, "event_loops = 2")
	release := r.busy()
	var clients []*wireClient
	for i := range 6 {
		c := r.client()
		c.query(fmt.Sprintf("insert into served values (%d)", i))
		r.awaitWaiting(i + 1)
		clients = append(clients, c)
	}
	clients[0].reset()
	clients[2].close()
	clients[5].send(&pgproto3.Terminate{})
	clients[5].close()
	r.awaitWaiting(3)
	admin(t, "drop table if exists served", "create table served (who int, at serial)")
	release()
	for _, i := range []int{1, 3, 4} {
		clients[i].want("C INSERT 0 1", "Z I")
	}
	if got := clients[1].row("select string_agg(who::text, ' ' order by at) from served"); got != "1 3 4" {
		t.Errorf("served in the order %s", got)
	}
	admin(t, "drop table served")
}

// TestPause keeps clients waiting and closes the servers meanwhile.
func TestPause(t *testing.T) {
	r := newRig(t, "")
	c, inTx := r.client(), r.client()
	inTx.do("begin")
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	paused := make(chan error, 1)
	go func() { paused <- r.pools.Pause(ctx, "app") }()
	r.await("pause", func() bool { return r.info().Paused })
	send, want := bigPipeline(t)
	c.write(send)
	r.awaitWaiting(1)
	select {
	case err := <-paused:
		t.Fatalf("paused with a transaction open: %v", err)
	default:
	}
	inTx.query("commit")
	inTx.want("C COMMIT", "Z I")
	if err := <-paused; err != nil {
		t.Fatal(err)
	}
	if i := r.info(); i.Servers() != 0 || i.Waiting != 1 {
		t.Errorf("%+v", i)
	}
	if err := r.pools.Resume("app"); err != nil {
		t.Fatal(err)
	}
	c.want(want...)
}

// TestServerRefused has the only login that could help those who wait fail.
func TestServerRefused(t *testing.T) {
	hold := make(chan struct{})
	welcome, refused := backendtest.Welcome(), backendtest.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "3D000", Message: "no such thing"})
	peer := backendtest.StartScript(t,
		backendtest.Script{welcome, backendtest.Expect(query("select 1")), backendtest.Await(hold)},
		backendtest.Script{backendtest.ExpectStartup(nil), refused},
	)
	r := startRig(t, peer.Addr(), "server_login_retry = 60")
	c, waiting := r.client(), r.client()
	c.query("select 1")
	r.await("a server", func() bool { return r.info().Active == 1 })
	send, _ := bigPipeline(t)
	waiting.write(send)
	r.awaitWaiting(1)
	close(hold)
	c.want("FATAL 08006 server conn crashed?", "EOF")
	waiting.want("FATAL 3D000 no such thing…", "EOF")
	late := r.client()
	late.query("select 1")
	late.want("FATAL 3D000 server login has been failing, cached error: no such thing (server_login_retry)", "EOF")
}

// TestSilentConnectionsAreLimited: who says nothing must not take the
// descriptors of those who do.
func TestSilentConnectionsAreLimited(t *testing.T) {
	r := newRig(t, "max_client_conn = 2")
	var silent []net.Conn
	for range 2 + loginReserve {
		silent = append(silent, r.dial())
	}
	last := r.dial()
	if err := last.SetReadDeadline(time.Now().Add(testTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("one connection too many: %v, want its end", err)
	}
	for _, conn := range silent {
		conn.Close()
	}
	r.await("a place", func() bool {
		conn := r.dial()
		defer conn.Close()
		answer := make([]byte, 1)
		_, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}) // SSLRequest
		if err == nil {
			_, err = conn.Read(answer)
		}
		return err == nil && answer[0] == 'N'
	})
}
