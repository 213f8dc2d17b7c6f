package frontend

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// TestUnnamedStatement prepares without a name in one transaction and uses that
// in the next, while another client has used the server. It must get its own
// statement or an error, never the other's.
func TestUnnamedStatement(t *testing.T) {
	m := func(messages ...pgproto3.FrontendMessage) []pgproto3.FrontendMessage { return messages }
	lines := func(l ...string) []string { return l }
	mine, theirs := parse("", "select 'mine'"), parse("", "select 'theirs'")
	const gone = "ERROR 26000…"
	tests := []struct {
		name  string
		first []pgproto3.FrontendMessage
		want  []string
		other []pgproto3.FrontendMessage // what the other client does in between
		then  []pgproto3.FrontendMessage // nil: bind and execute
		get   []string
	}{
		{"prepared alone", m(mine, syncMsg), lines("1", "Z I"), m(theirs, syncMsg), nil, lines("2", "D mine", "C SELECT 1", "Z I")},
		{"prepared and described", m(mine, describe(""), syncMsg), lines("1", "t", "T", "Z I"), m(theirs, syncMsg), nil, lines("2", "D mine", "C SELECT 1", "Z I")},
		{
			"used twice", m(mine, syncMsg, bind(""), execute, syncMsg), lines("1", "Z I", "2", "D mine", "C SELECT 1", "Z I"), m(theirs, syncMsg), nil,
			lines("2", "D mine", "C SELECT 1", "Z I"),
		},
		{"used at once and again", m(mine, bind(""), execute, syncMsg), lines("1", "2", "D mine", "C SELECT 1", "Z I"), m(theirs, syncMsg), nil, lines(gone, "Z I")},
		{
			"used at once and again, nobody between", m(mine, bind(""), execute, syncMsg), lines("1", "2", "D mine", "C SELECT 1", "Z I"), nil, nil,
			lines("2", "D mine", "C SELECT 1", "Z I"),
		},
		{"nobody between", m(mine, syncMsg), lines("1", "Z I"), nil, nil, lines("2", "D mine", "C SELECT 1", "Z I")},
		{"a simple query between", m(mine, syncMsg), lines("1", "Z I"), m(query("select 1")), nil, lines("2", "D mine", "C SELECT 1", "Z I")},
		{"closed by the other", m(mine, syncMsg), lines("1", "Z I"), m(closeStatement(""), syncMsg), nil, lines("2", "D mine", "C SELECT 1", "Z I")},
		{"closed", m(mine, syncMsg, closeStatement(""), syncMsg), lines("1", "Z I", "3", "Z I"), m(theirs, syncMsg), nil, lines(gone, "Z I")},
		{"refused", m(parse("", "select nonsense"), syncMsg), lines("ERROR 42703…", "Z I"), m(theirs, syncMsg), nil, lines(gone, "Z I")},
		// PostgreSQL would not know it in the second batch. What matters is that it is not theirs.
		{
			"ignored, asked for before that is known", nil, nil, m(theirs, syncMsg), m(bind("none"), mine, syncMsg, bind(""), execute, syncMsg),
			lines(gone, "Z I", "2", "D mine", "C SELECT 1", "Z I"),
		},
		{"ignored, so the other's is still there", nil, nil, m(theirs, syncMsg), m(bind("none"), mine, syncMsg, flush), lines(gone, "Z I")},
		{
			"long", m(&pgproto3.Parse{Query: "select 'mine' /*" + strings.Repeat("x", 1<<20) + "*/"}, syncMsg), lines("1", "Z I"), m(theirs, syncMsg), nil,
			lines("2", "D mine", "C SELECT 1", "Z I"),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, "")
			c, other := r.client(), r.client()
			c.send(tt.first...)
			c.want(tt.want...)
			if tt.other != nil {
				other.send(tt.other...)
				other.until("Z")
			}
			if tt.then == nil {
				tt.then = m(bind(""), execute, syncMsg)
			}
			c.send(tt.then...)
			c.want(tt.get...)
			if strings.HasPrefix(tt.name, "ignored, so") {
				c.send(bind(""), execute, syncMsg)
				c.want(gone, "Z I")
			}
			c.query("select 'end'")
			c.want("T", "D end", "C SELECT 1", "Z I")
		})
	}
}

// TestUnnamedStatementOfEarlier prepares without a name on one server, again on
// another, and goes on on the first: that still holds the earlier statement.
func TestUnnamedStatementOfEarlier(t *testing.T) {
	for name, tt := range map[string]struct {
		again []pgproto3.FrontendMessage
		done  []string
		get   []string
	}{
		"prepared again": {
			[]pgproto3.FrontendMessage{parse("", "select 'new'"), syncMsg},
			[]string{"1", "Z I"},
			[]string{"2", "D new", "C SELECT 1", "Z I"},
		},
		"closed":  {[]pgproto3.FrontendMessage{closeStatement(""), syncMsg}, []string{"3", "Z I"}, []string{"ERROR 26000…", "Z I"}},
		"refused": {[]pgproto3.FrontendMessage{parse("", "select nonsense"), syncMsg}, []string{"ERROR 42703…", "Z I"}, []string{"ERROR 26000…", "Z I"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "default_pool_size = 2")
			c, first, second := r.client(), r.client(), r.client()
			do := func(c *wireClient, sql string) { // a simple query would destroy the unnamed statement
				t.Helper()
				c.send(parse(sql, sql), bind(sql), execute, syncMsg)
				c.until("Z")
			}
			c.send(parse("", "select 'old'"), syncMsg)
			c.want("1", "Z I")
			do(first, "begin") // on the only server
			c.send(tt.again...)
			c.want(tt.done...)
			do(second, "begin")
			do(first, "commit")
			c.send(bind(""), execute, syncMsg)
			c.want(tt.get...)
			do(second, "commit")
		})
	}
}
