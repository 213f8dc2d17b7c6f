package frontend

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// onTwo makes a pool of two servers, and a client that gets a server other than
// the one that it had last, each time that elsewhere is called.
func onTwo(t *testing.T, more string) (r *rig, c *wireClient, elsewhere func()) {
	r = newRig(t, "default_pool_size = 2\nserver_round_robin = true\n"+more)
	c = r.client()
	a, b := r.client(), r.client()
	a.do("begin")
	b.do("begin")
	a.do("commit")
	b.do("commit")
	pid := func() string { return c.row("select pg_backend_pid()") }
	if x, y := pid(), pid(); x == y {
		t.Fatal("the servers do not take turns")
	}
	return r, c, func() { pid() } // two at a time come back to where it was
}

// TestSQLPrepare executes what was prepared by SQL on whatever server.
func TestSQLPrepare(t *testing.T) {
	r, c, elsewhere := onTwo(t, "")
	other := r.client()
	c.query("PREPARE p (int, text) AS SELECT $1 + 1, $2;")
	c.want("C PREPARE", "Z I")
	other.query("\n prepare P as select 'other'")
	other.want("C PREPARE", "Z I")
	for range 3 {
		c.query("EXECUTE p(1, 'a')")
		c.want("T", "D 2|a", "C SELECT 1", "Z I")
		other.query("execute \"p\"")
		other.want("T", "D other", "C SELECT 1", "Z I")
		c.query("begin; execute p(2, 'b'); select 3")
		c.want("C BEGIN", "T", "D 3|b", "C SELECT 1", "T", "D 3", "C SELECT 1", "Z T")
		c.query("explain (costs off) execute p(1, 'a')")
		c.want("T", "D Result", "C EXPLAIN", "Z T")
		c.do("commit")
		elsewhere()
	}
	c.send(query("select 1"), query("execute p(3, 'c')"), query("select 2")) // with no pause between
	c.want("T", "D 1", "C SELECT 1", "Z I", "T", "D 4|c", "C SELECT 1", "Z I", "T", "D 2", "C SELECT 1", "Z I")
	for range 2 { // as libpq does it
		c.send(describe("p"), bind("p", "5", "x"), execute, syncMsg)
		c.want("t", "T", "2", "D 6|x", "C SELECT 1", "Z I")
		elsewhere()
		c.do("select 1")
	}

	// The names are a client's own.
	third := r.client()
	for range 2 {
		third.query("execute p")
		third.want(`ERROR 26000 prepared statement "p" does not exist`, "Z I")
		third.query("deallocate p")
		third.want("ERROR 26000…", "Z I")
		third.send(bind("p"), syncMsg)
		third.want("ERROR 26000…", "Z I")
		third.send(closeStatement("p"), syncMsg)
		third.want("3", "Z I")
		c.query("prepare p as select 0")
		c.want(`ERROR 42P05 prepared statement "p" already exists`, "Z I")
		c.query("EXECUTE p(1, 'a')")
		c.want("T", "D 2|a", "C SELECT 1", "Z I")
		elsewhere()
		c.do("select 1")
	}

	// They end.
	c.query("deallocate prepare p")
	c.want("C DEALLOCATE", "Z I")
	for range 2 {
		c.query("EXECUTE p(1, 'a')")
		c.want("ERROR 26000…", "Z I")
	}
	other.query("execute p")
	other.want("T", "D other", "C SELECT 1", "Z I")
	other.send(closeStatement("p"), syncMsg)
	other.want("3", "Z I")
	other.query("execute p")
	other.want("ERROR 26000…", "Z I")
	c.query("prepare p as select 'new'")
	c.want("C PREPARE", "Z I")
	for _, forget := range []string{"deallocate all", "discard all"} {
		for range 3 {
			c.query("execute p")
			c.want("T", "D new", "C SELECT 1", "Z I")
		}
		c.do(forget)
		for range 2 {
			c.query("execute p")
			c.want("ERROR 26000…", "Z I")
		}
		c.query("prepare p as select 'new'")
		c.want("C PREPARE", "Z I")
	}
	if n := r.awaitRest(); n != 2 {
		t.Errorf("%d servers at rest", n)
	}
}

// TestSQLPrepareTime: an EXECUTE begins when it comes, and not with what was
// before it, also if the server must be told the statement first.
func TestSQLPrepareTime(t *testing.T) {
	r := newRig(t, "")
	c := r.client()
	c.do("prepare p as select 1")
	c.do("begin")
	r.look(c, func(s *session) {
		s.srv.DoubtSQL()
		s.requestAt -= moment(time.Hour) // the client has done nothing for so long
		s.stats.QueryTime = 0
	})
	c.query("execute p")
	c.want("T", "D 1", "C SELECT 1", "Z T")
	r.look(c, func(s *session) {
		if s.stats.QueryTime > time.Minute {
			t.Errorf("the query took %v", s.stats.QueryTime)
		}
	})
	c.do("commit")
}

// TestSQLPrepareMeaning: a literal means what the parameters say when it is
// prepared, to each client its own.
func TestSQLPrepareMeaning(t *testing.T) {
	r := newRig(t, "")
	day := r.client("DateStyle", "ISO, DMY")
	changes := r.client("DateStyle", "ISO, DMY")
	month := r.client("DateStyle", "ISO, MDY")
	for _, c := range []*wireClient{day, changes, month} {
		c.query("prepare p as select extract(month from '01/02/2024'::date)")
		c.want("C PREPARE", "Z I")
	}
	changes.do("set DateStyle = 'ISO, MDY'")
	changes.do("execute p")
	day.query("execute p")
	day.want("T", "D 2", "C SELECT 1", "Z I")
	month.query("execute p")
	month.want("T", "D 1", "C SELECT 1", "Z I")
}

// TestSQLPrepareBehindCopy: what a server knows is settled before an EXECUTE
// that is sent right behind a COPY, and not waited for if the COPY has no end.
func TestSQLPrepareBehindCopy(t *testing.T) {
	r := newRig(t, "default_pool_size = 1")
	name := table(t, "x int")
	c, other := r.client(), r.client()
	c.do("prepare p as select 'c'")
	for range 2 {
		other.query("prepare p as select 'other'; select 1")
		other.until("Z I")
		other.do("execute p")
		c.send(query("copy "+name+" from stdin"), copyData("1\n"), copyDone, query("execute p"), query("execute p"))
		c.want("G", "C COPY 1", "Z I", "T", "D c", "C SELECT 1", "Z I", "T", "D c", "C SELECT 1", "Z I")
	}
	for _, command := range []string{"execute p", "prepare q as select 1", "deallocate x"} {
		for _, first := range [][]pgproto3.FrontendMessage{
			{query("copy " + name + " from stdin")},
			{parse("", "copy "+name+" from stdin"), bind(""), execute},
			{parse("", "copy "+name+" from stdin"), bind(""), execute, syncMsg},
		} {
			c := r.client()
			c.do("prepare p as select 'third'")
			other.do("execute p")
			c.send(append(first, query(command), syncMsg)...)
			c.until("G")
			if m := c.receive(); !strings.HasPrefix(m, "ERROR") && !strings.HasPrefix(m, "FATAL") {
				t.Errorf("%s: got %q", command, m)
			}
			c.reset()
		}
	}
}

// TestSQLPrepareInBatch: in the middle of a batch a name is nobody else's, too.
func TestSQLPrepareInBatch(t *testing.T) {
	r := newRig(t, "default_pool_size = 1")
	a, b := r.client(), r.client()
	one := []pgproto3.FrontendMessage{parse("", "select 1"), bind(""), execute}
	for _, mine := range []bool{false, true} {
		if mine {
			b.do("prepare p as select 'b'")
		}
		for _, use := range [][]pgproto3.FrontendMessage{{bind("p"), execute, syncMsg}, {describe("p"), syncMsg}, {query("execute p")}} {
			a.query("prepare p as select 'a'")
			a.until("Z I")
			a.query("execute p")
			a.want("T", "D a", "C SELECT 1", "Z I")
			b.send(append(one, use...)...)
			b.want("1", "2", "D 1", "C SELECT 1", `ERROR 26000 prepared statement "p" does not exist`, "Z I")
		}
	}
	// At the beginning of one it is waited for.
	a.do("execute p")
	b.send(query("select 1"), bind("p"), execute, syncMsg)
	b.want("T", "D 1", "C SELECT 1", "Z I", "2", "D b", "C SELECT 1", "Z I")
}

// TestSQLPrepareRefused: what the server has not prepared is not remembered, and
// what it refuses to prepare again is not there.
func TestSQLPrepareRefused(t *testing.T) {
	_, c, elsewhere := onTwo(t, "")
	name := table(t, "x int")
	c.query("prepare bad as select nonsense")
	c.want("ERROR 42703…", "Z I")
	c.query("execute bad")
	c.want("ERROR 26000…", "Z I")
	c.do("begin")
	c.query("nonsense")
	c.want("ERROR 42601…", "Z E")
	c.query("prepare late as select 1")
	c.want("ERROR 25P02…", "Z E")
	c.do("rollback")
	for range 2 {
		c.query("execute late")
		c.want("ERROR 26000…", "Z I")
	}
	c.query("prepare gone as select * from " + name)
	c.want("C PREPARE", "Z I")
	admin(t, "alter table "+name+" rename to "+name+"_x")
	c.query("execute gone")
	c.want("ERROR 26000…", "Z I")
	c.do("select 1") // back to the one that has it
	admin(t, "alter table "+name+"_x rename to "+name)
	for range 3 {
		c.query("execute gone")
		c.want("T", "C SELECT 0", "Z I")
	}
	// Nothing that stands behind a PREPARE is done twice.
	c.query("prepare two as select 1; insert into " + name + " values (1)")
	c.want("C PREPARE", "C INSERT 0 1", "Z I")
	for range 4 {
		c.do("execute two")
		elsewhere()
		c.do("select 1")
	}
	if got := c.row("select count(*) from " + name); got != "1" {
		t.Errorf("%s rows", got)
	}
}

// TestSQLPrepareStray: names that a server has got unseen are in nobody's way.
func TestSQLPrepareStray(t *testing.T) {
	r := newRig(t, "")
	a, b := r.client(), r.client()
	a.do("select 1; prepare x as select 'a'")
	a.send(parse("", "prepare y as select 'a'"), bind(""), execute, syncMsg)
	a.want("1", "2", "C PREPARE", "Z I")
	for _, name := range []string{"x", "y"} {
		b.query("execute " + name)
		b.want("ERROR 26000…", "Z I")
		b.query("prepare " + name + " as select 'b'")
		b.want("C PREPARE", "Z I")
		b.query("execute " + name)
		b.want("T", "D b", "C SELECT 1", "Z I")
	}
	// Those that a server has lost unseen are there again after one failure.
	b.do("execute x")
	a.do("do $$ begin execute 'deall' || 'ocate x'; end $$")
	b.query("execute x")
	b.want("ERROR 26000…", "Z I")
	for range 2 {
		b.query("execute x")
		b.want("T", "D b", "C SELECT 1", "Z I")
	}
}

// TestSQLPrepareHidden: a PREPARE that stands behind another command, or comes by
// the extended protocol, holds for the rest of the transaction, and for nobody
// else, who can do the same.
func TestSQLPrepareHidden(t *testing.T) {
	r := newRig(t, "")
	a, b, plain := r.client(), r.client(), r.client()
	a.do("prepare p as select 'a'")
	for range 3 {
		for _, c := range []*wireClient{a, b} {
			want := map[*wireClient]string{a: "new a", b: "new b"}[c]
			hidden := "; prepare p as select '" + want + "'"
			if c == a {
				hidden = "; deallocate p" + hidden
			}
			c.query("begin" + hidden)
			c.until("Z T")
			for range 2 {
				c.query("execute p")
				c.want("T", "D "+want, "C SELECT 1", "Z T")
			}
			c.do("commit")
			if c == a {
				a.query("execute p")
				a.want("ERROR 26000…", "Z I")
				a.do("prepare p as select 'a'")
				a.query("execute p")
				a.want("T", "D a", "C SELECT 1", "Z I")
			}
			// Who has prepared nothing has nothing, wherever it asks.
			plain.query("select 1; execute p")
			plain.want("T", "D 1", "C SELECT 1", "ERROR 26000…", "Z I")
		}
	}
	a.do("deallocate p")
	a.query("begin; prepare p as select 1; prepare q as select 2")
	a.until("Z T")
	a.query("deallocate q")
	a.want("C DEALLOCATE", "Z T")
	a.send(parse("", "prepare e as select 3"), bind(""), execute, syncMsg)
	a.want("1", "2", "C PREPARE", "Z T")
	a.query("execute p; execute e")
	a.want("T", "D 1", "C SELECT 1", "T", "D 3", "C SELECT 1", "Z T")
	a.do("commit")
	// Nor is it there when it is over by the same query.
	for range 2 {
		a.query("prepare o as select 4; execute o; deallocate o")
		a.want("C PREPARE", "T", "D 4", "C SELECT 1", "C DEALLOCATE", "Z I")
	}
}

// TestSQLPrepareUntracked: what clients have prepared on a server before names
// were managed is in nobody's way either.
func TestSQLPrepareUntracked(t *testing.T) {
	r := newRig(t, "max_prepared_statements = 0")
	a, b := r.client(), r.client()
	a.send(parse("p", "select 'a'"), syncMsg)
	a.want("1", "Z I")
	r.reload("max_prepared_statements = 10")
	b.send(bind("p"), execute, syncMsg)
	b.want(`ERROR 26000 prepared statement "p" does not exist`, "Z I")
	b.do("prepare p as select 'b'")
	b.query("execute p")
	b.want("T", "D b", "C SELECT 1", "Z I")
}

// TestSQLPrepareHalfForgotten: a DEALLOCATE that is not executed, or a Close that
// is ignored, leaves others, and the client, what they have.
func TestSQLPrepareHalfForgotten(t *testing.T) {
	r := newRig(t, "")
	a, b := r.client(), r.client()
	b.do("prepare p as select 1")
	a.send(query("prepare p as select 1"), parse("", "deallocate p"), bind(""), syncMsg)
	a.want("C PREPARE", "Z I", "1", "2", "Z I")
	b.query("execute p")
	b.want("T", "D 1", "C SELECT 1", "Z I")
	b.send(bind("none"), closeStatement("p"), syncMsg)
	b.want("ERROR 26000…", "Z I")
	b.query("execute p")
	b.want("T", "D 1", "C SELECT 1", "Z I")
}

// TestSQLPrepareBounds: neither a client nor a server keeps any number of names.
func TestSQLPrepareBounds(t *testing.T) {
	r, c, _ := onTwo(t, "max_prepared_statements = 3")
	other := r.client()
	for i := range 3 {
		for _, x := range []*wireClient{c, other} {
			x.query(fmt.Sprintf("prepare %s%d as select '%[1]s%[2]d'", map[*wireClient]string{c: "c", other: "o"}[x], i))
			x.want("C PREPARE", "Z I")
		}
	}
	for i := range 9 {
		c.query(fmt.Sprintf("execute c%d", i%3))
		c.want("T", fmt.Sprintf("D c%d", i%3), "C SELECT 1", "Z I")
		if got := c.row("select count(*) from pg_prepared_statements"); got > "3" {
			t.Errorf("%s statements on one server", got)
		}
	}
	for range 20 { // all that one query needs is there together, whatever must go for it
		other.do("execute o0")
		c.do("execute c0")
		c.query("execute c0; execute c1; execute c2")
		c.want("T", "D c0", "C SELECT 1", "T", "D c1", "C SELECT 1", "T", "D c2", "C SELECT 1", "Z I")
	}
	c.do("prepare c3 as select 3") // one too many: where it was prepared it is
	r.look(c, func(s *session) {
		if len(s.sql) != 3 {
			t.Errorf("%d are remembered", len(s.sql))
		}
	})
}

// TestExtendedDeallocate: DEALLOCATE by drivers that send everything by the
// extended protocol.
func TestExtendedDeallocate(t *testing.T) {
	r, c, elsewhere := onTwo(t, "")
	other := r.client()
	for _, command := range []string{"", "named"} {
		for _, x := range []*wireClient{c, other} {
			x.send(parse("a b", "select 1"), syncMsg)
			x.want("1", "Z I")
		}
		c.query("prepare q as select 2")
		c.want("C PREPARE", "Z I")
		for _, name := range []string{`"a b"`, "q"} {
			if command != "" {
				command += "x"
			}
			c.send(parse(command, "DEALLOCATE "+name), syncMsg)
			c.want("1", "Z I")
			elsewhere()
			c.send(bind(command), &pgproto3.Describe{ObjectType: 'P'}, execute, syncMsg)
			c.want("2", "n", "C DEALLOCATE", "Z I")
			c.send(bind(command), execute, syncMsg)
			c.want("2", "ERROR 26000…", "Z I")
		}
		c.send(bind("a b"), syncMsg)
		c.want(`ERROR 26000 prepared statement "a b" does not exist`, "Z I")
		c.query("execute q")
		c.want(`ERROR 26000 prepared statement "q" does not exist`, "Z I")
		other.send(bind("a b"), execute, syncMsg)
		other.want("2", "D 1", "C SELECT 1", "Z I")
		other.send(closeStatement("a b"), syncMsg)
		other.want("3", "Z I")
	}
	// In a pipeline that comes to nothing, nothing is forgotten.
	c.send(parse("s", "select 3"), syncMsg)
	c.want("1", "Z I")
	c.send(bind("none"), parse("", "deallocate s"), bind(""), execute, syncMsg)
	c.want("ERROR 26000…", "Z I")
	c.send(parse("", "deallocate s"), bind(""), execute, bind("s"), execute, syncMsg)
	c.want("1", "2", "C DEALLOCATE", "ERROR 26000…", "Z I")
	if n := r.awaitRest(); n != 2 {
		t.Errorf("%d servers at rest", n)
	}
}

func TestSQLNames(t *testing.T) {
	for sql, want := range map[string]string{
		"PREPARE a AS SELECT 1": "a", " \nprepare\tA(int) as select $1": "a", `prepare "x ""y" as values (1)`: `x "y`, `prepare"z"as select 1`: "z",
		"prepare transaction 'x'": "", "prepare": "", "prepared a as": "", "prepare /* b */ a as select 1": "", `prepare "a`: "", "select 1": "",
	} {
		if got := preparedBy(sql); got != want {
			t.Errorf("%q prepares %q, want %q", sql, got, want)
		}
	}
	for sql, want := range map[string][]string{
		"EXECUTE a": {"a"}, "execute a(1); EXECUTE \"B\"": {"a", "B"}, "explain analyze execute c": {"c"}, "create table t as execute d(1)": {"d"},
		"end": nil, "execute": nil, "execute ": nil, "reexecute a": nil, "executed a": nil, "\u00e4execute a": nil,
		"execute " + strings.Repeat("n", 64): nil, "execute\x00": nil, "execute e\x00": {"e"},
	} {
		if got, _ := namedBy([]byte(sql)); !slices.Equal(got, want) {
			t.Errorf("%q executes %q, want %q", sql, got, want)
		}
	}
}

// FuzzSQLNames holds that a name that is understood stands for itself.
func FuzzSQLNames(f *testing.F) {
	f.Add("prepare a as select 1")
	f.Add(`EXPLAIN EXECUTE "a""b"(1)`)
	f.Fuzz(func(t *testing.T, sql string) {
		executed, changed := namedBy([]byte(sql))
		names := append(executed, changed...)
		if name := preparedBy(sql); name != "" {
			names = append(names, name)
		}
		for _, name := range names {
			quoted := `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
			if again := preparedBy("prepare " + quoted + " as select 1"); again != name {
				t.Errorf("%q: %q, then %q", sql, name, again)
			}
			if again, _ := namedBy([]byte("execute " + quoted)); len(again) == 0 || again[0] != name {
				t.Errorf("%q: %q, then %q", sql, name, again)
			}
		}
	})
}
