package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// section is a table of a configuration file.
type section map[string]any

// conf is a configuration file.
type conf struct {
	pgvalet          section
	databases, users map[string]section
	peers            map[string]section
}

// set changes one setting of [pgvalet].
func (c *conf) set(key string, value any) { c.pgvalet[key] = value }

func (c *conf) String() string {
	var b strings.Builder
	table := func(name string, s section) {
		fmt.Fprintf(&b, "[%s]\n", name)
		for _, key := range slices.Sorted(maps.Keys(s)) {
			switch v := s[key].(type) {
			case string:
				fmt.Fprintf(&b, "%s = %q\n", key, v)
			default:
				fmt.Fprintf(&b, "%s = %v\n", key, v)
			}
		}
	}
	table("pgvalet", c.pgvalet)
	for name, tables := range map[string]map[string]section{"databases": c.databases, "users": c.users, "peers": c.peers} {
		for _, key := range slices.Sorted(maps.Keys(tables)) {
			table(name+"."+strconv.Quote(key), tables[key])
		}
	}
	return b.String()
}

// clientPassword is what every user of a test's auth_file has.
const clientPassword = "correct horse, staple"

// pooler is a running pgvalet.
type pooler struct {
	t     testing.TB
	dir   string // of its files, and of its unix socket
	conf  conf
	file  string            // its configuration, if that is not to be made of conf
	users map[string]string // auth_file
	env   []string          // beside PATH
	args  []string          // before the configuration file
	ca    *backendtest.CA   // signs its certificate

	cmd    *exec.Cmd
	log    logLines // standard error
	port   int
	exited chan struct{} // closed when cmd.ProcessState is there
	ended  bool          // the test has seen to the end of it
}

// newPooler returns a pgvalet that is not started, with TLS towards clients and,
// verified, towards shared.
func newPooler(t testing.TB) *pooler {
	t.Helper()
	dir := must(os.MkdirTemp("", "pgvalet"))(t) // short enough for a unix socket
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &pooler{
		t:      t,
		dir:    dir,
		users:  map[string]string{"app": clientPassword},
		args:   []string{"-v", "-v"},
		exited: make(chan struct{}),
		conf: conf{
			pgvalet: section{
				"listen_addr":          "127.0.0.1",
				"listen_port":          0,
				"unix_socket_dir":      dir,
				"auth_file":            "userlist.txt",
				"client_tls_sslmode":   "require",
				"client_tls_cert_file": "client.crt",
				"client_tls_key_file":  "client.key",
				"server_tls_sslmode":   "verify-full",
				"server_tls_ca_file":   "server-ca.crt",
				"event_loops":          2,
			},
			databases: map[string]section{},
			users:     map[string]section{},
		},
	}
	p.useCertificate()
	p.write("server-ca.crt", string(serverCA.PEM()))
	return p
}

// useCertificate gives the pooler a certificate of a new authority.
func (p *pooler) useCertificate() {
	p.t.Helper()
	p.ca = must(backendtest.NewCA())(p.t)
	cert := must(p.ca.Issue("127.0.0.1", "localhost"))(p.t)
	if _, _, err := cert.WriteFiles(p.dir, "client"); err != nil {
		p.t.Fatal(err)
	}
	p.write("ca.crt", string(p.ca.PEM()))
}

// path returns the path of one of the pooler's files.
func (p *pooler) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pooler) write(name, content string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(content), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// writeConf brings the files up to what p says.
func (p *pooler) writeConf() {
	p.t.Helper()
	var users strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.users)) {
		fmt.Fprintf(&users, "%q %q\n", name, p.users[name])
	}
	p.write("userlist.txt", users.String())
	if p.file == "" {
		p.write("pgvalet.toml", p.conf.String())
	}
}

// start starts pgvalet and returns when clients can come. It ends with the
// test, and the test fails if it did not live and die in good order.
func (p *pooler) start() *pooler {
	p.t.Helper()
	p.writeConf()
	p.cmd = exec.Command("pgvalet", append(p.args, p.path(cmp.Or(p.file, "pgvalet.toml")))...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true", "GORACE=atexit_sleep_ms=0"}, p.env...)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait() // ProcessState says it all
		p.log.end()
	}()
	p.t.Cleanup(p.stop)
	p.logged("process up")
	const listening = "listening on 127.0.0.1:"
	_, port, _ := strings.Cut(strings.TrimSuffix(p.log.find(listening), `"}`), listening)
	p.port = must(strconv.Atoi(port))(p.t)
	return p
}

// stop ends pgvalet, if it still runs, and looks at what it leaves behind.
func (p *pooler) stop() {
	if !p.ended {
		p.signal(syscall.SIGQUIT)
		p.exit(0)
	}
	if strings.Contains(p.log.String(), "DATA RACE") {
		p.t.Error("pgvalet has a data race")
	}
	if p.t.Failed() {
		log, _, _ := strings.Cut(p.log.String(), "\nSIGABRT: ")
		lines := strings.Split(log, "\n")
		p.t.Logf("the end of pgvalet's log:\n%s", strings.Join(lines[max(0, len(lines)-80):], "\n"))
	}
}

// signal sends a signal to pgvalet.
func (p *pooler) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Error(err)
	}
}

// exit waits for the end of pgvalet, which must be with this code.
func (p *pooler) exit(code int) {
	p.t.Helper()
	p.ended = true
	select {
	case <-p.exited:
	case <-time.After(testPatience):
		_ = p.cmd.Process.Signal(syscall.SIGABRT) // for the goroutines
		<-p.exited
		p.t.Fatal("pgvalet does not end")
	}
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.t.Errorf("pgvalet ended with %v, want exit code %d", p.cmd.ProcessState, code)
	}
}

// running reports whether pgvalet has not ended.
func (p *pooler) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// reload makes pgvalet read its files again and waits until it has.
func (p *pooler) reload() {
	p.t.Helper()
	p.writeConf()
	p.log.mark()
	p.signal(syscall.SIGHUP)
	p.logged("is in force")
}

// logged waits for a line of the log that holds text, and returns it. Lines
// before the last mark do not count.
func (p *pooler) logged(text string) string {
	p.t.Helper()
	line, err := p.log.wait(text)
	if err != nil {
		p.t.Fatal(err)
	}
	return line
}

// logLines is a log that can be waited for.
type logLines struct {
	mu      sync.Mutex // guards what follows
	buf     bytes.Buffer
	from    int // what is older is not looked at
	ended   bool
	changed chan struct{} // closed and replaced when there is more; nil: nobody waits
}

// Write implements io.Writer.
func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake()
	return l.buf.Write(p)
}

func (l *logLines) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// end says that there will be no more.
func (l *logLines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.wake()
}

// mark makes find and wait look only at what is yet to come.
func (l *logLines) mark() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from = l.buf.Len()
}

// find returns the first whole line that holds text, "" if there is none.
func (l *logLines) find(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.findLocked(text)
}

func (l *logLines) findLocked(text string) string {
	for line := range strings.Lines(l.buf.String()[l.from:]) {
		if strings.Contains(line, text) && strings.HasSuffix(line, "\n") {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return ""
}

// wait is find of what may be yet to come.
func (l *logLines) wait(text string) (string, error) {
	late := time.After(testPatience)
	for {
		l.mu.Lock()
		line, ended := l.findLocked(text), l.ended
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		switch {
		case line != "":
			return line, nil
		case ended:
			return "", fmt.Errorf("the end came before %q", text)
		}
		select {
		case <-changed:
		case <-late:
			return "", fmt.Errorf("not in time: %q", text)
		}
	}
}

// String returns all of the log.
func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
