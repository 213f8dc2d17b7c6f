package frontend

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestSessionMode(t *testing.T) {
	r := newRig(t, "pool_mode = \"session\"")
	c, next := r.client(), r.client()
	pid := c.pid()
	c.do("create temp table mine (x int)")
	c.do("set work_mem = '7MB'")
	c.send(parse("s", "select 'kept'"), syncMsg)
	c.want("1", "Z I")
	c.send(bind("s"), execute, syncMsg)
	c.want("2", "D kept", "C SELECT 1", "Z I")
	next.query("select pg_backend_pid(), current_setting('work_mem'), (select count(*) from pg_prepared_statements), to_regclass('mine') is null")
	r.awaitWaiting(1)
	c.close()
	next.want("T", "D "+pid+"|4MB|0|t", "C SELECT 1", "Z I") // server_reset_query has been run
}

func TestResetQueryFails(t *testing.T) {
	r := newRig(t, "pool_mode = \"session\"\nserver_reset_query = \"select 1/0\"")
	c, next := r.client(), r.client()
	pid := c.pid()
	c.close()
	if p := next.pid(); p == pid {
		t.Error("a server that could not be reset was lent again")
	}
}

func TestResetQueryAlways(t *testing.T) {
	r := newRig(t, "server_reset_query_always = true\nserver_reset_query = \"set work_mem = '5MB'\"")
	c, next := r.client(), r.client()
	c.do("set work_mem = '7MB'")
	if got := next.row("show work_mem"); got != "5MB" {
		t.Error(got)
	}
}

func TestTransactionMode(t *testing.T) {
	r := newRig(t, "")
	a, b := r.client(), r.client()
	pid := a.pid()
	a.do("begin")
	b.query("select pg_backend_pid()")
	r.awaitWaiting(1)
	a.query("commit; begin")
	a.want("C COMMIT", "C BEGIN", "Z T")
	if w := r.info().Waiting; w != 1 {
		t.Errorf("%d clients wait", w)
	}
	a.query("rollback")
	a.want("C ROLLBACK", "Z I")
	b.want("T", "D "+pid, "C SELECT 1", "Z I")
}

func TestStatementMode(t *testing.T) {
	r := newRig(t, "pool_mode = \"statement\"")
	a, b := r.client(), r.client()
	pid := a.pid()
	a.query("begin")
	a.want("C BEGIN", "Z T", "FATAL 0A000 transaction blocks not allowed in statement pooling mode", "EOF")
	if p := b.pid(); p != pid {
		t.Errorf("the server was replaced: %s, not %s", p, pid)
	}
	b.send(parse("x", "select 1"), bind("x"), execute, syncMsg)
	b.want("1", "2", "D 1", "C SELECT 1", "Z I")
}

// TestParametersFollow has clients with parameters of their own share a server.
func TestParametersFollow(t *testing.T) {
	r := newRig(t, "track_extra_parameters = [\"IntervalStyle\"]")
	long := strings.Repeat("n", 63) // PostgreSQL keeps no more
	a := r.client("application_name", `it's "a" \ name; --`, "TimeZone", "Asia/Tokyo", "datestyle", "German, DMY", "intervalstyle", "iso_8601")
	b := r.client("application_name", long, "client_encoding", "LATIN1")
	c := r.client()
	show := func(x *wireClient) string {
		return x.row("select concat_ws('|', current_setting('application_name'), current_setting('TimeZone'), current_setting('DateStyle'), current_setting('IntervalStyle'), current_setting('client_encoding'))")
	}
	for range 2 {
		for _, x := range []struct {
			c    *wireClient
			want string
		}{
			{a, `it's "a" \ name; --|Asia/Tokyo|German, DMY|iso_8601|UTF8`},
			{b, long + "|UTC|ISO, MDY|postgres|LATIN1"},
			{c, "|UTC|ISO, MDY|postgres|UTF8"},
		} {
			if got := show(x.c); got != x.want {
				t.Errorf("%q, not %q", got, x.want)
			}
		}
	}
	// What a client sets is its own from then on, and it has been told.
	a.query("set timezone = 'Europe/Paris'")
	a.want("C SET", "S TimeZone=Europe/Paris", "Z I")
	b.query("begin; set local timezone = 'Africa/Cairo'")
	b.until("Z T")
	b.query("rollback")
	b.until("Z I")
	c.query("set standard_conforming_strings = off; set application_name = 'it''s'")
	c.until("Z I")
	if got := show(b); got != long+"|UTC|ISO, MDY|postgres|LATIN1" {
		t.Error(got)
	}
	if got := show(a); got != `it's "a" \ name; --|Europe/Paris|German, DMY|iso_8601|UTF8` {
		t.Error(got)
	}
	if got := c.row("select current_setting('standard_conforming_strings') || current_setting('application_name')"); got != "offit's" {
		t.Error(got)
	}
	if got := a.row("show standard_conforming_strings"); got != "on" {
		t.Error(got)
	}
	if n := r.awaitRest(); n != 1 {
		t.Errorf("%d servers", n)
	}
}

// TestLongParameter carries a value that PgBouncer would drop.
func TestLongParameter(t *testing.T) {
	r := newRig(t, "track_extra_parameters = [\"DateStyle\", \"TimeZone\"]")
	zone := "<" + strings.Repeat("L", 200) + ">+3"
	c, other := r.client("timezone", zone), r.client()
	for range 2 {
		if got := c.row("select length(current_setting('TimeZone'))"); got != fmt.Sprint(len(zone)) {
			t.Errorf("%s of %d characters", got, len(zone))
		}
		if got := other.row("show timezone"); got != "UTC" {
			t.Error(got)
		}
	}
}

// TestBadParameter: the server refuses what the client wants.
func TestBadParameter(t *testing.T) {
	r := newRig(t, "")
	other := r.client()
	pid := other.pid()
	c := r.client("timezone", "No/Where")
	c.query("select 1")
	c.want("FATAL 22023 invalid server parameter", "EOF")
	if p := other.pid(); p != pid {
		t.Errorf("the server was replaced: %s, not %s", p, pid)
	}
}

// TestNoise has PostgreSQL say things that nobody asked for.
func TestNoise(t *testing.T) {
	r := newRig(t, "pool_mode = \"session\"\ndefault_pool_size = 2")
	a, b := r.client(), r.client()
	a.do("listen noise")
	b.query("notify noise, 'hear'")
	b.want("C NOTIFY", "Z I")
	if got := a.receive(); got != "A noise hear" {
		t.Error(got)
	}
	a.query("do $$ begin raise notice 'one'; raise warning 'two'; end $$; select 1")
	a.want("N one", "N two", "C DO", "T", "D 1", "C SELECT 1", "Z I")
	a.send(parse("", "do $$ begin raise notice 'three'; set application_name = 'four'; end $$"), bind(""), execute, syncMsg)
	a.want("1", "2", "N three", "C DO", "S application_name=four", "Z I")
	if a.row("show application_name") != "four" {
		t.Error("application_name was lost")
	}
}

// TestLoginSettings: what the configuration adds to a login, and takes away from
// what follows.
func TestLoginSettings(t *testing.T) {
	r := newRig(t, "application_name_add_host = true\nlogin_notify_message = \"be nice\"\ndisable_pqexec = true")
	for _, params := range [][]string{nil, {"application_name", "mine"}} {
		conn := r.dial()
		if _, err := conn.Write(startupPacket(protocol30, append([]string{"user", "postgres", "database", "app"}, params...)...)); err != nil {
			t.Fatal(err)
		}
		c := &wireClient{t: t, conn: conn, front: pgproto3.NewFrontend(conn, conn), params: make(map[string]string)}
		lines := c.until("Z I")
		if got := lines[len(lines)-2]; got != "N be nice" {
			t.Errorf("before ReadyForQuery comes %q", got)
		}
		name := "app"
		if params != nil {
			name = "mine"
		}
		want := name + " - " + conn.LocalAddr().String()
		c.send(parse("", "show application_name"), bind(""), execute, syncMsg)
		c.want("1", "2", "D "+want, "C SHOW", "Z I")
		c.query("select 1")
		c.want("FATAL 0A000 PQexec disallowed", "EOF")
	}
}

// TestWelcomeOfTheNextServer: who logs in is told of the server that is there
// now, and not of the first one that ever was.
func TestWelcomeOfTheNextServer(t *testing.T) {
	r := newRig(t, "")
	old := r.client()
	if got := old.params["IntervalStyle"]; got != "postgres" {
		t.Fatal(got)
	}
	pid := old.pid()
	admin(t, "alter database postgres set intervalstyle = 'iso_8601'")
	defer admin(t, "alter database postgres reset intervalstyle")
	admin(t, "select pg_terminate_backend("+pid+")")
	r.await("the server is gone", func() bool { return r.servers() == 0 })
	if got := old.row("select interval '1 day'"); got != "1 day" {
		t.Error(got)
	}
	c := r.client()
	if got := c.params["IntervalStyle"]; got != "iso_8601" {
		t.Error(got)
	}
	if got := c.row("select interval '1 day'"); got != "P1D" {
		t.Error(got)
	}
}
