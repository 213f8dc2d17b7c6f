// Package pgfetch gets PostgreSQL's server binaries for a machine that has
// none, so that the demo runs anywhere. It is apart from backendtest because
// of its dependencies.
package pgfetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// version is what is fetched. The binaries are those that the project
// zonkyio/embedded-postgres-binaries publishes as Maven artefacts.
const version = embeddedpostgres.V17

// FetchPostgres returns a directory with initdb and postgres, for
// backendtest.PostgresOptions. It looks in cacheDir, by default pgvalet's
// directory in the user's cache, or in /var/cache for root, who runs
// PostgreSQL as another user; if there is nothing it downloads about 15 MB
// into it, checks their SHA-256, and says so on log. A download cannot be
// interrupted: ctx is heeded before it begins.
func FetchPostgres(ctx context.Context, cacheDir string, log io.Writer) (binDir string, err error) {
	if cacheDir == "" {
		if cacheDir, err = defaultCacheDir(); err != nil {
			return "", err
		}
	}
	return fetch(ctx, cacheDir, embeddedpostgres.DefaultConfig(), log)
}

func defaultCacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/pgvalet", nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "pgvalet"), err
}

func fetch(ctx context.Context, cacheDir string, config embeddedpostgres.Config, log io.Writer) (binDir string, err error) {
	home := filepath.Join(cacheDir, fmt.Sprintf("postgresql-%s-%s-%s", version, runtime.GOOS, runtime.GOARCH))
	binDir = filepath.Join(home, "bin")
	if _, err := os.Stat(binDir); err == nil {
		return binDir, nil
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	fmt.Fprintf(log, "fetching PostgreSQL %s into %s\n", version, cacheDir)
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(cacheDir, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	extracted := filepath.Join(temp, "extracted")
	if err := extract(config, temp, extracted); err != nil {
		return "", fmt.Errorf("fetch PostgreSQL %s: %w", version, err)
	}
	// A rename, so that what is in the cache is whole. Another process may
	// have been quicker.
	if err := os.Rename(extracted, home); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return binDir, nil
}

// extract downloads the binaries and unpacks them in dir, with temp for what
// is needed on the way. The library does this only on the way to starting a
// server, which we have another way to do and which it does not do for root.
// So its start is given an empty data directory, on which it fails; that it
// got so far shows in the runtime directory, which it makes once everything
// is unpacked.
func extract(config embeddedpostgres.Config, temp, dir string) error {
	data, unpacked := filepath.Join(temp, "data"), filepath.Join(temp, "unpacked")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	major, _, _ := strings.Cut(string(version), ".")
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(major+"\n"), 0o600); err != nil {
		return err
	}
	server := embeddedpostgres.NewDatabase(config.
		Version(version).
		Port(0).
		CachePath(temp).
		BinariesPath(dir).
		DataPath(data).
		RuntimePath(unpacked).
		Logger(io.Discard))
	startErr := server.Start()
	if startErr == nil {
		return errors.Join(errors.New("an empty data directory makes a server"), server.Stop())
	}
	if _, err := os.Stat(unpacked); err != nil {
		return startErr
	}
	return nil
}
