package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

func TestConfigurationIsWhatTheStageSays(t *testing.T) {
	rds, err := backendtest.StartRDS(backendtest.RDSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer rds.Close()
	s := &stage{dir: t.TempDir(), rds: rds}
	if err := s.writeFiles(); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(s.configFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{c.AuthFile, c.ClientTLSCertFile, c.ClientTLSKeyFile, c.ServerTLSCAFile, s.endpoint.caFile} {
		if filepath.Dir(path) != s.dir {
			t.Errorf("%s is not in the stage's directory", path)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	if c.ListenPort != s.endpoint.port || c.ClientTLSSSLMode != config.SSLRequire || c.ServerTLSSSLMode != config.SSLVerifyFull {
		t.Errorf("settings: port %d, TLS %v towards clients, %v towards servers", c.ListenPort, c.ClientTLSSSLMode, c.ServerTLSSSLMode)
	}
	d := c.Databases[database]
	if d == nil {
		t.Fatalf("no database %s", database)
	}
	if got := net.JoinHostPort(d.IAMHost, strconv.Itoa(d.IAMPort)); got != rds.Endpoint() {
		t.Errorf("tokens are signed for %s, the stand-in is %s", got, rds.Endpoint())
	}
	if d.IAMPort != d.Port || d.IAMRegion != rds.Region() || d.ServerTLSName != d.IAMHost || d.User != serverUser ||
		d.ServerAuth != config.ServerAuthIAM || c.PoolSizeFor(d, clientUser) != servers {
		t.Errorf("database: %+v", d)
	}
	users, err := auth.LoadUserlist(c.AuthFile)
	if err != nil {
		t.Fatal(err)
	}
	if secret, ok := users.Lookup(clientUser); !ok || !secret.VerifyPlain(clientUser, s.endpoint.password) {
		t.Error("the client's password is not in the userlist")
	}
}
