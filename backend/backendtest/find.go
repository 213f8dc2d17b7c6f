package backendtest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNoPostgres says that this machine has no PostgreSQL server binaries
// where FindPostgres looks.
var ErrNoPostgres = errors.New("no PostgreSQL server binaries (initdb, postgres) in PATH or the usual places")

// FindPostgres returns the directory that holds initdb and postgres: the one
// in PATH, the one that pg_config names, else the newest of those that
// Debian, Red Hat and Homebrew install. The error is ErrNoPostgres.
func FindPostgres() (binDir string, err error) {
	var candidates []string
	if path, err := exec.LookPath("postgres"); err == nil {
		// A link in a common bin directory has no initdb beside it.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			candidates = append(candidates, filepath.Dir(real))
		}
		candidates = append(candidates, filepath.Dir(path))
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		candidates = append(candidates, strings.TrimSpace(string(out)))
	}
	var installed []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
	} {
		matches, err := filepath.Glob(pattern)
		if err != nil {
			return "", err
		}
		installed = append(installed, matches...)
	}
	slices.SortStableFunc(installed, func(a, b string) int { return majorVersion(b) - majorVersion(a) })
	for _, dir := range append(candidates, installed...) {
		if isExecutable(filepath.Join(dir, "initdb")) && isExecutable(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", ErrNoPostgres
}

var versionInPath = regexp.MustCompile(`(?:postgresql@|postgresql/|pgsql-)(\d+)`)

// majorVersion reads PostgreSQL's major version from an installation path; 0
// if the path has none, such as Homebrew's unversioned one.
func majorVersion(path string) int {
	m := versionInPath.FindStringSubmatch(path)
	if m == nil {
		return 0
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		return 0
	}
	return n
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// FindPgbench returns the path of the pgbench beside the server's programs,
// else of the one in PATH, else "".
func FindPgbench(binDir string) string {
	for _, name := range []string{filepath.Join(binDir, "pgbench"), "pgbench"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}
