package frontend

import (
	"bytes"
	"io"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// TestErrorInTheMiddleOfAMessage: a client that has got half a message would
// take an error for the rest of it.
func TestErrorInTheMiddleOfAMessage(t *testing.T) {
	fields := &pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("c")}}}
	reply, err := fields.Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err = (&pgproto3.DataRow{Values: [][]byte{bytes.Repeat([]byte("x"), 1000)}}).Encode(reply)
	if err != nil {
		t.Fatal(err)
	}
	reply = reply[:len(reply)-20]
	hangUp := func(*backendtest.ScriptConn) error { return nil }
	play := func(t *testing.T, then backendtest.Step, more ...backendtest.Script) (*rig, *wireClient) {
		server := backendtest.StartScript(t, append([]backendtest.Script{{
			backendtest.Welcome(),
			backendtest.Expect(query("select long")),
			backendtest.SendBytes(reply),
			then,
		}}, more...)...)
		r := startRig(t, server.Addr(), "")
		c := r.client()
		c.query("select long")
		got := make([]byte, len(reply))
		if _, err := io.ReadFull(c.conn, got); err != nil || !bytes.Equal(got, reply) {
			t.Fatalf("%v: %q", err, got)
		}
		return r, c
	}
	end := func(t *testing.T, c *wireClient) {
		t.Helper()
		if rest, err := io.ReadAll(c.conn); len(rest) > 0 || err != nil {
			t.Errorf("behind half a message the client gets %q, %v; want the end of the connection", rest, err)
		}
	}

	t.Run("server lost", func(t *testing.T) {
		_, c := play(t, hangUp)
		end(t, c)
	})
	t.Run("session killed", func(t *testing.T) {
		killed := make(chan struct{})
		cancel := backendtest.Script{hangUp} // the query is cancelled
		r, c := play(t, backendtest.Await(killed), cancel)
		r.sessions.Kill("", errKilled)
		end(t, c)
		close(killed)
	})
}
