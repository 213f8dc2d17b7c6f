package backend

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(servers{m}) }

// servers runs the tests and stops what they have started.
type servers struct{ m *testing.M }

func (s servers) Run() int {
	code := s.m.Run()
	if err := errors.Join(plainServer.Close(), tlsServer.close()); err != nil {
		os.Stderr.WriteString("stopping PostgreSQL: " + err.Error() + "\n")
		return max(code, 1)
	}
	return code
}

var (
	plainServer backendtest.Shared // a PostgreSQL without TLS
	tlsServer   tlsPostgres
)

// tlsPostgres is a PostgreSQL with TLS, started by the first test that asks.
type tlsPostgres struct {
	once   sync.Once
	err    error
	shared backendtest.Shared
	ca     *backendtest.CA
}

// tlsHBA adds users who may come only this or that way to the default rules.
var tlsHBA = append([]string{
	"local     all all         trust",
	"hostssl   all needs_tls   all trust",
	"hostnossl all needs_tls   all reject",
	"hostssl   all needs_plain all reject",
	"hostnossl all needs_plain all trust",
	"hostssl   all certified   all cert",
}, backendtest.DefaultHBA...)

func (s *tlsPostgres) postgres(t testing.TB) (*backendtest.Postgres, *backendtest.CA) {
	t.Helper()
	s.once.Do(func() { s.err = s.start(t) })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.shared.Postgres(t), s.ca
}

func (s *tlsPostgres) start(t testing.TB) error {
	var err error
	if s.ca, err = backendtest.NewCA(); err != nil {
		return err
	}
	cert, err := s.ca.Issue("pg.test", "127.0.0.1")
	if err != nil {
		return err
	}
	s.shared.Options = backendtest.PostgresOptions{TLS: cert, ClientCA: s.ca, HBA: tlsHBA}
	pg := s.shared.Postgres(t)
	for _, role := range []string{"needs_tls", "needs_plain", "certified"} {
		if err := pg.CreateLogin(context.Background(), role, backendtest.Trust, ""); err != nil {
			return err
		}
	}
	return nil
}

func (s *tlsPostgres) close() error { return s.shared.Close() }

// testContext bounds what a test waits for.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
