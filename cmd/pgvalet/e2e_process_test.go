package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// simple returns a configuration file for a pgvalet that needs no database, in a
// folder that is anybody's.
func simple(t testing.TB, more ...string) string {
	t.Helper()
	dir := must(os.MkdirTemp("", "pgvalet"))(t)
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "pgvalet.toml")
	text := "[pgvalet]\nunix_socket_dir = '.'\nauth_file = 'users.txt'\npidfile = 'pid'\nlogfile = 'log'\nevent_loops = 1\n" + strings.Join(more, "\n") + "\n"
	must(0, errors.Join(
		os.Chmod(dir, 0o777),
		os.WriteFile(filepath.Join(dir, "users.txt"), nil, 0o644),
		os.WriteFile(path, []byte(text), 0o644),
	))(t)
	return path
}

// beside returns what a file beside path holds.
func beside(path, name string) string {
	b, _ := os.ReadFile(filepath.Join(filepath.Dir(path), name))
	return string(b)
}

func TestDaemon(t *testing.T) {
	path := simple(t)
	out, err := exec.CommandContext(testContext(t), "pgvalet", "-d", path).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Fatalf("%v, output %q", err, out)
	}
	// It is at work before the parent ends, and writes its own number.
	pid := must(strconv.Atoi(strings.TrimSpace(beside(path, "pid"))))(t)
	defer func() { _ = syscall.Kill(pid, syscall.SIGKILL) }()
	if log := beside(path, "log"); !strings.Contains(log, fmt.Sprintf("[%d] LOG process up", pid)) {
		t.Errorf("the log file holds: %s", log)
	}
	if sid, _, e := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0); e != 0 || int(sid) != pid {
		t.Errorf("session %d (%v), want %d", sid, e, pid)
	}
	if out, err := exec.CommandContext(testContext(t), "pgvalet", "-qd", path).CombinedOutput(); err == nil || !strings.Contains(string(out), "exists, another instance running?") {
		t.Errorf("a second one: %v, output %q", err, out)
	}
	must(0, syscall.Kill(pid, syscall.SIGTERM))(t)
	eventually(t, "the daemon ends", func() bool { return beside(path, "pid") == "" })
}

func TestUserSetting(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	nobody := must(user.Lookup("nobody"))(t)
	path := simple(t, "user = 'nobody'")
	cmd := exec.CommandContext(testContext(t), "pgvalet", "-q", path)
	must(0, cmd.Start())(t)
	eventually(t, "pgvalet is up", func() bool { return strings.Contains(beside(path, "log"), "process up") })
	for _, name := range []string{"pid", "log", ".s.PGSQL.6432"} {
		info := must(os.Stat(filepath.Join(filepath.Dir(path), name)))(t)
		if uid := info.Sys().(*syscall.Stat_t).Uid; strconv.Itoa(int(uid)) != nobody.Uid {
			t.Errorf("%s belongs to user %d", name, uid)
		}
	}
	if strings.Contains(beside(path, "log"), "running as root") {
		t.Error("it says that it is root")
	}
	must(0, cmd.Process.Signal(syscall.SIGQUIT))(t)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// serviceManager plays the part of systemd that hears what its services are about:
// what is to be in their environment, and a function that waits for a message.
func serviceManager(t *testing.T, dir string) (env string, hears func(want string)) {
	t.Helper()
	manager := must(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}))(t)
	t.Cleanup(func() { manager.Close() })
	must(0, manager.SetReadDeadline(time.Now().Add(testPatience)))(t)
	return "NOTIFY_SOCKET=" + manager.LocalAddr().String(), func(want string) {
		t.Helper()
		for {
			b := make([]byte, 1000)
			n, err := manager.Read(b)
			if err != nil {
				t.Fatalf("%s: %v", want, err)
			}
			if regexp.MustCompile("^" + want + "$").Match(b[:n]) {
				return
			}
			if !strings.HasPrefix(string(b[:n]), "STATUS=") {
				t.Fatalf("the service manager hears %q, want %s", b[:n], want)
			}
		}
	}
}

// TestServiceManager plays systemd: it listens, and passes its sockets on.
func TestServiceManager(t *testing.T) {
	path := simple(t, "stats_period = 1", "listen_addr = '127.0.0.1'", "listen_port = 1")
	dir := filepath.Dir(path)
	env, hears := serviceManager(t, dir)
	tcp := must(net.Listen("tcp", "127.0.0.1:0"))(t).(*net.TCPListener)
	defer tcp.Close()
	local := must(net.Listen("unix", filepath.Join(dir, "passed")))(t).(*net.UnixListener)
	defer local.Close()
	sockets := []*os.File{must(tcp.File())(t), must(local.File())(t)}

	// LISTEN_PID is whose sockets they are.
	cmd := exec.CommandContext(testContext(t), "sh", "-c", `LISTEN_PID=$$ exec pgvalet "$0"`, path)
	cmd.Env = append(os.Environ(), env, "LISTEN_FDS=2")
	cmd.ExtraFiles = sockets
	must(0, cmd.Start())(t)
	for _, f := range sockets {
		f.Close()
	}
	hears("READY=1")
	log := beside(path, "log")
	for _, want := range []string{"WARNING sockets passed from service manager, listen_addr ignored", "WARNING sockets passed from service manager, unix_socket_dir ignored"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say: %s", want)
		}
	}
	for _, a := range []net.Addr{tcp.Addr(), local.Addr()} {
		conn := must(net.Dial(a.Network(), a.String()))(t)
		must(conn.Write([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f")))(t) // SSLRequest
		if b := make([]byte, 1); must(conn.Read(b))(t) != 1 || b[0] != 'N' {
			t.Errorf("%s answers %q", a, b)
		}
		conn.Close()
	}
	hears("STATUS=stats: 0 xacts/s, .*")
	must(0, cmd.Process.Signal(syscall.SIGHUP))(t)
	hears(`RELOADING=1\nMONOTONIC_USEC=\d+\n`)
	hears("READY=1")
	must(0, cmd.Process.Signal(syscall.SIGTERM))(t)
	hears("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(local.Addr().String()); err != nil {
		t.Errorf("the service manager's socket is gone: %v", err)
	}
}

func TestListenOnLocalhost(t *testing.T) {
	path := simple(t, "listen_addr = 'localhost,192.0.2.1'", "listen_port = 0")
	cmd := exec.CommandContext(testContext(t), "pgvalet", "-q", path)
	must(0, cmd.Start())(t)
	eventually(t, "pgvalet is up", func() bool { return strings.Contains(beside(path, "log"), "process up") })
	log := beside(path, "log")
	if addresses, err := net.LookupHost("localhost"); err == nil {
		for _, a := range addresses {
			ln, err := net.Listen("tcp", net.JoinHostPort(a, "0"))
			if err != nil {
				continue // no such family here
			}
			ln.Close()
			if !strings.Contains(log, "listening on "+net.JoinHostPort(a, "")) {
				t.Errorf("does not listen on %s:\n%s", a, log)
			}
		}
	}
	if !strings.Contains(log, "WARNING cannot listen: listen tcp 192.0.2.1:") {
		t.Errorf("no warning about an address of somebody else:\n%s", log)
	}
	must(0, cmd.Process.Signal(syscall.SIGQUIT))(t)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestReusePort: two processes on one port, as so_reuseport allows.
func TestReusePort(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere SO_REUSEPORT means other things")
	}
	var port string
	for i := range 2 {
		more := []string{"so_reuseport = true", "listen_addr = '127.0.0.1'", "listen_port = 0"}
		if i > 0 {
			more[2] = "listen_port = " + port
		}
		path := simple(t, more...)
		cmd := exec.CommandContext(testContext(t), "pgvalet", "-q", path)
		must(0, cmd.Start())(t)
		defer func() {
			_ = cmd.Process.Signal(syscall.SIGQUIT)
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		}()
		eventually(t, "pgvalet is up", func() bool { return strings.Contains(beside(path, "log"), "process up") })
		m := regexp.MustCompile(`listening on 127\.0\.0\.1:(\d+)`).FindStringSubmatch(beside(path, "log"))
		if m == nil {
			t.Fatalf("does not listen:\n%s", beside(path, "log"))
		}
		port = m[1]
	}
}
