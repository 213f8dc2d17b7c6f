package main

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
)

// The service manager hears what we are about, if it has asked for it
// (NOTIFY_SOCKET): see sd_notify(3). Whether it listens is its own affair.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }

// notifyReloading begins a reload, as Type=notify-reload wants it; READY=1 ends it.
func notifyReloading() {
	notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// inherited returns the sockets that the service manager has opened for us, in
// its order (LISTEN_FDS, see sd_listen_fds(3)).
func inherited() (*listeners, error) {
	l := &listeners{}
	for _, f := range activation.Files(true) {
		ln, err := net.FileListener(f)
		f.Close() // ln has a copy
		if err != nil {
			l.closeAll()
			return nil, fmt.Errorf("failed to set up socket passed from service manager (fd %d): %w", f.Fd(), err)
		}
		if ln.Addr().Network() == "unix" {
			l.unix = append(l.unix, ln)
		} else {
			l.tcp = append(l.tcp, ln)
		}
	}
	return l, nil
}

// isJournal reports whether what is written to f goes to systemd's journal,
// which keeps time and process itself: JOURNAL_STREAM in systemd.exec(5).
func isJournal(f *os.File) bool {
	var dev, ino uint64
	var st syscall.Stat_t
	if n, _ := fmt.Sscanf(os.Getenv("JOURNAL_STREAM"), "%d:%d", &dev, &ino); n != 2 || syscall.Fstat(int(f.Fd()), &st) != nil {
		return false
	}
	return uint64(st.Dev) == dev && uint64(st.Ino) == ino //nolint:unconvert // their types differ between systems
}
