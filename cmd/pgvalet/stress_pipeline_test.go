package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// unit is one use of a statement in a pipeline.
type unit struct {
	name      string
	statement int // which of several it is
	token     string
	bad       bool // its execution fails
}

// pipeline sends several batches at once, each of several statements, before it
// reads anything. A statement that fails takes the rest of its batch with it.
func (c *stressClient) pipeline(ctx context.Context) error {
	f, conn := c.conn.PgConn().Frontend(), c.conn.PgConn().Conn()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}
	var batches [][]unit
	for range 1 + rand.IntN(4) {
		var batch []unit
		for range rand.IntN(8) {
			u := unit{statement: rand.IntN(25), token: c.token(), bad: rand.IntN(10) == 0}
			if rand.IntN(2) == 0 {
				u.name = fmt.Sprintf("s%d", rand.IntN(5))
			}
			batch = append(batch, u)
			// A batch that has failed may have left the name behind: Close
			// first. It is no error if there is no such statement.
			f.Send(&pgproto3.Close{ObjectType: 'S', Name: u.name})
			f.Send(&pgproto3.Parse{Name: u.name, Query: fmt.Sprintf("SELECT $1::text, %d / $2::int", u.statement)})
			divisor := "1"
			if u.bad {
				divisor = "0"
			}
			f.Send(&pgproto3.Bind{PreparedStatement: u.name, Parameters: [][]byte{[]byte(u.token), []byte(divisor)}})
			f.Send(&pgproto3.Describe{ObjectType: 'P'})
			f.Send(&pgproto3.Execute{})
			if rand.IntN(5) == 0 {
				f.Send(&pgproto3.Flush{})
			}
		}
		f.Send(&pgproto3.Sync{})
		batches = append(batches, batch)
	}
	if err := f.Flush(); err != nil {
		return c.lastWords(err)
	}
	for _, batch := range batches {
		if err := c.readBatch(f, batch); err != nil {
			return err
		}
	}
	return nil
}

// readBatch checks the replies to one batch.
func (c *stressClient) readBatch(f *pgproto3.Frontend, batch []unit) error {
	for _, u := range batch {
		for _, want := range []string{"CloseComplete", "ParseComplete", "BindComplete", "RowDescription", "DataRow", "CommandComplete"} {
			m, err := c.reply(f)
			if err != nil {
				return err
			}
			if e, ok := m.(*pgproto3.ErrorResponse); ok {
				if e.Severity == "FATAL" {
					return pgconn.ErrorResponseToPgError(e)
				}
				if !u.bad || e.Code != "22012" {
					return wrong("%s %s for %+v", e.Code, e.Message, u)
				}
				return c.ready(f)
			}
			if got := fmt.Sprintf("%T", m)[len("*pgproto3."):]; got != want {
				return wrong("%s, want %s for %+v", got, want, u)
			}
			if row, ok := m.(*pgproto3.DataRow); ok && (u.bad || string(row.Values[0]) != u.token || string(row.Values[1]) != strconv.Itoa(u.statement)) {
				return wrong("row %q, for %+v", row.Values, u)
			}
		}
	}
	return c.ready(f)
}

// ready expects ReadyForQuery.
func (c *stressClient) ready(f *pgproto3.Frontend) error {
	m, err := c.reply(f)
	if err != nil {
		return err
	}
	if e, ok := m.(*pgproto3.ErrorResponse); ok && e.Severity == "FATAL" {
		return pgconn.ErrorResponseToPgError(e)
	}
	if r, ok := m.(*pgproto3.ReadyForQuery); !ok || r.TxStatus != 'I' {
		return wrong("%T %+v, want ReadyForQuery", m, m)
	}
	return nil
}

// reply returns the next message that is about a request.
func (c *stressClient) reply(f *pgproto3.Frontend) (pgproto3.BackendMessage, error) {
	for {
		m, err := f.Receive()
		if err != nil {
			return nil, fmt.Errorf("without a word: %w", err)
		}
		switch m.(type) {
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return m, nil
		}
	}
}

// lastWords returns what the peer said before writing failed.
func (c *stressClient) lastWords(failed error) error {
	f := c.conn.PgConn().Frontend()
	for {
		m, err := f.Receive()
		if err != nil {
			return failed
		}
		if e, ok := m.(*pgproto3.ErrorResponse); ok && e.Severity == "FATAL" {
			return pgconn.ErrorResponseToPgError(e)
		}
	}
}
