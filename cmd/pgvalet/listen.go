package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
)

// listeners are where clients come in.
type listeners struct {
	tcp  []net.Listener
	unix []net.Listener

	passages map[net.Listener]string // of those of tcp that are for one database in passthrough mode
}

// listen opens every configured address. One that cannot be opened is reported
// and left out, as in PgBouncer, unless no TCP address is left. Sockets that the
// service manager has opened take the place of all of them.
func listen(c *config.Config, log *zap.Logger) (*listeners, error) {
	l, err := inherited()
	if err != nil {
		return nil, err
	}
	if len(l.all()) > 0 {
		if len(c.ListenAddr) > 0 {
			log.Warn("sockets passed from service manager, listen_addr ignored")
		}
		if c.UnixSocketDir != "" && c.UnixSocketDir != "/tmp" { // which is the default
			log.Warn("sockets passed from service manager, unix_socket_dir ignored")
		}
		for _, ln := range l.all() {
			log.Info("listening on " + ln.Addr().String() + ", passed from service manager")
		}
		if err := l.listenPassages(c, log); err != nil {
			l.closeAll()
			return nil, err
		}
		return l, nil
	}
	port, err := l.listenTCP(c, c.ListenPort, log)
	if err == nil {
		err = l.listenPassages(c, log)
	}
	if err == nil && c.UnixSocketDir != "" {
		var ln net.Listener
		if ln, err = listenUnix(c, port); err == nil {
			log.Info("listening on unix:" + ln.Addr().String())
			l.unix = append(l.unix, ln)
		}
	}
	if err != nil {
		l.closeAll()
		return nil, err
	}
	return l, nil
}

// listenPassages opens the ports that are for one database each.
func (l *listeners) listenPassages(c *config.Config, log *zap.Logger) error {
	l.passages = make(map[net.Listener]string)
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		d := c.Databases[name]
		if d.PassthroughPort == 0 || d.PoolMode != config.PoolModePassthrough {
			continue
		}
		before := len(l.tcp)
		if _, err := l.listenTCP(c, d.PassthroughPort, log); err != nil {
			return fmt.Errorf("passthrough_port of databases.%s: %w", name, err)
		}
		for _, ln := range l.tcp[before:] {
			l.passages[ln] = name
		}
	}
	return nil
}

// listenTCP opens a port at the addresses of listen_addr, and returns it.
func (l *listeners) listenTCP(c *config.Config, port int, log *zap.Logger) (int, error) {
	before := len(l.tcp)
	var errs []error
	for _, host := range c.ListenAddr {
		addresses := []string{host}
		if host == "*" {
			addresses = []string{""} // one socket for both families
		} else if found, err := net.LookupHost(host); err == nil {
			addresses = found // localhost has one of each family
		}
		for _, a := range addresses {
			ln, err := listenAddress(c, net.JoinHostPort(a, strconv.Itoa(port)))
			if err != nil {
				log.Warn("cannot listen: " + err.Error())
				errs = append(errs, err)
				continue
			}
			log.Info("listening on " + ln.Addr().String())
			port = ln.Addr().(*net.TCPAddr).Port // listen_port 0: whatever the system chose, for all
			l.tcp = append(l.tcp, ln)
		}
	}
	if len(l.tcp) == before && len(errs) > 0 {
		return 0, fmt.Errorf("failed to listen on any address in listen_addr list: %w", errors.Join(errs...))
	}
	return port, nil
}

// listenAddress opens one TCP socket.
func listenAddress(c *config.Config, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1} // the acceptor sets what the settings say
	lc.Control = func(network, address string, conn syscall.RawConn) error {
		if err := backend.NewTCPOptions(&c.Settings).SetBuffers(network, address, conn); err != nil {
			return err
		}
		return control(conn, func(fd int) error {
			deferAccept(fd, c.TCPDeferAccept)
			if c.SoReuseport {
				return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
			return nil
		})
	}
	ln, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	if err := setBacklog(ln.(*net.TCPListener), c.ListenBacklog); err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// setBacklog begins to listen once more: the net package has a backlog of its
// own.
func setBacklog(ln syscall.Conn, backlog int) error {
	conn, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	return control(conn, func(fd int) error { return unix.Listen(fd, backlog) })
}

// control runs fn on the socket of conn.
func control(conn syscall.RawConn, fn func(fd int) error) error {
	var err error
	return errors.Join(conn.Control(func(fd uintptr) { err = fn(int(fd)) }), err)
}

// listenUnix opens the unix socket under PostgreSQL's usual name.
func listenUnix(c *config.Config, port int) (net.Listener, error) {
	path := filepath.Join(c.UnixSocketDir, ".s.PGSQL."+strconv.Itoa(port))
	if strings.HasPrefix(c.UnixSocketDir, "@") {
		return net.Listen("unix", path)
	}
	conn, err := net.Dial("unix", path)
	switch {
	case err == nil:
		conn.Close()
		fallthrough
	case errors.Is(err, syscall.EAGAIN): // so many clients that one more cannot even wait
		return nil, fmt.Errorf("unix socket is in use, cannot continue: %s", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		_ = os.Remove(path) // left by a process that is gone; Listen has the last word
	}
	// Not by chmod: nobody is to get in before it.
	umask := syscall.Umask(int(fs.ModePerm &^ c.UnixSocketMode))
	ln, err := net.Listen("unix", path)
	syscall.Umask(umask)
	if err != nil {
		return nil, err
	}
	err = setBacklog(ln.(*net.UnixListener), c.ListenBacklog)
	if err == nil && c.UnixSocketGroup != "" {
		if err = chgrp(path, c.UnixSocketGroup); err != nil {
			err = fmt.Errorf("unix_socket_group: %w", err)
		}
	}
	if err != nil {
		ln.Close()
		return nil, err
	}
	return ln, nil
}

// chgrp gives path to a group, by its name or number.
func chgrp(path, group string) error {
	gid, err := strconv.Atoi(group)
	if err != nil {
		g, err := user.LookupGroup(group)
		if err != nil {
			return err
		}
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return err
		}
	}
	return os.Chown(path, -1, gid)
}

func (l *listeners) closeTCP() {
	for _, ln := range l.tcp {
		ln.Close()
	}
}

func (l *listeners) closeAll() {
	for _, ln := range l.all() {
		ln.Close()
	}
}

func (l *listeners) all() []net.Listener { return slices.Concat(l.tcp, l.unix) }
