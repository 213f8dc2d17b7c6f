package frontend

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestCopy is COPY in every order of messages that a client may choose.
func TestCopy(t *testing.T) {
	tab := table(t, "x int")
	in := "copy " + tab + " from stdin"
	out := "copy " + tab + " to stdout"
	count := func(n int) []string { return []string{"T", fmt.Sprintf("D %d", n), "C SELECT 1", "Z I"} }
	type exchange struct {
		send []pgproto3.FrontendMessage
		want []string
	}
	m := func(messages ...pgproto3.FrontendMessage) []pgproto3.FrontendMessage { return messages }
	lines := func(l ...string) []string { return l }
	extended := func(sql string) []pgproto3.FrontendMessage {
		return m(parse("", sql), bind(""), &pgproto3.Describe{ObjectType: 'P'}, execute)
	}
	tests := []struct {
		name  string
		steps []exchange
		rows  int
	}{
		{"simple in", []exchange{
			{m(query(in)), lines("G")},
			{m(copyData("1\n"), copyData("2\n3\n"), copyDone), lines("C COPY 3", "Z I")},
		}, 3},
		{"simple in, all at once", []exchange{
			{m(query(in), copyData("1\n"), copyDone), lines("G", "C COPY 1", "Z I")},
		}, 1},
		{"two simple in, all at once", []exchange{
			{
				m(query(in), copyData("1\n"), copyDone, query(in), copyData("2\n"), copyDone, query("select 1")),
				lines("G", "C COPY 1", "Z I", "G", "C COPY 1", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
			},
		}, 2},
		{"two in one query", []exchange{
			{m(query(in + ";" + in)), lines("G")},
			{m(copyData("1\n"), copyDone), lines("C COPY 1", "G")},
			{m(copyData("2\n"), copyDone), lines("C COPY 1", "Z I")},
		}, 2},
		{"two in one query, all at once", []exchange{
			{
				m(query(in+";"+in), copyData("1\n"), copyDone, copyData("2\n"), copyDone, query("select 1")),
				lines("G", "C COPY 1", "G", "C COPY 1", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
			},
		}, 2},
		{"simple in, the client gives up", []exchange{
			{m(query(in)), lines("G")},
			{
				m(copyData("1\n"), &pgproto3.CopyFail{Message: "no"}, query("select 1")),
				lines("ERROR 57014…", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
			},
		}, 0},
		{"extended in, as libpq: a sync before the data and one after", []exchange{
			{append(extended(in), syncMsg), lines("1", "2", "n", "G")},
			{m(copyData("1\n"), copyDone, syncMsg), lines("C COPY 1", "Z I")},
		}, 1},
		{"extended in, all at once", []exchange{
			{append(extended(in), copyData("1\n"), copyDone, syncMsg), lines("1", "2", "n", "G", "C COPY 1", "Z I")},
		}, 1},
		{"extended in, all at once, two syncs", []exchange{
			{
				append(extended(in), syncMsg, copyData("1\n"), flush, syncMsg, copyData("2\n"), copyDone, syncMsg, query("select 1")),
				lines("1", "2", "n", "G", "C COPY 2", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
			},
		}, 2},
		{"extended in, sync and flush inside of the data", []exchange{
			{extended(in), nil},
			{m(flush), lines("1", "2", "n", "G")},
			{m(syncMsg, copyData("1\n"), syncMsg, flush, copyDone, syncMsg), lines("C COPY 1", "Z I")},
		}, 1},
		{"simple in fails midway", []exchange{
			{m(query(in)), lines("G")},
			{
				m(copyData("1\nx\n"), copyData(strings.Repeat("2\n", 100)), copyData("3\n"), copyDone, query("select 1")),
				lines("ERROR 22P02…", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
			},
		}, 0},
		{"extended in fails midway", []exchange{
			{append(extended(in), syncMsg), lines("1", "2", "n", "G")},
			{m(copyData("x\n"), copyData("3\n")), lines("ERROR 22P02…")},
			{m(copyData("4\n"), copyDone, syncMsg, query("select 1")), lines("Z I", "T", "D 1", "C SELECT 1", "Z I")},
		}, 0},
		{"extended in fails before it begins", []exchange{
			{
				append(extended("copy no_such_table from stdin"), syncMsg, copyData("x\n"), copyDone, syncMsg, query("select 1")),
				lines("1", "2", "n", "ERROR 42P01…", "Z I", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
			},
		}, 0},
		{"simple in fails before it begins", []exchange{
			{
				m(query("copy no_such_table from stdin"), copyData("x\n"), copyDone, query(in), copyData("1\n"), copyDone, query("select 1")),
				lines("ERROR 42P01…", "Z I", "G", "C COPY 1", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
			},
		}, 1},
		{"out", []exchange{
			{
				m(query("insert into "+tab+" values (1),(2)"), query(out), query("select 1")),
				lines("C INSERT 0 2", "Z I", "H", "d 1", "d 2", "c", "C COPY 2", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
			},
			{
				append(append(extended(out), extended(out)...), syncMsg),
				lines("1", "2", "n", "H", "d 1", "d 2", "c", "C COPY 2", "1", "2", "n", "H", "d 1", "d 2", "c", "C COPY 2", "Z I"),
			},
		}, 2},
		{"out fails midway", []exchange{
			{
				m(query("copy (select 1/(2-g) from generate_series(1,2) g) to stdout"), query("select 1")),
				lines("H", "d 1", "ERROR 22012…", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
			},
		}, 0},
	}
	r := newRig(t, "")
	other := r.client()
	pid := other.pid()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			other.do("truncate " + tab)
			c := r.client()
			c.t = t
			for _, s := range tt.steps {
				c.send(s.send...)
				c.want(s.want...)
			}
			c.query("select count(*) from " + tab)
			c.want(count(tt.rows)...)
			if p := other.pid(); p != pid {
				t.Errorf("the server was replaced: %s, not %s", p, pid)
			}
			c.close()
		})
	}
}

// TestCopyFailsUnderWay has a server that gives up while so much data is on the
// way that none of the sockets can take it.
func TestCopyFailsUnderWay(t *testing.T) {
	tab := table(t, "x int")
	r := newRig(t, "")
	for _, tx := range []string{"I", "E"} {
		c := r.client()
		if tx == "E" {
			c.do("begin")
		}
		c.query("copy " + tab + " from stdin")
		c.want("G")
		sent := make(chan error, 1)
		go func() {
			b, err := encode([]pgproto3.FrontendMessage{copyData("x\n")})
			data, err2 := encode([]pgproto3.FrontendMessage{copyData(strings.Repeat("1234567\n", 8000))})
			for i := 0; i < 500 && err == nil && err2 == nil; i++ {
				_, err = c.conn.Write(b)
				b = data
			}
			if err == nil {
				b, err = encode([]pgproto3.FrontendMessage{copyDone, query("select 1")})
			}
			if err == nil {
				_, err = c.conn.Write(b)
			}
			sent <- err
		}()
		c.want("ERROR 22P02…", "Z "+tx)
		if tx == "I" {
			c.want("T", "D 1", "C SELECT 1", "Z I")
		} else {
			c.want("ERROR 25P02…", "Z E")
			c.do("rollback")
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if n := r.awaitRest(); n != 1 {
			t.Errorf("%d servers at rest", n)
		}
	}
}
