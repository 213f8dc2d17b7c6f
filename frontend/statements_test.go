package frontend

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

// The second invariant: what is believed of prepared statements is what the
// server has confirmed.

// TestFailedParse uses a name again for which Parse has failed.
func TestFailedParse(t *testing.T) {
	r := newRig(t, "")
	c := r.client()
	c.send(parse("a", "select nonsense"), syncMsg)
	c.want("ERROR 42703…", "Z I")
	c.send(bind("a"), execute, syncMsg)
	c.want(`ERROR 26000 prepared statement "a" does not exist`, "Z I")
	c.send(parse("a", "select 1"), bind("a"), execute, syncMsg)
	c.want("1", "2", "D 1", "C SELECT 1", "Z I")

	// It was never looked at.
	c.send(parse("b", "select nonsense"), parse("c", "select 3"), parse("c", "select 4"), describe("c"), syncMsg)
	c.want("ERROR 42703…", "Z I")
	c.send(describe("c"), syncMsg)
	c.want(`ERROR 26000 prepared statement "c" does not exist`, "Z I")
	c.send(parse("c", "select 5"), bind("c"), execute, syncMsg)
	c.want("1", "2", "D 5", "C SELECT 1", "Z I")
}

// TestCloseInAbortedPipeline closes statements in a pipeline that the server
// ignores, and prepares others by their names.
func TestCloseInAbortedPipeline(t *testing.T) {
	r := newRig(t, "")
	c := r.client()
	c.send(parse("a", "select 'old a'"), parse("b", "select 'old b'"), syncMsg)
	c.want("1", "1", "Z I")
	c.send(bind("none"), closeStatement("a"), closeStatement("b"), parse("b", "select 'new b'"), syncMsg)
	c.want("ERROR 26000…", "Z I")
	for _, name := range []string{"a", "b"} {
		c.send(bind(name), execute, syncMsg)
		c.want("2", "D old "+name, "C SELECT 1", "Z I")
	}
	c.send(closeStatement("a"), parse("a", "select 'new a'"), bind("a"), execute, syncMsg)
	c.want("3", "1", "2", "D new a", "C SELECT 1", "Z I")
	c.send(closeStatement("a"), syncMsg, bind("a"), syncMsg)
	c.want("3", "Z I", "ERROR 26000…", "Z I")
}

// TestEviction has room for two statements on the server.
func TestEviction(t *testing.T) {
	r := newRig(t, "max_prepared_statements = 2")
	c := r.client()
	use := func(n int) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{bind(fmt.Sprint("s", n)), execute}
	}
	batch := func(parts ...[]pgproto3.FrontendMessage) {
		for _, p := range parts {
			c.send(p...)
		}
		c.send(syncMsg)
	}
	row := func(n int) []string { return []string{"2", fmt.Sprint("D ", n), "C SELECT 1"} }
	held := func() string {
		t.Helper()
		return c.row("select string_agg(substring(statement from '[0-9]+'), ' ' order by prepare_time, name) from pg_prepared_statements")
	}
	for n := range 5 {
		c.send(parse(fmt.Sprint("s", n), fmt.Sprint("select ", n)))
		c.want()
	}
	batch()
	c.want("1", "1", "1", "1", "1", "Z I")
	for n := range 5 { // confirmed one by one now
		batch(use(n))
		c.want(append(row(n), "Z I")...)
	}
	if got := held(); got != "3 4" {
		t.Errorf("the server holds %q", got)
	}

	// Inside of one pipeline, each pushing another out.
	batch(use(0), use(1), use(2), use(3), use(0), use(4))
	for _, n := range []int{0, 1, 2, 3, 0, 4} {
		c.want(row(n)...)
	}
	c.want("Z I")

	// An aborted pipeline undoes what it would have pushed out and prepared:
	// nothing of it has happened on the server.
	batch(use(0))
	c.want(append(row(0), "Z I")...)
	batch(use(1))
	c.want(append(row(1), "Z I")...)
	c.send(bind("none"))
	batch(use(2), use(0), use(3), use(1), use(4))
	c.want("ERROR 26000…", "Z I")
	for _, n := range []int{0, 1, 2, 3, 4, 0, 1} {
		batch(use(n))
		c.want(append(row(n), "Z I")...)
	}

	// The same with batches that are on their way together: what the first
	// would have prepared is needed by the second.
	c.send(append(append([]pgproto3.FrontendMessage{bind("none")}, use(3)...), syncMsg)...)
	batch(use(3))
	c.want(append([]string{"ERROR 26000…", "Z I"}, append(row(3), "Z I")...)...)
	b := bytesOf(t, bind("none"))
	for _, n := range []int{2, 0, 4} {
		b = append(b, bytesOf(t, use(n)...)...)
	}
	b = append(b, bytesOf(t, syncMsg)...)
	for _, n := range []int{2, 3, 0, 4, 1, 2} {
		b = append(b, bytesOf(t, append(use(n), syncMsg)...)...)
	}
	c.write(b)
	c.want("ERROR 26000…", "Z I")
	for _, n := range []int{2, 3, 0, 4, 1, 2} {
		c.want(append(row(n), "Z I")...)
	}
	if got := held(); len(strings.Fields(got)) > 2 {
		t.Errorf("the server holds %q", got)
	}
}

// TestSameNameForDifferentClients has clients that share one server and give
// different statements the same name, and the same statement different ones.
func TestSameNameForDifferentClients(t *testing.T) {
	r := newRig(t, "")
	a, b := r.client(), r.client()
	a.send(parse("x", "select 'a'"), syncMsg)
	a.want("1", "Z I")
	b.send(parse("x", "select 'b'"), parse("y", "select 'a'"), syncMsg)
	b.want("1", "1", "Z I")
	for range 2 {
		a.send(bind("x"), execute, syncMsg)
		a.want("2", "D a", "C SELECT 1", "Z I")
		b.send(bind("x"), execute, bind("y"), execute, syncMsg)
		b.want("2", "D b", "C SELECT 1", "2", "D a", "C SELECT 1", "Z I")
	}
	a.send(closeStatement("x"), syncMsg)
	a.want("3", "Z I")
	b.send(bind("y"), execute, syncMsg)
	b.want("2", "D a", "C SELECT 1", "Z I")
	if got := b.row("select count(*) from pg_prepared_statements"); got != "2" {
		t.Errorf("the server holds %s statements", got)
	}
	// Types are part of a statement.
	a.send(&pgproto3.Parse{Name: "t", Query: "select $1", ParameterOIDs: []uint32{23}}, bind("t", "1"), execute, syncMsg)
	a.want("1", "2", "D 1", "C SELECT 1", "Z I")
	b.send(&pgproto3.Parse{Name: "t", Query: "select $1", ParameterOIDs: []uint32{25}}, bind("t", "x"), execute, syncMsg)
	b.want("1", "2", "D x", "C SELECT 1", "Z I")
}

// TestNameInUse: the refusals that PostgreSQL has for names, and life after.
func TestNameInUse(t *testing.T) {
	r := newRig(t, "")
	c := r.client()
	c.send(parse("x", "select 1"), syncMsg)
	c.want("1", "Z I")
	for range 2 {
		c.send(parse("x", "select 2"), bind("x"), execute, syncMsg)
		c.want("ERROR 42P05…", "Z I")
		c.send(bind("x"), execute, syncMsg)
		c.want("2", "D 1", "C SELECT 1", "Z I")
		c.send(bind("unknown"), execute, syncMsg)
		c.want(`ERROR 26000 prepared statement "unknown" does not exist`, "Z I")
		c.send(describe("unknown"), syncMsg)
		c.want(`ERROR 26000 prepared statement "unknown" does not exist`, "Z I")
		c.send(closeStatement("unknown"), syncMsg)
		c.want("3", "Z I")
	}
	// Nobody reaches a shared statement by the server's name for it.
	other := r.client()
	other.send(bind("PGVALET_1"), execute, syncMsg)
	other.want("ERROR 26000…", "Z I")
	other.send(closeStatement("PGVALET_1"), syncMsg)
	other.want("3", "Z I")
	c.send(bind("x"), execute, syncMsg)
	c.want("2", "D 1", "C SELECT 1", "Z I")
	if n := r.awaitRest(); n != 1 {
		t.Errorf("%d servers at rest", n)
	}
}

// TestDeallocateAll has the server forget its statements.
func TestDeallocateAll(t *testing.T) {
	for _, sql := range []string{"DISCARD ALL", "DEALLOCATE ALL"} {
		r := newRig(t, "")
		c, other := r.client(), r.client()
		for _, x := range []*wireClient{c, other} {
			x.send(parse("x", "select 1"), syncMsg)
			x.want("1", "Z I")
		}
		c.send(parse("y", "select 2"), bind("y"), execute, syncMsg)
		c.want("1", "2", "D 2", "C SELECT 1", "Z I")
		if l := c.do(sql); l[len(l)-2] != "C "+sql {
			t.Fatal(l)
		}
		c.send(bind("x"), syncMsg)
		c.want("ERROR 26000…", "Z I")
		other.send(bind("x"), execute, syncMsg)
		other.want("2", "D 1", "C SELECT 1", "Z I")
		c.send(parse("x", "select 3"), bind("x"), execute, syncMsg)
		c.want("1", "2", "D 3", "C SELECT 1", "Z I")
	}
}

// TestParseWithoutServer answers Parse of a known statement while nobody has a
// server to give.
func TestParseWithoutServer(t *testing.T) {
	r := newRig(t, "")
	c, holder := r.client(), r.client()
	c.send(parse("x", "select $1::int"), syncMsg)
	c.want("1", "Z I")
	holder.do("begin")
	other := r.client()
	other.send(parse("mine", "select $1::int"), syncMsg)
	other.want("1", "Z I")
	other.send(parse("mine2", "select $1::int"), closeStatement("mine2"), syncMsg)
	other.want("1", "3", "Z I")
	if w := r.info().Waiting; w != 0 {
		t.Errorf("%d clients wait", w)
	}
	other.send(bind("mine", "7"), execute, syncMsg)
	r.awaitWaiting(1)
	holder.do("commit")
	other.want("2", "D 7", "C SELECT 1", "Z I")
}

// TestStatementsOff leaves names alone.
func TestStatementsOff(t *testing.T) {
	r := newRig(t, "max_prepared_statements = 0")
	c := r.client()
	c.send(parse("x", "select 1"), bind("x"), execute, closeStatement("x"), syncMsg)
	c.want("1", "2", "D 1", "C SELECT 1", "3", "Z I")
	c.send(bind("x"), syncMsg)
	c.want(`ERROR 26000 prepared statement "x" does not exist`, "Z I")
}

// TestStatementsReload changes max_prepared_statements under clients and servers
// that are there already.
func TestStatementsReload(t *testing.T) {
	r := newRig(t, "max_prepared_statements = 2")
	c := r.client()
	prepare := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			name := fmt.Sprint("s", n)
			c.send(parse(name, fmt.Sprint("select ", n)), bind(name), execute, syncMsg)
			c.want("1", "2", fmt.Sprint("D ", n), "C SELECT 1", "Z I")
		}
	}
	held := func(want string) {
		t.Helper()
		if got := c.row("select count(*) from pg_prepared_statements"); got != want {
			t.Errorf("the server holds %s statements, not %s", got, want)
		}
	}
	prepare(0, 4)
	held("2")
	r.reload("max_prepared_statements = 5")
	prepare(4, 9)
	held("5")
	r.reload("max_prepared_statements = 3")
	held("5")
	prepare(9, 10)
	held("3")
	r.reload("max_prepared_statements = 0")
	c.send(bind("s9"), execute, syncMsg)
	c.want(`ERROR 26000 prepared statement "s9" does not exist`, "Z I")
	r.reload("max_prepared_statements = 3")
	c.send(bind("s9"), execute, syncMsg)
	c.want("2", "D 9", "C SELECT 1", "Z I")

	// Only what is managed counts, as in PgBouncer.
	c.send(parse("", "select 1"), bind(""), execute, syncMsg)
	c.want("1", "2", "D 1", "C SELECT 1", "Z I")
	if s := r.pools.Stats()["app"]; s.ClientParses != 10 || s.ServerParses != 10 || s.Binds != 11 {
		t.Errorf("%+v", s)
	}
}

// TestDriverStatementCache runs pgx's cache of statements over few servers.
func TestDriverStatementCache(t *testing.T) {
	r := newRig(t, "default_pool_size = 2\nmax_prepared_statements = 3")
	ctx := context.Background()
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		failures := make(chan error, 4)
		for i := range 4 {
			conn := r.pgx(mode)
			go func() {
				failures <- func() error {
					for n := range 30 {
						var got string
						want := fmt.Sprint(i, "-", n)
						if err := conn.QueryRow(ctx, fmt.Sprintf("select $1::text || '%d'", n%6), want).Scan(&got); err != nil {
							return err
						}
						if got != want+fmt.Sprint(n%6) {
							return fmt.Errorf("%s: %q for %q", mode, got, want)
						}
					}
					return nil
				}()
			}()
		}
		for range 4 {
			if err := <-failures; err != nil {
				t.Error(err)
			}
		}
	}
}
