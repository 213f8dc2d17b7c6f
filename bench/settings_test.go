package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

func TestPgbouncerConfig(t *testing.T) {
	got := pgbouncerConfig([]setting{{"listen_port", 6432}, {"unix_socket_dir", ""}, {"pool_mode", "transaction"}}, databaseSettings(5432, "X"))
	const want = `[databases]
bench = host=127.0.0.1 port=5432 user=bench password=X

[pgbouncer]
listen_port = 6432
unix_socket_dir = 
pool_mode = transaction
`
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// pgvalet takes what is written for it as it is meant.
func TestPgvaletConfig(t *testing.T) {
	dir := t.TempDir()
	ca, err := backendtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.WriteFile(dir); err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("localhost")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cert.WriteFiles(dir, "server"); err != nil {
		t.Fatal(err)
	}
	for _, variant := range []string{plainVariant, tlsVariant} {
		path := filepath.Join(dir, variant+".toml")
		text := pgvaletConfig(append(poolerSettings(variant), setting{"event_loops", 4}), databaseSettings(5432, "X"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		if c.MaxClientConn != maxClientConn || c.EventLoops != 4 || c.DefaultPoolSize != poolSize {
			t.Errorf("%+v", c)
		}
	}
}
