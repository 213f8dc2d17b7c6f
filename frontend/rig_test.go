package frontend

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// rig is all of pgvalet but the console and the signals: an Acceptor on
// loopback, sessions, pools and event loops. Its database is "app", its user
// "postgres".
type rig struct {
	t        testing.TB
	addr     string
	pools    *pool.Pools
	sessions *Sessions
	acceptor *Acceptor
	loops    []*evloop.Loop
	logs     *observer.ObservedLogs
	config   atomic.Pointer[config.Config]
	userlist atomic.Pointer[auth.Userlist]
	hba      atomic.Pointer[auth.HBA]
}

// rigSettings are in force unless a test says otherwise.
var rigSettings = map[string]string{
	"auth_type":          `"trust"`,
	"auth_file":          `"userlist.txt"`,
	"unix_socket_dir":    `"/tmp"`,
	"server_tls_sslmode": `"disable"`,
	"default_pool_size":  `1`,
	"event_loops":        `1`,
	"verbose":            `1`,
}

// rigConfig is the configuration with a server at addr, the given lines for
// section [pgvalet], and whatever follows a line "[" for others.
func rigConfig(t testing.TB, addr, lines string) *config.Config {
	t.Helper()
	settings, others, _ := strings.Cut(lines, "\n[")
	var b strings.Builder
	b.WriteString("[pgvalet]\n" + settings + "\n")
	for key, value := range rigSettings {
		if !slices.ContainsFunc(strings.Split(settings, "\n"), func(l string) bool {
			return strings.HasPrefix(strings.TrimSpace(l), key+" ")
		}) {
			fmt.Fprintf(&b, "%s = %s\n", key, value)
		}
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "[databases.app]\nhost = %q\nport = %s\ndbname = \"postgres\"\nuser = \"postgres\"\n", host, port)
	if others != "" {
		b.WriteString("[" + others)
	}
	cfg, err := config.Parse("/rig.toml", []byte(b.String()))
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	return cfg
}

// newRig starts a rig in front of the shared PostgreSQL.
func newRig(t testing.TB, lines string) *rig {
	t.Helper()
	return startRig(t, shared.Postgres(t).Addr(), lines)
}

// startRig starts a rig in front of a server at addr. It is stopped when the
// test ends, and must then have lost nothing.
func startRig(t testing.TB, addr, lines string) *rig {
	t.Helper()
	r := &rig{t: t}
	cfg := rigConfig(t, addr, lines)
	r.config.Store(cfg)
	r.userlist.Store(parseUsers(t, `"postgres" ""`))
	var err error
	core, logs := observer.New(zapcore.DebugLevel)
	log := zap.New(core)
	r.logs = logs

	var running sync.WaitGroup
	sweeps, bind := NewSweeps(cfg.EventLoops)
	for i := range cfg.EventLoops {
		l, err := evloop.New(i, sweeps[i])
		if err != nil {
			t.Fatal(err)
		}
		r.loops = append(r.loops, l)
		running.Go(func() {
			if err := l.Run(); err != nil {
				t.Error(err)
			}
		})
	}
	tokens := auth.NewTokenSource(auth.TokenSourceConfig{Log: log})
	r.pools = pool.New(pool.Options{Settings: r.poolSettings(cfg), Tokens: tokens, Loops: r.loops, Log: log})
	r.sessions = NewSessions(SessionsOptions{Config: r.config.Load, Pools: r.pools, Loops: r.loops, Log: log})
	bind(r.sessions)

	var clientTLS *tls.Config
	if cfg.ClientTLSSSLMode != config.SSLDisable {
		if clientTLS, err = NewClientTLS(&cfg.Settings); err != nil {
			t.Fatal(err)
		}
	}
	scram := auth.NewScramServer(4096)
	acceptor := NewAcceptor(AcceptorOptions{
		Config:       r.config.Load,
		Userlist:     r.userlist.Load,
		HBA:          r.hba.Load,
		Pools:        r.pools,
		LDAP:         func() *auth.LDAP { return nil },
		TLS:          func() *tls.Config { return clientTLS },
		Scram:        func() *auth.ScramServer { return scram },
		Cancel:       r.sessions.Cancel,
		Admit:        r.sessions.Admit,
		PassThrough:  r.sessions.PassThrough,
		ShuttingDown: func() bool { return false },
		NextID:       r.pools.NextID,
		Log:          log,
		Slots:        2,
	})
	r.acceptor = acceptor
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	running.Go(func() {
		if err := acceptor.Serve(ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		acceptor.Close()
		r.sessions.Close()
		r.pools.Close()
		tokens.Close()
		for _, l := range r.loops {
			l.Stop()
		}
		running.Wait()
		if n := acceptor.Clients(); n != 0 {
			t.Errorf("%d places of max_client_conn were not given back", n)
		}
		if n := r.sessions.Count(); n != 0 {
			t.Errorf("%d sessions are left", n)
		}
		for _, i := range r.pools.Snapshot() {
			if i.Clients != 0 || i.Waiting != 0 || i.Servers() != 0 {
				t.Errorf("after the end: %+v", i)
			}
		}
		if n := r.pools.Statements().Len(); n != 0 {
			t.Errorf("%d prepared statements are still referred to", n)
		}
		if t.Failed() {
			for _, e := range r.logs.All() {
				t.Log(e.Level, e.LoggerName, e.Message, e.ContextMap())
			}
		}
	})
	return r
}

func (r *rig) poolSettings(cfg *config.Config) pool.Settings {
	serverTLS, err := backend.NewServerTLS(&cfg.Settings)
	if err != nil {
		r.t.Fatal(err)
	}
	return pool.Settings{Config: cfg, Userlist: r.userlist.Load(), ServerTLS: serverTLS}
}

// setUsers replaces auth_file.
func (r *rig) setUsers(lines string) {
	r.t.Helper()
	r.userlist.Store(parseUsers(r.t, lines))
	r.pools.Reload(r.poolSettings(r.config.Load()))
}

func parseUsers(t testing.TB, lines string) *auth.Userlist {
	t.Helper()
	u, err := auth.ParseUserlist(strings.NewReader(lines), "userlist.txt")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// reload puts another configuration into force.
func (r *rig) reload(lines string) {
	r.t.Helper()
	db := r.config.Load().Databases["app"]
	cfg := rigConfig(r.t, net.JoinHostPort(db.Host, strconv.Itoa(db.Port)), lines)
	r.config.Store(cfg)
	r.pools.Reload(r.poolSettings(cfg))
	r.sessions.KillGone()
}

// pgx connects with pgx.
func (r *rig) pgx(mode pgx.QueryExecMode, params ...string) *pgx.Conn {
	r.t.Helper()
	cfg, err := pgx.ParseConfig("postgres://postgres@" + r.addr + "/app?sslmode=disable")
	if err != nil {
		r.t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = mode
	for i := 0; i < len(params); i += 2 {
		cfg.RuntimeParams[params[i]] = params[i+1]
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn.Close(ctx)
	})
	return conn
}

// info is the state of the only pool.
func (r *rig) info() pool.Info {
	r.t.Helper()
	list := r.pools.Snapshot()
	if len(list) != 1 {
		r.t.Fatalf("%d pools", len(list))
	}
	return list[0]
}

// await waits until cond holds.
func (r *rig) await(what string, cond func() bool) {
	r.t.Helper()
	if !eventually(cond) {
		r.t.Fatalf("still not true: %s; %+v", what, r.pools.Snapshot())
	}
}

func eventually(cond func() bool) bool {
	deadline := time.NewTimer(testTimeout)
	defer deadline.Stop()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	for !cond() {
		select {
		case <-look.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}

// awaitRest waits until every server of the pool is idle and nobody waits, and
// returns how many servers there are.
func (r *rig) awaitRest() int {
	r.t.Helper()
	r.await("all servers at rest", func() bool {
		i := r.info()
		return i.Active+i.Tested+i.BeingCanceled+i.Waiting+i.Login == 0
	})
	return r.info().Idle
}

// awaitWaiting waits until n clients wait for a server.
func (r *rig) awaitWaiting(n int) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d clients wait", n), func() bool { return r.info().Waiting == n })
}

// admin runs SQL on the PostgreSQL behind the rig, past the pooler.
func admin(t testing.TB, sql ...string) {
	t.Helper()
	if err := shared.Postgres(t).Exec(context.Background(), sql...); err != nil {
		t.Fatal(err)
	}
}

// table makes an empty table with a name of the test's own.
func table(t testing.TB, columns string) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "_", "-", "_", " ", "_").Replace(t.Name()))
	admin(t, "DROP TABLE IF EXISTS "+name, "CREATE TABLE "+name+" ("+columns+")")
	t.Cleanup(func() { admin(t, "DROP TABLE "+name) })
	return name
}

// servers is how many connections the pool has open.
func (r *rig) servers() int {
	i := r.info()
	return i.Servers()
}
