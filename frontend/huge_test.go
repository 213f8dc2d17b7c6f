package frontend

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The fifth invariant: a huge message takes the same path as a small one.

// TestHugeMessages sends messages of 12 MB of every kind with small ones around,
// through a server that is shared.
func TestHugeMessages(t *testing.T) {
	const size = 12 << 20
	tab := table(t, "x text")
	big := strings.Repeat("0123456789abcdef", size/16)
	m := func(messages ...pgproto3.FrontendMessage) []pgproto3.FrontendMessage { return messages }
	lines := func(l ...string) []string { return l }
	row := fmt.Sprintf("D 0123456789…%d", size)
	tests := []struct {
		name string
		send []pgproto3.FrontendMessage
		want []string
	}{
		{"query", m(query("select 1 /*" + big + "*/")), lines("T", "D 1", "C SELECT 1", "Z I")},
		{
			"queries", m(query("select length('"+big+"')"), query("select 2"), query("select length('"+big+"')")),
			lines("T", fmt.Sprint("D ", size), "C SELECT 1", "Z I", "T", "D 2", "C SELECT 1", "Z I", "T", fmt.Sprint("D ", size), "C SELECT 1", "Z I"),
		},
		{"parameter and row", m(parse("", "select $1::text"), bind("", big), execute, syncMsg), lines("1", "2", row, "C SELECT 1", "Z I")},
		{
			"parameter of a named statement", m(parse("p", "select length($1::text)"), syncMsg, bind("p", big), execute, bind("p", "x"), execute, syncMsg),
			lines("1", "Z I", "2", fmt.Sprint("D ", size), "C SELECT 1", "2", "D 1", "C SELECT 1", "Z I"),
		},
		{"named statement", m(parse("n", "select 3 /*"+big+"*/"), bind("n"), execute, closeStatement("n"), syncMsg), lines("1", "2", "D 3", "C SELECT 1", "3", "Z I")},
		{
			"unnamed statement in the next transaction", m(parse("", "select 4 /*"+big+"*/"), syncMsg, bind(""), execute, syncMsg),
			lines("1", "Z I", "2", "D 4", "C SELECT 1", "Z I"),
		},
		{
			"error", m(query("do $$ begin raise exception '%', repeat('e', "+fmt.Sprint(size)+"); end $$"), query("select 5")),
			lines("ERROR P0001 eeee…", "Z I", "T", "D 5", "C SELECT 1", "Z I"),
		},
		{
			"error in a batch", m(parse("", "do $$ begin raise exception '%', repeat('e', "+fmt.Sprint(size)+"); end $$"), bind(""), execute, parse("x", "select 6"), bind("x", big), execute, syncMsg),
			lines("1", "2", "ERROR P0001 eeee…", "Z I"),
		},
		{"notice", m(query("do $$ begin raise notice '%', repeat('n', " + fmt.Sprint(size) + "); end $$")), lines("N nnnn…", "C DO", "Z I")},
		{
			"copy", m(query("copy "+tab+" from stdin"), copyData(big), copyData("\n"), copyDone, query("copy "+tab+" to stdout"), query("select count(*) from "+tab)),
			lines("G", "C COPY 1", "Z I", "H", "d 0123456789abcdef…", "c", "C COPY 1", "Z I", "T", "D 1", "C SELECT 1", "Z I"),
		},
		{"copy that fails", m(query("copy no_such_table from stdin"), copyData(big), copyDone, query("select 7")), lines("ERROR 42P01…", "Z I", "T", "D 7", "C SELECT 1", "Z I")},
	}
	r := newRig(t, "event_loops = 2")
	other := r.client()
	pid := other.pid()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := r.client()
			c.t = t
			b := bytesOf(t, tt.send...)
			sent := make(chan error, 1)
			go func() {
				_, err := c.conn.Write(b)
				sent <- err
			}()
			c.want(tt.want...)
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			c.query("select 'end'")
			c.want("T", "D end", "C SELECT 1", "Z I")
			if p := other.pid(); p != pid {
				t.Errorf("the server was replaced: %s, not %s", p, pid)
			}
			c.close()
		})
	}
	if h := inUse(); h > 200<<20 {
		t.Errorf("%d bytes are in use after it", h)
	}
}

// TestPacketTooLong announces more than is allowed, without sending it.
func TestPacketTooLong(t *testing.T) {
	r := newRig(t, "max_packet_size = 100000")
	c := r.client()
	c.write([]byte{'Q', 0x7f, 0xff, 0xff, 0xff})
	c.want(`FATAL 08P01 message 'Q' of 2147483648 bytes is longer than max_packet_size (100000)`, "EOF")
	c = r.client()
	c.do("begin")
	c.write([]byte{'Q', 0, 0, 0, 3})
	c.want("FATAL 08P01 bad packet header: '5100000003'", "EOF")
	r.awaitRest()
}
