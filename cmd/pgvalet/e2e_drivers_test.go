package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// drivers are other people's ways to ask for one value. Each gets PG* variables,
// PGHOSTADDR among them, and URL.
var drivers = map[string]struct {
	probe   []string // succeeds where the driver is installed
	command []string
}{
	"psql": {[]string{"psql", "--version"}, []string{"psql", "-XAtc", "SELECT current_user"}},
	"psycopg": {
		[]string{"/usr/bin/python3", "-c", "import psycopg"},
		[]string{"/usr/bin/python3", "-c", "import psycopg; print(psycopg.connect().execute('SELECT current_user').fetchone()[0])"},
	},
	"node-postgres": {[]string{"node", "-e", "require('pg')"}, []string{"node", "-e", `
const {Client} = require('pg'), fs = require('fs'), e = process.env
const c = new Client({host: e.PGHOSTADDR, port: e.PGPORT, user: e.PGUSER, password: e.PGPASSWORD, database: e.PGDATABASE,
  ssl: {ca: fs.readFileSync(e.PGSSLROOTCERT), servername: e.PGHOST}})
c.connect().then(() => c.query('SELECT current_user AS u')).then(r => { console.log(r.rows[0].u); return c.end() })
  .catch(err => { console.error(err.message); process.exit(1) })`}},
}

// asEachDriver asks for the current user with every driver that is here.
func asEachDriver(t *testing.T, want string, env ...string) {
	for name, d := range drivers {
		t.Run(name, func(t *testing.T) {
			base := append([]string{"PATH=" + os.Getenv("PATH"), "NODE_PATH=" + os.Getenv("NODE_PATH")}, env...)
			probe := exec.CommandContext(testContext(t), d.probe[0], d.probe[1:]...)
			probe.Env = base
			if err := probe.Run(); err != nil {
				t.Skipf("%s is not installed: %v", name, err)
			}
			cmd := exec.CommandContext(testContext(t), d.command[0], d.command[1:]...)
			cmd.Env = base
			out, err := cmd.CombinedOutput()
			if got := strings.TrimSpace(string(out)); err != nil || got != want {
				t.Errorf("got %q, %v; want %q", got, err, want)
			}
		})
	}
}

// TestDriversWithTokens: the drivers that people use log in with their own
// token, to pgvalet and through it.
func TestDriversWithTokens(t *testing.T) {
	p, d, rds := withClientTokens(t)
	p.conf.databases["through"] = section{
		"host": "127.0.0.1", "port": must(strconv.Atoi(portOf(t, rds.Addr())))(t),
		"pool_mode": "passthrough", "passthrough_names": backendtest.DefaultRDSHost,
	}
	p.start()
	p.write("rds-ca.crt", string(rds.CA().PEM()))
	token := clientToken(t, rds.Endpoint(), d.name, accessKey)
	env := []string{
		"PGHOSTADDR=127.0.0.1", "PGPORT=" + strconv.Itoa(p.port), "PGUSER=" + d.name, "PGPASSWORD=" + token, "PGSSLMODE=verify-full",
	}
	t.Run("to pgvalet", func(t *testing.T) {
		asEachDriver(t, d.name, append(env, "PGHOST=localhost", "PGDATABASE=shop", "PGSSLROOTCERT="+p.path("ca.crt"))...)
	})
	t.Run("through pgvalet", func(t *testing.T) {
		asEachDriver(t, d.name, append(env, "PGHOST="+backendtest.DefaultRDSHost, "PGDATABASE="+d.name, "PGSSLROOTCERT="+p.path("rds-ca.crt"))...)
	})
}
