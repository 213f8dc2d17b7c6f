package frontend

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The first invariant of the data path: requests and replies are one ordered
// queue, whatever a client sends at once.

// TestPipelines sends each pipeline with one write, then in pieces of
// seven, and expects the replies that PostgreSQL gives. Another client has the
// only server before and after, and must find it as it should be.
func TestPipelines(t *testing.T) {
	limit := func(n uint32) *pgproto3.Execute { return &pgproto3.Execute{MaxRows: n} }
	tests := []struct {
		name string
		send []pgproto3.FrontendMessage
		want []string
	}{
		{
			"several syncs",
			[]pgproto3.FrontendMessage{
				parse("", "select 1"), bind(""), execute, syncMsg, syncMsg,
				parse("", "select 2"), bind(""), execute, syncMsg, query("select 3"), syncMsg,
			},
			[]string{"1", "2", "D 1", "C SELECT 1", "Z I", "Z I", "1", "2", "D 2", "C SELECT 1", "Z I", "T", "D 3", "C SELECT 1", "Z I", "Z I"},
		},
		{
			"flush",
			[]pgproto3.FrontendMessage{
				flush, parse("", "select 1"), flush, bind(""), flush, flush, execute, flush, syncMsg, flush,
				parse("", "select 2"), bind(""), execute, syncMsg,
			},
			[]string{"1", "2", "D 1", "C SELECT 1", "Z I", "1", "2", "D 2", "C SELECT 1", "Z I"},
		},
		{
			"error in the middle",
			[]pgproto3.FrontendMessage{
				parse("", "select 1"), bind(""), execute,
				parse("", "select 1/(2-g) from generate_series(1,3) g"), bind(""), execute, parse("", "select 9"), describe(""), bind(""), execute, flush, closeStatement(""), syncMsg,
				parse("", "select 2"), bind(""), execute, syncMsg,
			},
			[]string{"1", "2", "D 1", "C SELECT 1", "1", "2", "D 1", "ERROR 22012 division by zero", "Z I", "1", "2", "D 2", "C SELECT 1", "Z I"},
		},
		{
			"simple query in an aborted batch",
			[]pgproto3.FrontendMessage{
				parse("", "select nonsense"), query("select 1"), &pgproto3.FunctionCall{Function: 1397}, syncMsg, query("select 2"),
			},
			[]string{`ERROR 42703 column "nonsense" does not exist`, "Z I", "T", "D 2", "C SELECT 1", "Z I"},
		},
		{
			"simple query between extended ones",
			[]pgproto3.FrontendMessage{
				parse("", "select 1"), bind(""), execute, query("select 2; select 3"), parse("", "select 4"), bind(""), execute, syncMsg,
			},
			[]string{"1", "2", "D 1", "C SELECT 1", "T", "D 2", "C SELECT 1", "T", "D 3", "C SELECT 1", "Z I", "1", "2", "D 4", "C SELECT 1", "Z I"},
		},
		{
			"function call",
			[]pgproto3.FrontendMessage{
				&pgproto3.FunctionCall{Function: 1397, Arguments: [][]byte{[]byte("-5")}},
				&pgproto3.FunctionCall{Function: 1397, Arguments: [][]byte{[]byte("x")}},
				query("select 1"),
			},
			[]string{"V 5", "Z I", `ERROR 22P02 invalid input syntax for type integer: "x"`, "Z I", "T", "D 1", "C SELECT 1", "Z I"},
		},
		{
			"empty queries",
			[]pgproto3.FrontendMessage{query(""), query(";"), parse("", ""), bind(""), &pgproto3.Describe{ObjectType: 'P'}, execute, syncMsg, query("select 1")},
			[]string{"I", "Z I", "I", "Z I", "1", "2", "n", "I", "Z I", "T", "D 1", "C SELECT 1", "Z I"},
		},
		{
			"portal with limits",
			[]pgproto3.FrontendMessage{
				parse("", "select generate_series(1,5)"), bind(""), limit(2), limit(2), flush, limit(2), limit(2), syncMsg,
				query("select 1"),
			},
			[]string{"1", "2", "D 1", "D 2", "s", "D 3", "D 4", "s", "D 5", "C SELECT 1", "C SELECT 0", "Z I", "T", "D 1", "C SELECT 1", "Z I"},
		},
		{
			"describe",
			[]pgproto3.FrontendMessage{
				parse("d", "select $1::int"), describe("d"), bind("d", "5"), &pgproto3.Describe{ObjectType: 'P'}, execute,
				parse("", "set enable_sort = on"), describe(""), closeStatement("d"), syncMsg,
			},
			[]string{"1", "t", "T", "2", "T", "D 5", "C SELECT 1", "1", "t", "n", "3", "Z I"},
		},
		{
			"error in sync",
			[]pgproto3.FrontendMessage{
				query("create temp table if not exists def (x int unique deferrable initially deferred); truncate def"),
				parse("", "insert into def values (1),(1)"), bind(""), execute, syncMsg,
				query("select count(*) from def"),
			},
			[]string{"*Z I", "1", "2", "C INSERT 0 2", "ERROR 23505…", "Z I", "T", "D 0", "C SELECT 1", "Z I"},
		},
		{
			"transaction",
			[]pgproto3.FrontendMessage{
				query("begin"), parse("", "select 1/0"), bind(""), execute, syncMsg, query("select 1"),
				parse("", "rollback"), bind(""), execute, syncMsg, query("select 1"),
			},
			[]string{
				"C BEGIN", "Z T", "1", "ERROR 22012…", "Z E", "ERROR 25P02…", "Z E",
				"1", "2", "C ROLLBACK", "Z I", "T", "D 1", "C SELECT 1", "Z I",
			},
		},
		{
			"stray ends of copy",
			[]pgproto3.FrontendMessage{
				copyData("x"), copyDone, &pgproto3.CopyFail{}, parse("", "select 1"), copyDone, bind(""), copyData("y"), copyDone, execute,
				copyDone, syncMsg, copyDone, query("select 2"), copyDone, query("select 3"),
			},
			[]string{"1", "2", "D 1", "C SELECT 1", "Z I", "T", "D 2", "C SELECT 1", "Z I", "T", "D 3", "C SELECT 1", "Z I"},
		},
	}
	r := newRig(t, "")
	other := r.client()
	pid := other.pid()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := r.client()
			c.t = t
			b := bytesOf(t, tt.send...)
			for _, step := range []int{len(b), 7} {
				for rest := b; len(rest) > 0; {
					n := min(step, len(rest))
					c.write(rest[:n])
					rest = rest[n:]
				}
				want := tt.want
				if end, ok := strings.CutPrefix(want[0], "*"); ok {
					c.until(end)
					want = want[1:]
				}
				c.want(want...)
				c.query("select 'end'")
				c.want("T", "D end", "C SELECT 1", "Z I")
			}
			if p := other.pid(); p != pid {
				t.Errorf("the server was replaced: %s, not %s", p, pid)
			}
			c.close()
		})
	}
}

// TestAfterAnError goes on with a batch when the error in it is known.
func TestAfterAnError(t *testing.T) {
	r := newRig(t, "")
	c, other := r.client(), r.client()
	pid := other.pid()
	c.send(parse("known", "select 'known'"), syncMsg)
	c.want("1", "Z I")
	for range 2 {
		c.send(bind("none"), flush)
		c.want("ERROR 26000…")
		c.send(parse("", "select 1"), parse("new", "select 'new'"), bind("new"), execute, parse("known", "select 2"), closeStatement("known"),
			query("select 3"), copyData("x"), copyDone, &pgproto3.FunctionCall{Function: 1397}, flush)
		r.await("all of it is there", func() (there bool) {
			r.look(c, func(s *session) { there = s.in.Len() == 0 && s.srv.Aborted() && s.srv.Outstanding() == 0 })
			return there
		})
		c.send(syncMsg, bind("known"), execute, syncMsg)
		c.want("Z I", "2", "D known", "C SELECT 1", "Z I")
		c.send(bind("new"), syncMsg)
		c.want("ERROR 26000…", "Z I")
	}
	if p := other.pid(); p != pid {
		t.Errorf("the server was replaced: %s, not %s", p, pid)
	}
}

// TestPipelineOfManyServers has clients with pipelines of different length, so
// that several event loops hand few servers to each other all the time. Every
// answer tells whose it is.
func TestPipelineOfManyServers(t *testing.T) {
	r := newRig(t, "default_pool_size = 2\nevent_loops = 3\nmax_prepared_statements = 3")
	const clients, rounds = 9, 40
	failures := make(chan error, clients)
	for i := range clients {
		c := r.client()
		go func() {
			failures <- func() error {
				for n := range rounds {
					var send []pgproto3.FrontendMessage
					var want []string
					for k := range 1 + (i+n)%4 {
						name := ""
						value := fmt.Sprintf("%d-%d-%d", i, n, k)
						if n < 4 && k == n%4 || n == 0 {
							name = "x" + value
							send = append(send, parse(name, fmt.Sprintf("select $1::text, %d, %d", i%2, k)))
							want = append(want, "1")
						} else {
							send = append(send, parse("", "select $1::text, 7, 7"))
							want = append(want, "1")
						}
						send = append(send, bind(name, value), execute)
						want = append(want, "2", "D "+value, "C SELECT 1")
						if (n+k)%3 == 0 {
							send = append(send, syncMsg, query("select '"+value+"'"))
							want = append(want, "Z I", "T", "D "+value, "C SELECT 1", "Z I")
						}
					}
					send = append(send, syncMsg)
					want = append(want, "Z I")
					b, err := encode(send)
					if err != nil {
						return err
					}
					if _, err := c.conn.Write(b); err != nil {
						return err
					}
					for _, w := range want {
						if got := c.receive(); got != w && !strings.HasPrefix(got, w+"|") {
							return fmt.Errorf("client %d, round %d: %q, not %q", i, n, got, w)
						}
					}
				}
				return nil
			}()
		}()
	}
	for range clients {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	if n := r.awaitRest(); n > 2 {
		t.Errorf("%d servers in a pool of 2", n)
	}
}

func encode(messages []pgproto3.FrontendMessage) (b []byte, err error) {
	for _, m := range messages {
		if b, err = m.Encode(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}
