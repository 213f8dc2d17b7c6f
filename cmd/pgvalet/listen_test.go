package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pgvalet/pgvalet/config"
)

func TestUnixSocketPermissions(t *testing.T) {
	c := &config.Config{Settings: config.Settings{UnixSocketDir: t.TempDir(), UnixSocketMode: 0o760, UnixSocketGroup: strconv.Itoa(os.Getgid())}}
	ln, err := listenUnix(c, 6432)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	info, err := os.Stat(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != c.UnixSocketMode {
		t.Errorf("permissions %v, want %v", got, c.UnixSocketMode)
	}
	ln.Close()
	c.UnixSocketGroup = "no such group"
	if ln, err := listenUnix(c, 6432); err == nil {
		ln.Close()
		t.Error("an unknown group was taken")
	}
}

// A socket whose owner is too busy to take one more client is not taken away.
func TestUnixSocketOfABusyProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("elsewhere a full queue looks like a process that is gone")
	}
	dir := t.TempDir()
	at := &unix.SockaddrUnix{Name: filepath.Join(dir, ".s.PGSQL.6432")}
	socket := func() int {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	busy := socket()
	if err := errors.Join(unix.Bind(busy, at), unix.Listen(busy, 0)); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 100 {
		if err = unix.Connect(socket(), at); err != nil {
			break
		}
	}
	if !errors.Is(err, unix.EAGAIN) {
		t.Fatalf("the queue is not full: %v", err)
	}
	c := &config.Config{Settings: config.Settings{UnixSocketDir: dir, UnixSocketMode: 0o777}}
	if ln, err := listenUnix(c, 6432); err == nil {
		ln.Close()
		t.Error("the socket was taken away from its owner")
	}
	if _, err := os.Stat(at.Name); err != nil {
		t.Error(err)
	}
}
