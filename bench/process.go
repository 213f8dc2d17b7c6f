package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// process is a running child. One goroutine starts it and waits for it; stop
// waits for that goroutine's end.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended
	err  error         // how it ended; to be read after done
}

func startProcess(cmd *exec.Cmd, credential *syscall.Credential) (*process, error) {
	cmd.SysProcAttr = childAttr(credential)
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		defer close(p.done)
		// The kernel sends the parent-death signal when the starting thread
		// ends, so that thread has to live as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// wait returns how the child ended, once it has.
func (p *process) wait() error {
	<-p.done
	return p.err
}

// stopPatience is how long a child may take to end after a signal.
const stopPatience = 5 * time.Second

// stop sends each signal in turn, then kills, and returns once the child is
// gone. How it ended is of no interest then.
func (p *process) stop(signals ...os.Signal) {
	for _, sig := range append(signals, os.Kill) {
		if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
			break
		}
		timer := time.NewTimer(stopPatience)
		select {
		case <-p.done:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
	<-p.done
}

// unprivileged returns the user that the poolers run as if we are root, as
// PgBouncer refuses to be; nil, meaning oneself, if we are not.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("a user to run the poolers as, instead of root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("uid of %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("gid of %s: %w", u.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// raiseFileLimit lifts the soft limit on open files to the hard one, for
// ourselves and the children, and returns it. Go does so for itself at start,
// but gives children the old one unless it is set by hand.
func raiseFileLimit() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("limit on open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("limit on open files: %w", err)
	}
	return int(min(limit.Cur, 1<<30)), nil
}
