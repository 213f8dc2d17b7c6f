package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// testPatience bounds every wait of a test: no test is to hang, and none is to
// fail because the machine is slow.
const testPatience = 60 * time.Second

var (
	// shared is PostgreSQL with ssl=on.
	shared backendtest.Shared
	// serverCA signs the certificate of shared.
	serverCA *backendtest.CA
)

// TestMain makes the test binary stand for pgvalet too, whenever it is called
// by that name: so the program under test is built the way its tests are, race
// detector included. testscript puts the name into PATH.
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"pgvalet": main})
}

type tests struct{ m *testing.M }

// Run implements testscript.TestingM.
func (t tests) Run() int {
	if err := makeCertificates(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := shared.Main(t.m).Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func makeCertificates() (err error) {
	if serverCA, err = backendtest.NewCA(); err != nil {
		return err
	}
	shared.Options.TLS, err = serverCA.Issue("127.0.0.1", "localhost")
	return err
}

// testContext returns a context that ends before the patience with the test
// does.
func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	t.Cleanup(cancel)
	return ctx
}

// program returns the path of one of PostgreSQL's client programs. Where it is
// missing the test is skipped, or fails if the environment says CI=true.
func program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if dir, err := backendtest.FindPostgres(); err == nil {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	if ci, err := strconv.ParseBool(os.Getenv("CI")); err == nil && ci {
		t.Fatal(err)
	}
	t.Skip(err)
	return ""
}

// must returns a function that returns v, or ends the test.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// eventually waits until ok says yes. It is for what cannot be waited for in
// another way: the state of another process that announces nothing.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if err := poll(testContext(t), ok); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func poll(ctx context.Context, ok func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("not in time")
		}
	}
	return nil
}
