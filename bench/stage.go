package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// stage is what all suites share: PostgreSQL with its tables, and the files
// that poolers read.
type stage struct {
	dir         string // for everything that has a file; readable by the poolers
	credential  *syscall.Credential
	pg          *backendtest.Postgres
	pgbench     string
	credentials *credentials
	programs    map[string]string // copies of the poolers' binaries, by kind
	started     int               // poolers so far, to name their directories
}

// postgresSettings are what PostgreSQL runs with, beside backendtest's, which
// make it fast and not durable. Background work would hit one round and not
// another.
func postgresSettings(o *options) map[string]string {
	return map[string]string{
		"max_connections": strconv.Itoa(max(200, o.mostDirect()+100)),
		"shared_buffers":  "256MB",
		"max_wal_size":    "4GB",
		"autovacuum":      "off",
		"jit":             "off",
	}
}

// setStage starts PostgreSQL and fills it. The caller closes the stage.
func setStage(ctx context.Context, o *options) (_ *stage, err error) {
	s := &stage{programs: make(map[string]string)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.credential, err = backendtest.Unprivileged(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("/tmp", "pgvalet-bench-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return nil, err
	}
	ca, err := backendtest.NewCA()
	if err != nil {
		return nil, err
	}
	cert, err := ca.Issue("localhost", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	s.pg, err = backendtest.StartPostgres(ctx, backendtest.PostgresOptions{TLS: cert, Settings: postgresSettings(o)})
	if err != nil {
		return nil, err
	}
	if s.pgbench = backendtest.FindPgbench(s.pg.BinDir); s.pgbench == "" {
		return nil, errors.New("pgbench is not there; it comes with PostgreSQL's server programs")
	}
	s.credentials = &credentials{user: userName, password: rand.Text()}
	if err := s.pg.CreateLogin(ctx, userName, backendtest.SCRAM, s.credentials.password); err != nil {
		return nil, err
	}
	if err := s.pg.Exec(ctx, "CREATE DATABASE "+databaseName+" OWNER "+userName); err != nil {
		return nil, err
	}
	if err := s.writeFiles(ctx, ca, cert); err != nil {
		return nil, err
	}
	return s, s.load(ctx, o.scale())
}

// The certificate that everything with TLS has.
const (
	certFile = "server.crt"
	keyFile  = "server.key"
)

// writeFiles writes what every pooler reads. The clients' secret is the one
// that PostgreSQL has stored.
func (s *stage) writeFiles(ctx context.Context, ca *backendtest.CA, cert *backendtest.Certificate) error {
	conn, err := s.pg.Connect(ctx, "postgres", s.pg.Superuser)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var secret string
	if err := conn.QueryRow(ctx, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", userName).Scan(&secret); err != nil {
		return fmt.Errorf("stored secret: %w", err)
	}
	return errors.Join(
		s.write("ca.crt", string(ca.PEM())),
		s.write(certFile, string(cert.CertPEM)),
		s.write(keyFile, string(cert.KeyPEM)),
		s.write("userlist.txt", fmt.Sprintf("%q %q\n", userName, secret)))
}

// write puts a file into the stage's directory, for the poolers' user only.
func (s *stage) write(name, content string) error {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return err
	}
	return s.give(path)
}

// give hands path to the user that the poolers run as.
func (s *stage) give(path string) error {
	if s.credential == nil {
		return nil
	}
	return os.Chown(path, int(s.credential.Uid), int(s.credential.Gid))
}

// install copies a program into the stage, where the poolers' user may run it.
func (s *stage) install(kind, program string) error {
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, kind)
	s.programs[kind] = path
	return os.WriteFile(path, content, 0o755)
}

// load makes pgbench's tables.
func (s *stage) load(ctx context.Context, scale int) error {
	cmd := s.libpq(ctx, s.pgbench, s.pg.Port, plainVariant, "-i", "-q", "-s", strconv.Itoa(scale))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pgbench -i: %w: %s", err, lastLine(string(out)))
	}
	return s.execIn(ctx, "CHECKPOINT")
}

// libpq is a command that reads libpq's environment, told to connect to port.
func (s *stage) libpq(ctx context.Context, program string, port int, variant string, args ...string) *exec.Cmd {
	sslmode := "disable"
	if variant == tlsVariant {
		sslmode = "require"
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "LC_ALL=C", "TZ=UTC",
		"PGHOST=127.0.0.1", "PGPORT=" + strconv.Itoa(port), "PGDATABASE=" + databaseName,
		"PGUSER=" + userName, "PGPASSWORD=" + s.credentials.password,
		"PGSSLMODE=" + sslmode, "PGGSSENCMODE=disable",
	}
	return cmd
}

// execIn runs statements as the superuser in the benchmark's database.
func (s *stage) execIn(ctx context.Context, statements ...string) error {
	return s.pg.ExecIn(ctx, databaseName, statements...)
}

func (s *stage) close() error {
	var errs [2]error
	if s.pg != nil {
		errs[0] = s.pg.Stop()
	}
	if s.dir != "" {
		errs[1] = os.RemoveAll(s.dir)
	}
	return errors.Join(errs[:]...)
}
