package frontend

import (
	"bytes"
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// lock takes an advisory lock past the pooler, until the function is called.
func lock(t testing.TB, key string) (unlock func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	pg := shared.Postgres(t)
	conn, err := pg.Connect(ctx, "postgres", pg.Superuser)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(ctx, "select pg_advisory_lock("+key+")", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	return func() { conn.Close(context.Background()) }
}

// awaitLockWait waits until a backend waits for an advisory lock.
func (r *rig) awaitLockWait(key string) {
	r.t.Helper()
	pg := shared.Postgres(r.t)
	ctx := context.Background()
	conn, err := pg.Connect(ctx, "postgres", pg.Superuser)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close(ctx)
	r.await("a backend waits for lock "+key, func() bool {
		var n int
		if err := conn.QueryRow(ctx, "select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = "+key).Scan(&n); err != nil {
			r.t.Error(err)
			return true
		}
		return n > 0
	})
}

// look runs fn with the session of c, on its loop.
func (r *rig) look(c *wireClient, fn func(*session)) {
	r.t.Helper()
	s, ok := r.sessions.keys.find(c.key.ProcessID, c.key.SecretKey).(*session)
	if !ok {
		r.t.Fatal("the client has no session")
	}
	s.w.loop.Call(func() { fn(s) })
}

// TestCopyFailsWhileHeldUp has a COPY fail when its client has been told to
// stop sending: it must be let go on, and the server must not be given away
// before it has been sent the rest.
func TestCopyFailsWhileHeldUp(t *testing.T) {
	tab := table(t, "x int")
	admin(t, `create or replace function held_up() returns trigger language plpgsql as $$
		begin perform pg_advisory_xact_lock(4711); raise exception 'no'; end $$`,
		"create trigger held_up before insert on "+tab+" for each row execute function held_up()")
	r := newRig(t, "")
	unlock := lock(t, "4711")
	c, next := r.client(), r.client()
	c.query("copy " + tab + " from stdin")
	c.want("G")
	c.send(copyData("1\n"))
	// No message of these is ever under way: the server has got every one whole,
	// however many are still queued for it.
	data := bytes.Repeat(bytesOf(t, copyData("")), 20_000)
	end := bytesOf(t, copyDone, query("select 1"))
	sent := make(chan error, 1)
	go func() {
		var err error
		for i := 0; i < 300 && err == nil; i++ {
			_, err = c.conn.Write(data)
		}
		if err == nil {
			_, err = c.conn.Write(end)
		}
		sent <- err
	}()
	r.awaitLockWait("4711")
	r.await("the client held up", func() (paused bool) {
		r.look(c, func(s *session) { paused = s.stream.Paused() && s.srv.Stream.Queued() > 0 })
		return paused
	})
	next.query("select 'next'")
	r.awaitWaiting(1)
	unlock()
	c.want("ERROR P0001 no", "Z I")
	next.want("T", "D next", "C SELECT 1", "Z I")
	c.want("T", "D 1", "C SELECT 1", "Z I")
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if n := r.awaitRest(); n != 1 {
		t.Errorf("%d servers at rest", n)
	}
}
