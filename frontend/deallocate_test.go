package frontend

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestDeallocate: what drivers without Close do to statements that they have
// prepared with Parse.
func TestDeallocate(t *testing.T) {
	r := newRig(t, "")
	c, other := r.client(), r.client()
	for _, x := range []*wireClient{c, other} {
		x.send(parse("pdo_stmt_1", "select 1"), parse("A b\"c", "select 2"), syncMsg)
		x.want("1", "1", "Z I")
	}
	c.query("DEALLOCATE pdo_stmt_1")
	c.want("C DEALLOCATE", "Z I")
	c.send(bind("pdo_stmt_1"), syncMsg)
	c.want(`ERROR 26000 prepared statement "pdo_stmt_1" does not exist`, "Z I")
	c.query("DEALLOCATE pdo_stmt_1")
	c.want(`ERROR 26000 prepared statement "pdo_stmt_1" does not exist`, "Z I")
	c.send(parse("pdo_stmt_1", "select 3"), bind("pdo_stmt_1"), execute, syncMsg)
	c.want("1", "2", "D 3", "C SELECT 1", "Z I")
	other.send(bind("pdo_stmt_1"), execute, syncMsg)
	other.want("2", "D 1", "C SELECT 1", "Z I")

	// In a transaction, which other things do to fail.
	c.do("begin")
	c.query("deallocate PREPARE \"A b\"\"c\" ; ")
	c.want("C DEALLOCATE", "Z T")
	c.query("nonsense")
	c.want("ERROR 42601…", "Z E")
	c.query("deallocate pdo_stmt_1")
	c.want("ERROR 25P02…", "Z E")
	c.do("rollback")
	c.send(bind("pdo_stmt_1"), execute, syncMsg)
	c.want("2", "D 3", "C SELECT 1", "Z I")
	c.send(bind("A b\"c"), syncMsg)
	c.want("ERROR 26000…", "Z I")

	// Behind what has no answer yet, and in pieces.
	c.send(query("select 4"), query("deallocate pdo_stmt_1"))
	c.want("T", "D 4", "C SELECT 1", "Z I", "ERROR 26000…", "Z I")
	for i, b := range bytesOf(t, query("deallocate pdo_stmt_1")) {
		if i == 5 || i == 6 {
			r.await("the beginning has come", func() (there bool) {
				r.look(c, func(s *session) { there = s.in.Len() == i })
				return there
			})
			other.do("select 5")
		}
		c.write([]byte{b})
	}
	c.want("C DEALLOCATE", "Z I")

	// Those that were prepared by SQL are the server's.
	c.do("begin")
	c.query("prepare mine as select 6")
	c.want("C PREPARE", "Z T")
	c.query("deallocate mine")
	c.want("C DEALLOCATE", "Z T")
	c.do("commit")
	if n := r.awaitRest(); n != 1 {
		t.Errorf("%d servers at rest", n)
	}
}

// TestDeallocated: nothing is taken for what it may not be.
func TestDeallocated(t *testing.T) {
	for sql, want := range map[string]string{
		"DEALLOCATE a": "a", "deallocate\tprepare\n Foo_1$ ;\n": "foo_1$", `DEALLOCATE"x y"`: "x y", `deallocate "All"`: "All",
		`deallocate prepare"a""b"`: `a"b`, "deallocate prepare2": "prepare2", `deallocate "prepare"`: "prepare",
		"deallocate": "", "deallocate ": "", "deallocate all": "", "DEALLOCATE PREPARE ALL": "", "deallocate prepare": "", "deallocatea": "",
		"deallocate a b": "", "deallocate a; select 1": "", "deallocate a;;": "", "deallocate 1a": "", "deallocate a-- b": "", "deallocate /* b */ a": "",
		`deallocate "a`: "", `deallocate ""`: "", `deallocate "a"b"`: "", `deallocate "a"; deallocate "b"`: "", `deallocate U&"a"`: "",
		"deallocate \u00e4": "", "deallocate \"\u00e4\"": "", "deallocate a\x00": "", "deallocate " + strings.Repeat("a", 64): "",
		"discard all": "", "select 1": "",
	} {
		if got, ok := deallocated(sql); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v, not %q", sql, got, ok, want)
		}
	}
}

// TestChangedTable: a statement whose result has changed fails once, as in
// PostgreSQL, and not for ever; and not on every server.
func TestChangedTable(t *testing.T) {
	r := newRig(t, "default_pool_size = 2")
	name := table(t, "x int")
	a, b := r.client(), r.client()
	for _, c := range []*wireClient{a, b} {
		c.do("begin")
	}
	for _, c := range []*wireClient{a, b} { // each on a server of its own
		c.send(parse("s", "select * from "+name), bind("s"), execute, syncMsg)
		c.want("1", "2", "C SELECT 0", "Z T")
	}
	for _, c := range []*wireClient{a, b} {
		c.do("commit")
	}
	admin(t, "alter table "+name+" add y int", "insert into "+name+" values (1, 2)")
	a.do("begin")
	a.send(bind("s"), execute, syncMsg)
	a.want("ERROR 0A000 cached plan must not change result type", "Z E")
	b.do("begin")
	for _, c := range []*wireClient{a, b} {
		c.do("rollback")
		c.send(bind("s"), execute, syncMsg)
		c.want("2", "D 1|2", "C SELECT 1", "Z I")
	}
	// When it is described.
	admin(t, "alter table "+name+" drop y")
	a.send(describe("s"), syncMsg)
	a.want("t", "ERROR 0A000 cached plan must not change result type", "Z I")
	a.send(describe("s"), syncMsg)
	a.want("t", "T", "Z I")
}

// TestLostStatements: statements that a server has lost, which nobody could see,
// are missed once.
func TestLostStatements(t *testing.T) {
	r := newRig(t, "")
	c, other := r.client(), r.client()
	for _, x := range []*wireClient{c, other} {
		x.send(parse("s", "select 1"), parse("s2", "select 2"), bind("s"), execute, bind("s2"), execute, syncMsg)
		x.want("1", "1", "2", "D 1", "C SELECT 1", "2", "D 2", "C SELECT 1", "Z I")
	}
	for _, m := range []pgproto3.FrontendMessage{bind("s"), describe("s")} {
		c.do("do $$ begin execute 'deallocate all'; end $$")
		c.send(m, syncMsg)
		c.want("ERROR 26000…", "Z I")
		for _, x := range []*wireClient{c, other} {
			x.send(bind("s"), execute, bind("s2"), execute, syncMsg)
			x.want("2", "D 1", "C SELECT 1", "2", "D 2", "C SELECT 1", "Z I")
		}
	}
}

// FuzzDeallocated holds that a name that is understood stands for itself.
func FuzzDeallocated(f *testing.F) {
	f.Add("deallocate a")
	f.Add(`DEALLOCATE PREPARE "a""b";`)
	f.Fuzz(func(t *testing.T, sql string) {
		name, ok := deallocated(sql)
		if !ok {
			return
		}
		again, ok := deallocated(`deallocate "` + strings.ReplaceAll(name, `"`, `""`) + `"`)
		if !ok || again != name {
			t.Errorf("%q: %q, then %q", sql, name, again)
		}
	})
}

// TestDeallocateAllAfterRefusal: commands that were refused do not count.
func TestDeallocateAllAfterRefusal(t *testing.T) {
	r := newRig(t, "")
	c := r.client()
	c.query("deallocate nothing")
	c.want("ERROR 26000…", "Z I")
	for range 2 {
		c.send(parse("s", "select 1"), bind("s"), execute, syncMsg)
		c.want("1", "2", "D 1", "C SELECT 1", "Z I")
		c.do("deallocate all")
		c.send(bind("s"), syncMsg)
		c.want("ERROR 26000…", "Z I")
	}
}
