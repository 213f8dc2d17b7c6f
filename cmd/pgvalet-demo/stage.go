package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// Names in the demo.
const (
	rdsHost    = "demo.c0abcdefghij.us-east-1.rds.amazonaws.com"
	database   = "app"
	console    = "pgbouncer"
	clientUser = "demo"     // logs in to pgvalet, and is an admin there
	serverUser = "app_user" // pgvalet logs in to PostgreSQL as
)

// stage is what pgvalet stands between: PostgreSQL with the stand-in for RDS on
// one side, what clients have to know on the other.
type stage struct {
	dir      string // for everything that has a file
	pg       *backendtest.Postgres
	rds      *backendtest.RDS
	key      backendtest.AccessKey // the only one that the stand-in takes
	endpoint endpoint              // for clients
}

// setStage starts PostgreSQL and the stand-in and writes pgvalet's files into
// dir. The caller closes the stage.
func setStage(ctx context.Context, binDir, dir string, out io.Writer) (_ *stage, err error) {
	s := &stage{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.pg, err = backendtest.StartPostgres(ctx, backendtest.PostgresOptions{BinDir: binDir}); err != nil {
		return nil, err
	}
	step(out, "PostgreSQL", "%s from %s, as user %s", s.pg.Version, binDir, owner(s.pg.DataDir))
	if err := s.pg.Exec(ctx,
		"CREATE ROLE rds_iam",
		"CREATE ROLE "+serverUser+" LOGIN IN ROLE rds_iam",
		"CREATE DATABASE "+database+" OWNER "+serverUser,
	); err != nil {
		return nil, err
	}
	s.key = backendtest.AccessKey{
		ID:           "ASIA" + rand.Text()[:16],
		Secret:       rand.Text() + rand.Text(),
		SessionToken: rand.Text() + rand.Text(),
		Users:        []string{serverUser},
	}
	s.rds, err = backendtest.StartRDS(backendtest.RDSOptions{
		Network: "unix", Address: s.pg.SocketPath(),
		Hosts:    []string{rdsHost},
		IAMUsers: []string{serverUser},
		Keys:     []backendtest.AccessKey{s.key},
	})
	if err != nil {
		return nil, err
	}
	step(out, "RDS stand-in", "%s (on 127.0.0.1), takes IAM tokens only", s.rds.Endpoint())
	return s, s.writeFiles()
}

func (s *stage) close() error {
	var errs [2]error
	if s.rds != nil {
		errs[0] = s.rds.Close()
	}
	if s.pg != nil {
		errs[1] = s.pg.Stop()
	}
	return errors.Join(errs[:]...)
}

// owner returns the name of the user who owns path; for a data directory that
// is who runs PostgreSQL.
func owner(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "unknown"
	}
	uid := strconv.FormatUint(uint64(info.Sys().(*syscall.Stat_t).Uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// writeFiles writes what pgvalet and its clients read, and chooses the port.
func (s *stage) writeFiles() error {
	ca, err := backendtest.NewCA()
	if err != nil {
		return err
	}
	caFile, err := ca.WriteFile(s.dir)
	if err != nil {
		return err
	}
	cert, err := ca.Issue("localhost", "127.0.0.1")
	if err != nil {
		return err
	}
	if _, _, err := cert.WriteFiles(s.dir, "server"); err != nil {
		return err
	}
	if err := s.write("rds-ca.pem", string(s.rds.CA().PEM())); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	s.endpoint = endpoint{port: port, user: clientUser, password: rand.Text(), caFile: caFile}
	if err := s.write("userlist.txt", fmt.Sprintf("%q %q\n", clientUser, s.endpoint.password)); err != nil {
		return err
	}
	toml, err := s.toml()
	if err != nil {
		return err
	}
	return s.write("pgvalet.toml", toml)
}

// configFile is the path of pgvalet's configuration.
func (s *stage) configFile() string { return filepath.Join(s.dir, "pgvalet.toml") }

// freePort returns a TCP port of 127.0.0.1 that was free a moment ago.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return ln.Addr().(*net.TCPAddr).Port, ln.Close()
}

// write puts a file into the stage's directory, for its user only.
func (s *stage) write(name, content string) error {
	return os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600)
}
