package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// secure returns a PostgreSQL with TLS for one test.
func secure(t *testing.T) *backendtest.Postgres {
	t.Helper()
	ca, err := backendtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	pg, err := backendtest.StartPostgres(t.Context(), backendtest.PostgresOptions{TLS: cert})
	if errors.Is(err, backendtest.ErrNoPostgres) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	return pg
}

func TestClient(t *testing.T) {
	pg := secure(t)
	if err := pg.CreateLogin(t.Context(), userName, backendtest.SCRAM, "pencil"); err != nil {
		t.Fatal(err)
	}
	e := endpoint{addr: pg.Addr(), database: "postgres", credentials: &credentials{user: userName, password: "pencil"}}
	secured := e
	secured.tls = clientTLS()
	for name, e := range map[string]endpoint{"plain": e, "tls": secured} {
		t.Run(name, func(t *testing.T) {
			c, err := e.login(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			for range 2 {
				if err := c.query("SELECT repeat('x', 100000)"); err != nil { // larger than the buffer
					t.Fatal(err)
				}
			}
			if err := c.query("SELECT 1/0"); err == nil || !strings.Contains(err.Error(), "22012") {
				t.Errorf("%v, want division_by_zero", err)
			}
		})
	}
	t.Run("wrong password", func(t *testing.T) {
		wrong := e
		wrong.credentials = &credentials{user: userName, password: "pen"}
		if c, err := wrong.login(t.Context()); err == nil || !strings.Contains(err.Error(), "28P01") {
			t.Errorf("%v, %v", c, err)
		}
	})
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c, err := e.login(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer c.drop()
		slept := make(chan error, 1)
		go func() { slept <- c.query("SELECT pg_sleep(50)") }()
		// Only once the query runs.
		for asked := time.Now(); ; {
			conn, err := pg.Connect(t.Context(), "postgres", pg.Superuser)
			if err != nil {
				t.Fatal(err)
			}
			var n int
			err = conn.QueryRow(t.Context(), fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE usename = '%s' AND state = 'active'", userName)).Scan(&n)
			conn.Close(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				break
			}
			if time.Since(asked) > 20*time.Second {
				t.Fatal("the query does not begin")
			}
		}
		cancel()
		if err := <-slept; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	})
}

// A server that lets everybody in must not pass for one that was measured
// with SCRAM.
func TestClientInsistsOnScram(t *testing.T) {
	pg := shared.Postgres(t)
	e := endpoint{addr: pg.Addr(), database: "postgres", credentials: &credentials{user: pg.Superuser, password: "x"}}
	if c, err := e.login(t.Context()); err == nil || !strings.Contains(err.Error(), "without SCRAM") {
		t.Errorf("%v, %v", c, err)
	}
	e.tls = clientTLS()
	if c, err := e.login(t.Context()); err == nil || !strings.Contains(err.Error(), "no TLS") {
		t.Errorf("%v, %v", c, err)
	}
}
