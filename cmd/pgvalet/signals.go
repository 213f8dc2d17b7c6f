package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pgvalet/pgvalet/frontend"
)

// signals are those that mean something to pgvalet, as they mean it to
// PgBouncer.
type signals chan os.Signal

func catchSignals() signals {
	// The end of what reads standard error must not be that of the pooler, as
	// it is by default in a Go program: a write that fails is enough.
	signal.Ignore(syscall.SIGPIPE)
	s := make(signals, 8)
	signal.Notify(s, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	return s
}

func (s signals) release() { signal.Stop(s) }

// supervise does what signals and the console ask for. It returns when it is
// time to stop.
func (p *process) supervise(sig signals) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{}, 1) // the wait of a shutdown is over
	begin := func(m frontend.ShutdownMode) bool {
		if m == frontend.ShutdownNow || p.shuttingDown.Swap(true) {
			return true
		}
		p.running.Go(func() {
			p.drain(ctx, m)
			done <- struct{}{}
		})
		return false
	}
	for {
		select {
		case <-done:
			return
		case m := <-p.stop:
			if begin(m) {
				return
			}
		case s := <-sig:
			p.log.Info("got " + signalNames[s])
			switch s {
			case syscall.SIGQUIT:
				return
			case syscall.SIGTERM:
				if begin(frontend.ShutdownWaitForClients) {
					return
				}
			case syscall.SIGINT:
				if begin(frontend.ShutdownWaitForServers) {
					return
				}
			case syscall.SIGHUP:
				p.running.Go(func() { _ = p.reload() }) // it has logged its error
			case syscall.SIGUSR1, syscall.SIGUSR2:
				p.pauseOrResume(ctx, s)
			}
		}
	}
}

var signalNames = map[os.Signal]string{
	syscall.SIGTERM: "SIGTERM, shutting down, waiting for all clients disconnect",
	syscall.SIGINT:  "SIGINT, shutting down, waiting for all servers connections to be released",
	syscall.SIGQUIT: "SIGQUIT, fast exit",
	syscall.SIGHUP:  "SIGHUP, re-reading config",
	syscall.SIGUSR1: "SIGUSR1, pausing all activity",
	syscall.SIGUSR2: "SIGUSR2, continuing from PAUSE",
}

// drain lets no new client in and waits for what m says.
func (p *process) drain(ctx context.Context, m frontend.ShutdownMode) {
	p.listeners.closeTCP()
	if m == frontend.ShutdownWaitForServers {
		_ = p.pools.Drain(ctx) // fails only if supervise has returned
		return
	}
	tick := time.NewTicker(emptyCheck)
	defer tick.Stop()
	for p.acceptor.Clients() > 0 { // those that are logging in are clients too
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (p *process) pauseOrResume(ctx context.Context, s os.Signal) {
	if p.shuttingDown.Load() {
		p.log.Info("got signal while shutting down, ignoring")
		return
	}
	if s == syscall.SIGUSR1 {
		p.running.Go(func() {
			if err := p.pools.Pause(ctx, ""); err != nil && ctx.Err() == nil {
				p.log.Warn(err.Error())
			}
		})
	} else if err := p.pools.Resume(""); err != nil {
		p.log.Warn(err.Error())
	}
}
