package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// upVariable is the environment variable that tells a process that it is the
// child of startDaemon. It holds the number of the pipe's end.
const upVariable = "PGVALET_UP_FD"

// startDaemon runs the program once more, as a session leader without a
// terminal, and returns when that process is at work or has failed. A Go
// program cannot fork itself: its threads would be left behind.
//
// Until it is up, the child shares our standard error, so that what is wrong
// reaches the terminal.
func startDaemon(args []string, stderr io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(program, args...)
	cmd.Args[0] = os.Args[0] // what ps shows
	cmd.Stderr = stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.Env = append(os.Environ(), upVariable+"=3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("daemon: %w", err)
	}
	if n, _ := r.Read(make([]byte, 1)); n == 1 {
		return nil
	}
	err = cmd.Wait()
	if e := (*exec.ExitError)(nil); errors.As(err, &e) && e.ExitCode() > 0 {
		return exitCode(e.ExitCode()) // it has said why
	}
	return fmt.Errorf("daemon: ended before it was up: %v", err)
}

// parentPipe returns where to tell the parent that we are up: nil, unless we are
// the child of startDaemon.
func parentPipe() *os.File {
	fd, err := strconv.Atoi(os.Getenv(upVariable))
	if err != nil {
		return nil
	}
	os.Unsetenv(upVariable) // not for children of ours
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "pipe to the parent")
}

// becomeDaemon lets the parent and its terminal go.
func becomeDaemon(parent *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if err := unix.Dup2(int(null.Fd()), int(f.Fd())); err != nil {
			return err
		}
	}
	defer parent.Close()
	_, err = parent.Write([]byte{'\n'})
	return err
}

// changeUser makes the process that of another user, with all its groups. Only
// root can; for anybody else it is an error, except to be who one is.
func changeUser(name string) error {
	u, err := user.Lookup(name)
	if err != nil {
		return err // it begins with user
	}
	groups, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	ids := []int{}
	for _, s := range slices.Concat([]string{u.Uid, u.Gid}, groups) {
		id, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("user %s: %w", name, err)
		}
		ids = append(ids, id)
	}
	if os.Geteuid() == ids[0] {
		return nil
	}
	// The user last: who is no longer root cannot change groups.
	if err := syscall.Setgroups(ids[2:]); err != nil {
		return fmt.Errorf("user %s: cannot change groups: %w", name, err)
	}
	if err := syscall.Setgid(ids[1]); err != nil {
		return fmt.Errorf("user %s: cannot change group: %w", name, err)
	}
	if err := syscall.Setuid(ids[0]); err != nil {
		return fmt.Errorf("user %s: cannot change user: %w", name, err)
	}
	return nil
}

// writePidFile refuses to start beside a process that lives.
func writePidFile(path string, stale func()) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if b, err := os.ReadFile(path); err == nil {
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		// Our own number is that of an earlier process, in a container.
		if err == nil && pid > 0 && pid != os.Getpid() && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return nil, fmt.Errorf("pidfile '%s' exists, another instance running?", path)
		}
		stale()
		_ = os.Remove(path) // the next step fails if this does
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("pidfile: %w", err)
	}
	_, err = fmt.Fprintln(f, os.Getpid())
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(path) // it is of no use
		return nil, fmt.Errorf("pidfile: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil // it may be gone already
}
