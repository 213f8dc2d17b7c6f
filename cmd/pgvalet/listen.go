package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/config"
)

// listeners are where clients come in.
type listeners struct {
	tcp  []net.Listener
	unix net.Listener // nil: none
}

// listen opens every configured address. One that cannot be opened is reported
// and left out, as in PgBouncer, unless none is left.
func listen(c *config.Config, log *zap.Logger) (*listeners, error) {
	l := &listeners{}
	var errs []error
	lc := net.ListenConfig{KeepAlive: -1} // the acceptor sets what the settings say
	port := c.ListenPort
	for _, host := range c.ListenAddr {
		if host == "*" {
			host = ""
		}
		ln, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			log.Warn(err.Error())
			errs = append(errs, err)
			continue
		}
		log.Info("listening on " + ln.Addr().String())
		port = ln.Addr().(*net.TCPAddr).Port // listen_port 0: whatever the system chose, for all
		l.tcp = append(l.tcp, ln)
	}
	if c.UnixSocketDir != "" {
		ln, err := listenUnix(c, port)
		if err != nil {
			l.closeAll()
			return nil, err
		}
		log.Info("listening on unix:" + ln.Addr().String())
		l.unix = ln
	}
	if len(l.tcp) == 0 && l.unix == nil {
		return nil, fmt.Errorf("no address to listen on: %w", errors.Join(errs...))
	}
	return l, nil
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
	if c.UnixSocketGroup != "" {
		if err := chgrp(path, c.UnixSocketGroup); err != nil {
			ln.Close()
			return nil, fmt.Errorf("unix_socket_group: %w", err)
		}
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
	l.closeTCP()
	if l.unix != nil {
		l.unix.Close()
	}
}

func (l *listeners) all() []net.Listener {
	if l.unix == nil {
		return l.tcp
	}
	return append(slices.Clip(l.tcp), l.unix)
}
