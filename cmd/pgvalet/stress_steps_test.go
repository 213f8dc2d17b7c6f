package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// hasCode reports whether err is what the server says with this SQLSTATE.
func hasCode(err error, code string) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && pgErr.Code == code
}

// expectCode returns nil for an error of this SQLSTATE.
func expectCode(err error, code string) error {
	if err == nil {
		return wrong("no error, want %s", code)
	}
	if hasCode(err, code) {
		return nil
	}
	return err
}

// query asks for some rows with one of many statements.
func (c *stressClient) query(ctx context.Context) error {
	token, want, statement := c.token(), rand.IntN(20), rand.IntN(25)
	rows, err := c.conn.Query(ctx, fmt.Sprintf("SELECT $1::text, g, current_setting('application_name'), %d FROM generate_series(1, $2::int) g", statement), token, want)
	if err != nil {
		return err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var got, app string
		var g, by int
		if err := rows.Scan(&got, &g, &app, &by); err != nil {
			return err
		}
		if n++; got != token || g != n || app != c.app || by != statement {
			return wrong("row %q %d of %q by %d, want %q %d of %q by %d", got, g, app, by, token, n, c.app, statement)
		}
	}
	if rows.Err() == nil && n != want {
		return wrong("%d rows, want %d", n, want)
	}
	return rows.Err()
}

// large sends a long message and gets a long one back.
func (c *stressClient) large(ctx context.Context) error {
	token := c.token()
	pad := strings.Repeat(token, 1+rand.IntN(20000))
	var got, back string
	if err := c.conn.QueryRow(ctx, "SELECT $1::text, $2::text || '!'", token, pad).Scan(&got, &back); err != nil {
		return err
	}
	if got != token || back != pad+"!" {
		return wrong("row %q with %d bytes, want %q with %d", got, len(back), token, len(pad)+1)
	}
	return nil
}

// transaction makes sure that it has one server from beginning to end, that an
// error stays in it, and that what is committed is there.
func (c *stressClient) transaction(ctx context.Context) error {
	token := c.token()
	tx, err := c.conn.Begin(ctx)
	if err != nil {
		return err
	}
	var pid uint32
	if err := tx.QueryRow(ctx, "SELECT pg_backend_pid() FROM set_config('stress.owner', $1, true)", token).Scan(&pid); err != nil {
		return err
	}
	for range rand.IntN(5) {
		var now uint32
		var owner string
		if err := tx.QueryRow(ctx, "SELECT pg_backend_pid(), current_setting('stress.owner')").Scan(&now, &owner); err != nil {
			return err
		}
		if now != pid || owner != token {
			return wrong("server %d of %q, want %d of %q", now, owner, pid, token)
		}
	}
	if _, err := tx.Exec(ctx, "INSERT INTO stress_rows VALUES ($1)", token); err != nil {
		return err
	}
	want := 1
	switch rand.IntN(3) {
	case 0:
		err = tx.Commit(ctx)
	case 1:
		want, err = 0, tx.Rollback(ctx)
	default:
		want = 0
		_, err = tx.Exec(ctx, "SELECT 1 / $1::int", 0)
		if err := expectCode(err, "22012"); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "SELECT 'ignored'")
		if err := expectCode(err, "25P02"); err != nil {
			return err
		}
		err = tx.Rollback(ctx)
	}
	if err != nil {
		return err
	}
	var n int
	if err := c.conn.QueryRow(ctx, "SELECT count(*) FROM stress_rows WHERE owner = $1", token).Scan(&n); err != nil {
		return err
	}
	if n != want {
		return wrong("%d rows are committed, want %d", n, want)
	}
	return nil
}

// parameter changes a tracked parameter, or looks whether it has followed.
func (c *stressClient) parameter(ctx context.Context) error {
	if rand.IntN(3) == 0 {
		app := c.token()
		if _, err := c.conn.Exec(ctx, "SET application_name = '"+app+"'"); err != nil {
			return err
		}
		c.app = app
	}
	return c.query(ctx)
}

// sqlPrepare uses statements that are prepared by SQL, by the same few names as
// others do.
func (c *stressClient) sqlPrepare(ctx context.Context) error {
	name, token := fmt.Sprintf("p%d", rand.IntN(4)), c.token()
	own := c.prepared[name]
	exec := func(sql string) error {
		_, err := c.conn.PgConn().Exec(ctx, sql).ReadAll()
		return err
	}
	execute := func(command, want string) error {
		results, err := c.conn.PgConn().Exec(ctx, command+" "+name).ReadAll()
		if want == "" {
			return expectCode(err, "26000")
		}
		if err != nil {
			return err
		}
		if got := string(results[len(results)-1].Rows[0][0]); got != want {
			return wrong("%s is %q, want %q", name, got, want)
		}
		return nil
	}
	prepare := "prepare " + name + " as select '" + token + "'"
	switch rand.IntN(8) {
	case 0:
		if own != "" {
			return expectCode(exec(prepare), "42P05")
		}
		c.prepared[name] = token
		return exec(prepare)
	case 1:
		delete(c.prepared, name)
		err := exec("deallocate " + name)
		if own == "" {
			err = expectCode(err, "26000")
		}
		return err
	case 2: // unseen, and only for the transaction
		begin := "begin; "
		if own != "" {
			begin += "deallocate " + name + "; "
		}
		delete(c.prepared, name)
		if err := exec(begin + prepare); err != nil {
			return err
		}
		for range rand.IntN(3) {
			if err := execute("execute", token); err != nil {
				return err
			}
		}
		return exec("commit")
	case 3:
		return execute("select 1; execute", own)
	default:
		return execute("execute", own)
	}
}

// dates runs a statement whose meaning depends on DateStyle. Who changes that
// may get either, until it leaves; nobody else may notice.
func (c *stressClient) dates(ctx context.Context) error {
	if rand.IntN(20) == 0 {
		c.changed = true
		_, err := c.conn.PgConn().Exec(ctx, "SET DateStyle = 'ISO, "+[]string{"MDY", "DMY"}[rand.IntN(2)]+"'").ReadAll()
		return err
	}
	var month int
	if err := c.conn.QueryRow(ctx, "SELECT extract(month FROM '01/02/2024'::date)::int").Scan(&month); err != nil {
		return err
	}
	if month != 1 && !c.changed {
		return wrong("month %d, want 1", month)
	}
	return nil
}

// copyOut reads rows by COPY.
func (c *stressClient) copyOut(ctx context.Context) error {
	token, want := c.token(), rand.IntN(3000)
	var b bytes.Buffer
	_, err := c.conn.PgConn().CopyTo(ctx, &b, fmt.Sprintf("COPY (SELECT '%s', g FROM generate_series(1, %d) g) TO STDOUT", token, want))
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(b.String()) {
		if n++; line != fmt.Sprintf("%s\t%d\n", token, n) {
			return wrong("row %q, want %q %d", line, token, n)
		}
	}
	if n != want {
		return wrong("%d rows, want %d", n, want)
	}
	return nil
}

// copyIn writes rows by COPY, of which one may be wrong.
func (c *stressClient) copyIn(ctx context.Context) error {
	token, want := c.token(), rand.IntN(3000)
	bad := -1
	if rand.IntN(3) == 0 {
		bad = rand.IntN(want + 1)
	}
	var b bytes.Buffer
	for i := range want {
		if i == bad {
			b.WriteString(token + "\tnonsense\n")
		}
		fmt.Fprintf(&b, "%s\t%d\n", token, i+1)
	}
	_, err := c.conn.PgConn().CopyFrom(ctx, &b, "COPY stress_copy FROM STDIN")
	if bad >= 0 && bad < want {
		want, err = 0, expectCode(err, "22P02")
	}
	if err != nil {
		return err
	}
	var n, sum int
	if err := c.conn.QueryRow(ctx, "WITH gone AS (DELETE FROM stress_copy WHERE owner = $1 RETURNING n) SELECT count(*), coalesce(sum(n), 0) FROM gone", token).Scan(&n, &sum); err != nil {
		return err
	}
	if n != want || sum != want*(want+1)/2 {
		return wrong("%d rows of sum %d, want %d", n, sum, want)
	}
	return nil
}

// cancel cancels its own query, at any time: the request may come too late for
// this one, but must not be felt by the next, whosever it is.
func (c *stressClient) cancel(ctx context.Context) error {
	running := noticed(c.conn, runningNotice)
	select {
	case <-running: // the last time nobody was interested
	default:
	}
	// Some queries end while the request is on its way to the server.
	token, sleep := c.token(), rand.Float64()*0.04
	var early <-chan time.Time // while it waits for a server
	switch rand.IntN(4) {
	case 0:
		sleep = 0.5
	case 1:
		delay := time.NewTimer(rand.N(10 * time.Millisecond))
		defer delay.Stop()
		early = delay.C
	}
	asked, answered := make(chan error, 1), make(chan struct{})
	go func() {
		select {
		case <-early:
			asked <- c.conn.PgConn().CancelRequest(ctx)
		case <-running:
			asked <- c.conn.PgConn().CancelRequest(ctx)
		case <-answered:
			asked <- nil
		}
	}()
	var got string
	err := c.conn.QueryRow(ctx, "SELECT stress_sleep($1, $2)", token, sleep).Scan(&got)
	close(answered)
	if err := <-asked; err != nil && ctx.Err() != nil {
		return fmt.Errorf("cancel request: %w", err)
	}
	switch {
	case hasCode(err, "57014"):
	case err != nil:
		return err
	case got != token:
		return wrong("row %q, want %q", got, token)
	}
	return c.query(ctx)
}

// vanish leaves in the middle of something.
func (c *stressClient) vanish(ctx context.Context) error {
	if rand.IntN(3) > 0 {
		return c.query(ctx)
	}
	h, err := c.conn.PgConn().Hijack()
	if err != nil {
		return err
	}
	defer hangUp(h.Conn)
	f := h.Frontend
	huge := (&pgproto3.Query{String: "SELECT '" + strings.Repeat("x", 1<<20) + "'"})
	half := func(m pgproto3.FrontendMessage) {
		b, err := m.Encode(nil)
		if err == nil {
			_, _ = h.Conn.Write(b[:1+rand.IntN(len(b)-1)]) // the connection may be gone already
		}
	}
	switch rand.IntN(8) {
	case 0:
		half(&pgproto3.Query{String: "SELECT 'half a message'"})
	case 1:
		half(huge)
	case 2:
		f.Send(&pgproto3.Query{String: "SELECT g, repeat('x', 1000) FROM generate_series(1, 20000) g"})
	case 3:
		f.Send(&pgproto3.Query{String: "BEGIN; INSERT INTO stress_rows VALUES ('" + c.token() + "')"})
	case 4:
		f.Send(&pgproto3.Query{String: "SELECT pg_sleep(0.5)"})
	case 5:
		f.Send(&pgproto3.Parse{Query: "SELECT $1::int"})
		f.Send(&pgproto3.Bind{Parameters: [][]byte{[]byte("1")}})
		f.Send(&pgproto3.Execute{})
	case 6:
		f.Send(&pgproto3.Query{String: "COPY stress_copy FROM STDIN"})
		f.Send(&pgproto3.CopyData{Data: []byte(c.token() + "\t1\n")})
	case 7:
		f.Send(&pgproto3.Query{String: "COPY stress_copy FROM STDIN"})
		_ = f.Flush()
		half(&pgproto3.CopyData{Data: []byte(c.token() + "\t1\n")})
	}
	_ = f.Flush() // as above
	return errVanished
}

// hangUp closes a connection without a word, one time in two so that the peer
// gets a reset.
func hangUp(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok && rand.IntN(2) == 0 {
		_ = tcp.SetLinger(0) // fails if the connection is gone
	}
	conn.Close()
}
