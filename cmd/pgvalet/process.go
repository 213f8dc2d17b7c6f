package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/frontend"
	"github.com/pgvalet/pgvalet/pool"
)

// process is pgvalet at work.
type process struct {
	// Static after start.
	path      string
	log       *zap.Logger
	logFile   logFile
	level     zap.AtomicLevel
	verbose   int // what the command line asks for at least
	tokens    *auth.TokenSource
	loops     []*evloop.Loop
	pools     *pool.Pools
	sessions  *frontend.Sessions
	acceptor  *frontend.Acceptor
	console   *frontend.Console
	listeners *listeners
	stop      chan frontend.ShutdownMode // what the console asks for
	ctx       context.Context            // ends with close
	cancel    context.CancelFunc

	generation   atomic.Pointer[generation]
	shuttingDown atomic.Bool
	reloading    sync.Mutex     // held by a reload
	running      sync.WaitGroup // loops, listeners, and what goes on in the background
}

func (p *process) config() *config.Config { return p.generation.Load().config }

// serve runs pgvalet until it is told to stop.
func serve(path string, verbose int, quiet bool, stderr io.Writer) error {
	g, err := load(path)
	if err != nil {
		return err
	}
	p := &process{path: path, verbose: verbose, stop: make(chan frontend.ShutdownMode, 1)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	defer p.cancel()
	p.level = zap.NewAtomicLevelAt(logLevel(max(verbose, g.config.Verbose)))
	p.generation.Store(g)
	if err := p.logFile.open(g.config.LogFile); err != nil {
		return err
	}
	defer p.logFile.Close()
	p.log = newLog(g.config, &p.logFile, p.level, quiet, stderr)

	removePidFile, err := writePidFile(g.config.PidFile)
	if err != nil {
		return err
	}
	defer removePidFile()
	signals := catchSignals() // before anybody can know that we run
	defer signals.release()
	if p.listeners, err = listen(g.config, p.log); err != nil {
		return err
	}
	defer p.listeners.closeAll()
	p.tellDescriptors(g.config)
	if err := p.start(g); err != nil {
		return err
	}
	p.log.Info(fmt.Sprintf("process up: pgvalet %s (%s), %d event loops, configuration %s", version, runtime.Version(), len(p.loops), g.config.Path))
	p.supervise(signals)
	p.close()
	p.log.Info("process down")
	return nil
}

// tellDescriptors compares the system's limit on open files with what the
// configuration may need: a client and a server take one each.
func (p *process) tellDescriptors(c *config.Config) {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	msg := fmt.Sprintf("file descriptor limit: %d; max_client_conn: %d", limit.Cur, c.MaxClientConn)
	if uint64(limit.Cur) <= uint64(c.MaxClientConn) { //nolint:unconvert // signed on FreeBSD
		p.log.Warn(msg + ": clients beyond the limit cannot connect, raise it (ulimit -n, LimitNOFILE)")
	} else {
		p.log.Info(msg)
	}
}

// start makes the parts and sets them to work, from the servers outwards.
func (p *process) start(g *generation) error {
	p.tokens = auth.NewTokenSource(auth.TokenSourceConfig{Log: p.log})
	n := g.config.EventLoops
	if n == 0 {
		n = max(1, runtime.GOMAXPROCS(0)/2)
	}
	sweeps, bind := frontend.NewSweeps(n)
	for i := range n {
		l, err := evloop.New(i, sweeps[i])
		if err != nil {
			return err
		}
		p.loops = append(p.loops, l)
		p.running.Go(func() {
			if err := l.Run(); err != nil {
				p.log.Fatal(err.Error()) // its clients would hang for ever
			}
		})
	}
	p.pools = pool.New(pool.Options{Settings: g.poolSettings(), Tokens: p.tokens, Loops: p.loops, Log: p.log})
	p.sessions = frontend.NewSessions(frontend.SessionsOptions{Config: p.config, Pools: p.pools, Loops: p.loops, Log: p.log})
	bind(p.sessions)
	p.acceptor = frontend.NewAcceptor(frontend.AcceptorOptions{
		Config:       p.config,
		Userlist:     func() *auth.Userlist { return p.generation.Load().userlist },
		TLS:          func() *tls.Config { return p.generation.Load().clientTLS },
		Scram:        func() *auth.ScramServer { return p.generation.Load().scram },
		Cancel:       p.sessions.Cancel,
		Admit:        p.admit,
		ShuttingDown: p.shuttingDown.Load,
		Log:          p.log,
		Slots:        max(1, runtime.GOMAXPROCS(0)/2),
	})
	p.console = frontend.NewConsole(frontend.ConsoleOptions{
		Config:   p.config,
		Pools:    p.pools,
		Sessions: p.sessions,
		Reload:   p.reload,
		Shutdown: func(m frontend.ShutdownMode) {
			select {
			case p.stop <- m:
			default: // one is under way
			}
		},
		Version: version,
		Logins:  p.acceptor.Logins,
		Log:     p.log,
	})
	p.precompute(g)
	p.running.Go(func() { giveBackMemory(p.ctx) })
	for _, ln := range p.listeners.all() {
		p.running.Go(func() {
			if err := p.acceptor.Serve(ln); err != nil {
				p.log.Error(err.Error())
			}
		})
	}
	return nil
}

func (p *process) admit(ctx context.Context, l *frontend.Login) error {
	if l.Console {
		return p.console.Admit(ctx, l)
	}
	return p.sessions.Admit(ctx, l)
}

// precompute derives SCRAM keys before they are needed, so that the first login
// of a user takes no longer than that of somebody who does not exist.
func (p *process) precompute(g *generation) {
	if g.config.AuthType != config.AuthScram {
		return
	}
	p.running.Go(func() {
		g.scram.Precompute(p.ctx, g.userlist)
		p.log.Debug("scram keys are computed")
	})
}

// close takes everything down, from the clients inwards.
func (p *process) close() {
	p.cancel()
	p.listeners.closeAll()
	p.console.Close()
	p.acceptor.Close()
	p.sessions.Close()
	p.pools.Close()
	p.tokens.Close()
	for _, l := range p.loops {
		l.Stop()
	}
	p.running.Wait()
}

// reload reads the configuration and everything that it names again, and puts
// it into force, whole or not at all.
func (p *process) reload() error {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	g, err := load(p.path)
	file := p.config().LogFile // which logrotate may have renamed, whatever the configuration is like
	if err == nil {
		file = g.config.LogFile
	}
	if err := errors.Join(err, p.logFile.open(file)); err != nil {
		p.log.Error("reload: the configuration stays as it is: " + strings.ReplaceAll(err.Error(), "\n", "; "))
		return err
	}
	old := p.generation.Load()
	for _, c := range g.config.Diff(old.config) {
		if !c.Changeable {
			p.log.Warn("reload: " + c.Key + " takes effect at the next start")
		}
	}
	g.config.KeepFixed(old.config)
	if g.config.ScramIterations == old.config.ScramIterations {
		g.scram = old.scram // with the keys that it has derived
	}
	p.generation.Store(g)
	p.precompute(g)
	p.level.SetLevel(logLevel(max(p.verbose, g.config.Verbose)))
	p.pools.Reload(g.poolSettings())
	p.sessions.KillGone()
	p.log.Info("reload: configuration " + g.config.Path + " is in force")
	return nil
}

// writePidFile refuses to start beside a process that lives.
func writePidFile(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if b, err := os.ReadFile(path); err == nil {
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err == nil && pid > 0 && pid != os.Getpid() && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return nil, fmt.Errorf("pidfile '%s' exists, another instance running?", path)
		}
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("pidfile: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil // it may be gone already
}

// emptyCheck is how often a shutdown that waits for clients looks whether any
// are left.
const emptyCheck = 50 * time.Millisecond
