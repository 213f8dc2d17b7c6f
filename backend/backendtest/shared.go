package backendtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
)

// Shared is one PostgreSQL for all tests of a package, started by the first
// that asks for it and stopped after the last:
//
//	var shared backendtest.Shared
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(shared.Main(m)) }
//
//	func TestSomething(t *testing.T) {
//		pg := shared.Postgres(t)
type Shared struct {
	Options PostgresOptions // not to be changed after the first call of Postgres

	mu  sync.Mutex // guards pg and err
	pg  *Postgres
	err error // why it did not start; not tried again
}

// Postgres returns the shared server, which the caller must leave as it was:
// roles and databases get names of the test's own. Where the machine has no
// PostgreSQL the test is skipped, or fails if the environment says CI=true.
func (s *Shared) Postgres(t testing.TB) *Postgres {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg == nil && s.err == nil {
		s.pg, s.err = StartPostgres(context.Background(), s.Options)
	}
	if errors.Is(s.err, ErrNoPostgres) {
		if ci, err := strconv.ParseBool(os.Getenv("CI")); err != nil || !ci {
			t.Skip(s.err)
		}
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.pg
}

// Close stops the server, if it was started.
func (s *Shared) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pg == nil {
		return nil
	}
	pg := s.pg
	s.pg, s.err = nil, errors.New("PostgreSQL asked for after it was stopped")
	return pg.Stop()
}

// Main returns m with Close after its Run.
func (s *Shared) Main(m *testing.M) SharedMain { return SharedMain{m: m, shared: s} }

// SharedMain runs a package's tests and then stops their PostgreSQL. It is
// what goleak.VerifyTestMain and os.Exit want.
type SharedMain struct {
	m      *testing.M
	shared *Shared
}

// Run returns the exit code of the tests, or 1 if PostgreSQL did not stop well.
func (r SharedMain) Run() int {
	code := r.m.Run()
	if err := r.shared.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping PostgreSQL:", err)
		return max(code, 1)
	}
	return code
}
