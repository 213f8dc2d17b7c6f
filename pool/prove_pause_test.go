package pool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
)

// TestProofOfPausedDatabase: while a database is paused no token is shown to its
// server, and PAUSE waits for those that are.
func TestProofOfPausedDatabase(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ps := startPools(t, 1, zap.NewNop(), "server_tls_sslmode = \"verify-full\"\nserver_tls_ca_file = \"system\"", fmt.Sprintf(
		"[databases.app]\nhost = \"127.0.0.1\"\nport = %d", ln.Addr().(*net.TCPAddr).Port))
	token := auth.Presented("a token", auth.Claims{Expires: time.Now().Add(time.Minute)})
	prove := func(queue context.Context) <-chan error {
		answer := make(chan error, 1)
		go func() { answer <- ps.Prove(context.Background(), queue, "app", "somebody", token) }()
		return answer
	}
	tried := func(err error) bool {
		c, ok := errors.AsType[*backend.ConnectError](err)
		return ok && c.Kind == backend.ConnectionLost
	}

	if err := ps.Pause(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	queue, leave := context.WithCancelCause(t.Context())
	answer, why := prove(queue), errors.New("nobody waits")
	leave(why)
	if err := <-answer; !errors.Is(err, why) {
		t.Errorf("a proof that waits for RESUME ends with %v", err)
	}

	answer = prove(t.Context())
	if err := ps.Resume("app"); err != nil {
		t.Fatal(err)
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ps.Pause(over, "app"); !errors.Is(err, context.Canceled) {
		t.Errorf("PAUSE has not waited for the proof: %v", err)
	}
	conn.Close()
	if err := <-answer; !tried(err) {
		t.Errorf("the proof ended with %v", err)
	}
	if err := ps.Pause(t.Context(), "app"); err != nil {
		t.Error(err)
	}
}
