package backendtest

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestMajorVersion(t *testing.T) {
	for path, want := range map[string]int{
		"/usr/lib/postgresql/9.6/bin":         9,
		"/usr/lib/postgresql/15/bin":          15,
		"/usr/pgsql-17/bin":                   17,
		"/opt/homebrew/opt/postgresql@16/bin": 16,
		"/usr/local/opt/postgresql/bin":       0,
	} {
		if got := majorVersion(path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}

func TestFindPostgresPrefersPath(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	install := filepath.Join(dir, "lib", "bin")
	path := filepath.Join(dir, "path")
	for _, d := range []string{install, path} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"postgres", "initdb"} {
		if err := os.WriteFile(filepath.Join(install, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// As Homebrew does: only links are in PATH, and initdb is beside the target.
	if err := os.Symlink(filepath.Join(install, "postgres"), filepath.Join(path, "postgres")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", path)
	if got, err := FindPostgres(); err != nil || got != install {
		t.Errorf("found %q, %v; want %q", got, err, install)
	}

	// A client installation has no initdb: the next place is as good as none.
	if err := os.Remove(filepath.Join(install, "initdb")); err != nil {
		t.Fatal(err)
	}
	if got, err := FindPostgres(); got == install || (err != nil && !errors.Is(err, ErrNoPostgres)) {
		t.Errorf("found %q, %v", got, err)
	}
}
