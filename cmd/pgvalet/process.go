package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/evloop"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/frontend"
	"github.com/pgvalet/pgvalet/pool"
)

// process is pgvalet at work.
type process struct {
	path string // of the configuration, as it was given

	// Static after start.
	log       *zap.Logger
	logFile   logFile
	syslog    syslogSink
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
	reloading    sync.Mutex          // held by a reload and by SET; guards path and unapplied
	unapplied    []config.Assignment // SETs of TLS settings that wait for others
	running      sync.WaitGroup      // loops, listeners, and what goes on in the background
}

func (p *process) config() *config.Config { return p.generation.Load().config }

// serve runs pgvalet until it is told to stop. parent is where a daemon tells
// that it is up.
func serve(o options, parent *os.File, stderr io.Writer) error {
	g, err := load(o.path)
	if err != nil {
		return err
	}
	name := cmp.Or(o.user, g.config.User)
	if name != "" {
		if err := changeUser(name); err != nil {
			return err
		}
	}
	switch {
	case parent == nil:
	case g.config.PidFile == "":
		return errors.New("daemon needs pidfile configured")
	case g.config.LogFile == "" && !g.config.Syslog:
		return errors.New("daemon needs logfile or syslog configured")
	}
	p := &process{path: o.path, verbose: o.verbose, stop: make(chan frontend.ShutdownMode, 1)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	defer p.cancel()
	p.level = zap.NewAtomicLevelAt(logLevel(max(o.verbose, g.config.Verbose)))
	p.generation.Store(g)
	if err := p.logFile.open(g.config.LogFile); err != nil {
		return err
	}
	defer p.logFile.Close()
	p.syslog.configure(&g.config.Settings)
	var filed *zap.Logger
	p.log, filed = newLog(g.config, &p.logFile, &p.syslog, p.level, o.quiet || parent != nil, stderr)
	if err := p.run(o, parent); err != nil {
		filed.DPanic(err.Error()) // FATAL; on the terminal, the caller says it
		return err
	}
	return nil
}

// run is serve once there is a log.
func (p *process) run(o options, parent *os.File) error {
	g := p.generation.Load()
	if os.Geteuid() == 0 {
		p.log.Warn("running as root: better start as another user, or name one in the setting user")
	}
	if o.reboot {
		// PgBouncer takes the clients of a running process over; without one it
		// starts as always. It has deprecated the former.
		p.log.Warn("online restart is not supported, use so_reuseport or start a process on another port")
	}
	removePidFile, err := writePidFile(g.config.PidFile, func() { p.log.Info("stale pidfile, removing") })
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
	notify(daemon.SdNotifyReady)
	if parent != nil {
		if err := becomeDaemon(parent); err != nil {
			p.log.Warn("daemon: " + err.Error())
		}
	}
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
		HBA:          func() *auth.HBA { return p.generation.Load().hba },
		LDAP:         func() *auth.LDAP { return p.generation.Load().ldap },
		Pools:        p.pools,
		TLS:          func() *tls.Config { return p.generation.Load().clientTLS },
		Scram:        func() *auth.ScramServer { return p.generation.Load().scram },
		Cancel:       p.sessions.Cancel,
		Admit:        p.admit,
		PassThrough:  p.sessions.PassThrough,
		ShuttingDown: p.shuttingDown.Load,
		NextID:       p.pools.NextID,
		Log:          p.log,
		Slots:        max(1, runtime.GOMAXPROCS(0)/2),
	})
	p.console = frontend.NewConsole(frontend.ConsoleOptions{
		Config:   p.config,
		Pools:    p.pools,
		Sessions: p.sessions,
		Reload:   p.reload,
		Set:      p.set,
		Status:   func(line string) { notify("STATUS=" + line) },
		Shutdown: func(m frontend.ShutdownMode) {
			select {
			case p.stop <- m:
			default: // one is under way
			}
		},
		ShuttingDown: p.shuttingDown.Load,
		Version:      version,
		LoggingIn:    p.acceptor.LoggingIn,
		Listeners:    p.acceptor.Listeners,
		Users:        func() []string { return p.generation.Load().userlist.Names() },
		Log:          p.log,
	})
	p.warn(g)
	p.precompute(g)
	p.running.Go(func() { tendMemory(p.ctx) })
	for _, ln := range p.listeners.all() {
		p.running.Go(func() {
			serve := p.acceptor.Serve
			if name, ok := p.listeners.passages[ln]; ok {
				serve = func(ln net.Listener) error { return p.acceptor.ServePassthrough(ln, name) }
			}
			if err := serve(ln); err != nil {
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

// warn logs what is wrong with the files of g.
func (p *process) warn(g *generation) {
	for _, w := range g.warnings {
		p.log.Warn(w)
	}
}

// precompute derives SCRAM keys before they are needed, so that the first login
// of a user takes no longer than that of somebody who does not exist.
func (p *process) precompute(g *generation) {
	if t := g.config.AuthType; t != config.AuthScram && t != config.AuthHBA {
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
	notifyReloading()
	defer notify(daemon.SdNotifyReady)
	path := p.path
	if c := p.config(); c.ConfFile != c.Path {
		path = c.ConfFile
	}
	g, err := load(path)
	file := p.config().LogFile // which logrotate may have renamed, whatever the configuration is like
	if err == nil {
		file = g.config.LogFile
	}
	if err := errors.Join(err, p.logFile.open(file)); err != nil {
		for line := range strings.Lines(err.Error()) {
			p.log.Error(strings.TrimSuffix(line, "\n"))
		}
		p.log.Warn("reload failed: the configuration stays as it is")
		return err
	}
	old := p.generation.Load()
	for _, c := range g.config.Diff(old.config) {
		if !c.Changeable {
			p.log.Warn("reload: " + c.Key + " takes effect at the next start")
		}
	}
	g.config.KeepFixed(old.config)
	p.inForce(g)
	p.path, p.unapplied = path, nil
	p.log.Info("reload: configuration " + g.config.Path + " is in force")
	return nil
}

// set gives a setting another value until the next reload. TLS settings that
// make no sense yet wait for others that are set after them: applied is false
// then.
func (p *process) set(a config.Assignment) (applied bool, err error) {
	p.reloading.Lock()
	defer p.reloading.Unlock()
	old := p.generation.Load()
	if _, err := old.config.With(a); err != nil {
		return false, err
	}
	list := []config.Assignment{a}
	aboutTLS := strings.Contains(a.Key, "_tls_")
	if aboutTLS {
		list = append(slices.Clone(p.unapplied), a)
	}
	c, err := old.config.With(list...)
	if err == nil {
		err = c.Check()
	}
	var g *generation
	if err == nil {
		g, err = newGeneration(c)
	}
	switch {
	case err == nil && c.LogFile != old.config.LogFile:
		err = p.logFile.open(c.LogFile)
	case err != nil && aboutTLS:
		p.log.Warn("TLS settings could not be applied, still using old configuration: " + oneLineOf(err))
		p.unapplied = list
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if aboutTLS {
		p.unapplied = nil
	}
	p.inForce(g)
	return true, nil
}

// oneLineOf is the text of an error, or of several that are joined.
func oneLineOf(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// inForce makes g the present generation. p.reloading is held.
func (p *process) inForce(g *generation) {
	old := p.generation.Load()
	if g.config.ScramIterations == old.config.ScramIterations {
		g.scram = old.scram // with the keys that it has derived
	}
	p.generation.Store(g)
	p.warn(g)
	p.precompute(g)
	p.level.SetLevel(logLevel(max(p.verbose, g.config.Verbose)))
	p.syslog.configure(&g.config.Settings)
	p.pools.Reload(g.poolSettings())
	p.sessions.KillGone()
}

// emptyCheck is how often a shutdown that waits for clients looks whether any
// are left.
const emptyCheck = 50 * time.Millisecond
