package pgfetch

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// repository serves a jar that holds txz under every name, with a checksum.
func repository(t *testing.T, txz []byte, checksum func(jar []byte) string) embeddedpostgres.Config {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir()) // the library leaves its log there
	var jar bytes.Buffer
	w := zip.NewWriter(&jar)
	f, err := w.Create("postgres.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(txz); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/"+string(version)+"/") {
			http.NotFound(rw, r)
		} else if strings.HasSuffix(r.URL.Path, ".sha256") {
			_, _ = rw.Write([]byte(checksum(jar.Bytes())))
		} else {
			_, _ = rw.Write(jar.Bytes())
		}
	}))
	t.Cleanup(server.Close)
	return embeddedpostgres.DefaultConfig().BinaryRepositoryURL(server.URL)
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// The archive's programs do nothing but fail.
func readArchive(t *testing.T) []byte {
	t.Helper()
	txz, err := os.ReadFile("testdata/postgres.txz")
	if err != nil {
		t.Fatal(err)
	}
	return txz
}

func TestFetchOnceThenFromTheCache(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "new", "cache")
	var log strings.Builder
	binDir, err := fetch(t.Context(), cache, repository(t, readArchive(t), sha256Hex), &log)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(binDir, name)); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	// Root runs them as another user.
	for dir := binDir; dir != filepath.Dir(cache); dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o055 != 0o055 {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}
	if entries, err := os.ReadDir(cache); err != nil || len(entries) != 1 {
		t.Errorf("left in the cache: %v, %v", entries, err)
	}
	if !strings.Contains(log.String(), string(version)) {
		t.Errorf("log %q", &log)
	}

	log.Reset()
	gone := embeddedpostgres.DefaultConfig().BinaryRepositoryURL("http://127.0.0.1:1")
	if again, err := fetch(t.Context(), cache, gone, &log); err != nil || again != binDir || log.Len() > 0 {
		t.Errorf("second time: %q, %v, log %q", again, err, &log)
	}
}

func TestNothingButWholeArchivesGetIntoTheCache(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	txz := readArchive(t)
	for _, tt := range []struct {
		name     string
		ctx      context.Context
		txz      []byte
		checksum func([]byte) string
	}{
		{"wrong checksum", t.Context(), txz, func([]byte) string { return sha256Hex(nil) }},
		{"cut off", t.Context(), txz[:len(txz)/2], sha256Hex},
		{"not an archive", t.Context(), []byte("<html>"), sha256Hex},
		{"cancelled", cancelled, txz, sha256Hex},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cache := t.TempDir()
			binDir, err := fetch(tt.ctx, cache, repository(t, tt.txz, tt.checksum), new(strings.Builder))
			if err == nil {
				t.Fatalf("no error, but %s", binDir)
			}
			if tt.ctx.Err() != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			if entries, err := os.ReadDir(cache); err != nil || len(entries) != 0 {
				t.Errorf("left in the cache: %v, %v", entries, err)
			}
		})
	}
}
