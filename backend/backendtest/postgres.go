package backendtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// startPatience bounds one start of PostgreSQL, stopPatience each step of
	// its shutdown: fast, immediate, killed.
	startPatience = time.Minute
	stopPatience  = 15 * time.Second
	// portAttempts is how often a start is repeated because somebody else
	// took the free port between our look and PostgreSQL's.
	portAttempts = 5
)

// PostgresOptions says how to run PostgreSQL. The zero value is good for tests.
type PostgresOptions struct {
	BinDir   string            // has initdb and postgres; default: FindPostgres
	Dir      string            // data directory, kept by Stop, initialised if it is empty; default: a temporary one
	Settings map[string]string // postgresql.conf settings, over those that make tests fast
	HBA      []string          // lines of pg_hba.conf; default: DefaultHBA
	TLS      *Certificate      // if set, ssl=on with this certificate
	ClientCA *CA               // if set, client certificates are checked against it (ssl_ca_file)
	Log      io.Writer         // PostgreSQL's log and initdb's output; default: discarded
}

// Postgres is a running PostgreSQL server, on 127.0.0.1 and a unix socket.
// It does not outlive its Stop, nor, on Linux, the process that started it.
// Its methods may be called concurrently.
type Postgres struct {
	BinDir    string
	DataDir   string
	SocketDir string // of the unix socket; short enough for the limit of 107 bytes
	Host      string // "127.0.0.1"
	Port      int    // of TCP, and part of the unix socket's name
	Superuser string // trusted on the unix socket
	Version   string // such as "15.18"

	options    PostgresOptions
	credential *syscall.Credential
	tempDir    string
	log        *logTail

	mu   sync.Mutex // guards proc, and serialises Restart and Stop
	proc *Process   // nil when stopped
}

// StartPostgres initialises and starts a PostgreSQL server and returns when it
// takes connections. Durability is off, so that it is fast. As PostgreSQL
// refuses to run as root, root runs it as the user postgres, or else nobody; a
// Dir of root's own must then lie in directories that user may enter. An
// error carries the end of the server's log.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	if o.BinDir == "" {
		dir, err := FindPostgres()
		if err != nil {
			return nil, err
		}
		o.BinDir = dir
	}
	credential, err := Unprivileged()
	if err != nil {
		return nil, err
	}
	p := &Postgres{
		BinDir:     o.BinDir,
		Host:       "127.0.0.1",
		Superuser:  "postgres",
		options:    o,
		credential: credential,
		log:        new(logTail),
	}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

func (p *Postgres) start(ctx context.Context) error {
	if err := p.makeDirs(); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(p.DataDir, "PG_VERSION"))
	fresh := errors.Is(err, os.ErrNotExist)
	if fresh {
		if err := p.initdb(ctx); err != nil {
			return err
		}
	}
	for attempt := 1; ; attempt++ {
		p.Port, err = FreePort()
		if err != nil {
			return err
		}
		err = p.run(ctx)
		if err == nil {
			break
		}
		if attempt == portAttempts || !strings.Contains(p.log.String(), "Address already in use") {
			return err
		}
	}
	if !fresh {
		return nil
	}
	return p.Exec(ctx, "CREATE ROLE auth_password", "CREATE ROLE auth_md5", "CREATE ROLE auth_scram")
}

// makeDirs makes a short directory for the socket, the HBA and TLS files and,
// if the caller names no other, the data.
func (p *Postgres) makeDirs() error {
	// Not os.TempDir: its name is too long for a socket on macOS, and may be
	// closed to the user that root runs PostgreSQL as.
	dir, err := os.MkdirTemp("/tmp", "pgvalet-")
	if err != nil {
		return err
	}
	p.tempDir, p.SocketDir = dir, dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := p.give(dir); err != nil {
		return err
	}
	p.DataDir = p.options.Dir
	if p.DataDir == "" {
		p.DataDir = filepath.Join(dir, "data")
	}
	if _, err := os.Stat(p.DataDir); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(p.DataDir, 0o700); err != nil {
			return err
		}
		if err := p.give(p.DataDir); err != nil {
			return err
		}
	}
	hba := p.options.HBA
	if hba == nil {
		hba = DefaultHBA
	}
	if err := p.writeFile("pg_hba.conf", []byte(strings.Join(hba, "\n")+"\n")); err != nil {
		return err
	}
	if c := p.options.TLS; c != nil {
		if err := p.writeFile("server.crt", c.CertPEM); err != nil {
			return err
		}
		if err := p.writeFile("server.key", c.KeyPEM); err != nil {
			return err
		}
	}
	if ca := p.options.ClientCA; ca != nil {
		return p.writeFile("client-ca.crt", ca.PEM())
	}
	return nil
}

func (p *Postgres) writeFile(name string, content []byte) error {
	path := filepath.Join(p.tempDir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return p.give(path)
}

// give hands path to the user that PostgreSQL runs as.
func (p *Postgres) give(path string) error {
	if p.credential == nil {
		return nil
	}
	return os.Chown(path, int(p.credential.Uid), int(p.credential.Gid))
}

func (p *Postgres) initdb(ctx context.Context) error {
	cmd := p.command("initdb", "--pgdata", p.DataDir, "--username", p.Superuser,
		"--auth", "trust", "--no-sync", "--locale", "C", "--encoding", "UTF8")
	proc, err := StartProcess(cmd)
	if err != nil {
		return err
	}
	select {
	case <-proc.done:
	case <-ctx.Done():
		return errors.Join(ctx.Err(), proc.Stop(stopPatience, syscall.SIGTERM))
	}
	if proc.err != nil {
		return fmt.Errorf("initdb: %w: %s", proc.err, p.log)
	}
	return nil
}

func (p *Postgres) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.BinDir, name), args...)
	cmd.Dir = p.tempDir
	// Fixed, so that messages are English and initdb need not search for the
	// machine's time zone.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.tempDir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = ChildAttr(p.credential, syscall.SIGQUIT)
	// A server process that outlives the postmaster for a moment keeps the
	// pipe open.
	cmd.WaitDelay = stopPatience
	var out io.Writer = p.log
	if p.options.Log != nil {
		out = io.MultiWriter(p.log, p.options.Log)
	}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd
}

func (p *Postgres) settings() map[string]string {
	s := map[string]string{
		"fsync":              "off",
		"synchronous_commit": "off",
		"full_page_writes":   "off",
		"max_connections":    "200",
	}
	maps.Copy(s, p.options.Settings)
	s["listen_addresses"] = p.Host
	s["port"] = strconv.Itoa(p.Port)
	s["unix_socket_directories"] = p.SocketDir
	s["hba_file"] = filepath.Join(p.tempDir, "pg_hba.conf")
	if p.options.TLS != nil {
		s["ssl"] = "on"
		s["ssl_cert_file"] = filepath.Join(p.tempDir, "server.crt")
		s["ssl_key_file"] = filepath.Join(p.tempDir, "server.key")
	}
	if p.options.ClientCA != nil {
		s["ssl_ca_file"] = filepath.Join(p.tempDir, "client-ca.crt")
	}
	return s
}

// run starts the postmaster on p.Port and waits until it takes connections.
// On an error nothing runs any more.
func (p *Postgres) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	args := []string{"-D", p.DataDir}
	settings := p.settings()
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	proc, err := StartProcess(p.command("postgres", args...))
	if err != nil {
		return err
	}
	for backoff := 5 * time.Millisecond; ; backoff = min(2*backoff, 100*time.Millisecond) {
		conn, err := p.Connect(ctx, "postgres", p.Superuser)
		if err == nil {
			p.proc = proc
			if p.Version == "" { // not again after a restart: others may be reading it
				p.Version, _, _ = strings.Cut(conn.PgConn().ParameterStatus("server_version"), " ")
			}
			return conn.Close(ctx)
		}
		timer := time.NewTimer(backoff)
		select {
		case <-timer.C:
		case <-proc.done:
			timer.Stop()
			return fmt.Errorf("postgres ended (%v) before it took connections: %s", proc.err, p.log)
		case <-ctx.Done():
			timer.Stop()
			stopErr := proc.Stop(stopPatience, syscall.SIGINT, syscall.SIGQUIT)
			return errors.Join(fmt.Errorf("postgres takes no connections: %w: %s", err, p.log), ctx.Err(), stopErr)
		}
	}
}

// FreePort returns a TCP port of 127.0.0.1 that was free a moment ago.
func FreePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return ln.Addr().(*net.TCPAddr).Port, ln.Close()
}

// Stop shuts the server down (fast mode: sessions are ended), waits for its
// end, and removes the directories that StartPostgres made. A second Stop does
// nothing.
func (p *Postgres) Stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	if p.proc != nil {
		err = p.proc.Stop(stopPatience, syscall.SIGINT, syscall.SIGQUIT)
		p.proc = nil
	}
	if p.tempDir == "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(p.tempDir))
}

// Restart shuts the server down as Stop does and starts it again on the same
// data, port and socket, and returns when it takes connections.
func (p *Postgres) Restart(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proc == nil {
		return errors.New("postgres is stopped")
	}
	err := p.proc.Stop(stopPatience, syscall.SIGINT, syscall.SIGQUIT)
	p.proc = nil
	if err != nil {
		return err
	}
	return p.run(ctx)
}
