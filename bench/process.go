package main

import (
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// stopPatience is how long a child may take to end after a signal.
const stopPatience = 5 * time.Second

// startProcess starts a child that does not outlive us.
func startProcess(cmd *exec.Cmd, credential *syscall.Credential) (*backendtest.Process, error) {
	cmd.SysProcAttr = backendtest.ChildAttr(credential, syscall.SIGKILL)
	return backendtest.StartProcess(cmd)
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
