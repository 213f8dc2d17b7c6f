package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

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
		again := p.shuttingDown.Swap(true)
		if !again {
			notify(daemon.SdNotifyStopping)
		}
		if again || m == frontend.ShutdownNow {
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
			p.log.Info("got " + p.meaning(s))
			switch s {
			case syscall.SIGQUIT:
				begin(frontend.ShutdownNow)
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

// meaning says, in PgBouncer's words, what a signal is taken for now.
func (p *process) meaning(s os.Signal) string {
	down := p.shuttingDown.Load()
	switch s {
	case syscall.SIGTERM:
		if !down {
			return "SIGTERM, shutting down, waiting for all clients disconnect"
		}
		return "SIGTERM while shutting down, fast exit"
	case syscall.SIGINT:
		if !down {
			return "SIGINT, shutting down, waiting for all servers connections to be released"
		}
		return "SIGINT while shutting down, fast exit"
	case syscall.SIGQUIT:
		return "SIGQUIT, fast exit"
	case syscall.SIGHUP:
		return "SIGHUP, re-reading config"
	case syscall.SIGUSR1:
		if !down {
			return "SIGUSR1, pausing all activity"
		}
		return "SIGUSR1 while shutting down, ignoring"
	}
	if !down {
		return "SIGUSR2, continuing from PAUSE"
	}
	return "SIGUSR2 while shutting down, ignoring"
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
		return
	}
	if s == syscall.SIGUSR1 {
		p.running.Go(func() {
			if err := p.pools.Pause(ctx, ""); err != nil && ctx.Err() == nil {
				p.log.Warn(err.Error())
			}
		})
	} else if !p.sessions.Resume() {
		if err := p.pools.Resume(""); err != nil {
			p.log.Warn(err.Error())
		}
	}
}
