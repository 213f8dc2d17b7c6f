package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

const (
	// stressTime is how long TestStress goes on, unless PGVALET_STRESS holds
	// another duration.
	stressTime = 20 * time.Second
	// stuckTime is after what a client counts as stuck in one step.
	stuckTime = 45 * time.Second
	// stressPool is the pool size; a reload may make it one less.
	stressPool = 8
	// stressEach is how many clients of each kind there are.
	stressEach = 8
)

// stress is many clients of many kinds at once, of which each knows what it has
// to get, while connections break on all sides.
type stress struct {
	t    *testing.T
	p    *pooler
	d    *database
	rds  *backendtest.RDS
	over chan struct{} // closed when the time is up

	mu       sync.Mutex // guards what follows
	problems []string
	done     map[string]int // steps that went well, by kind of client
	lost     map[string]int // connections that ended in a way that was to be expected, by reason
}

// problem notes what must not happen.
func (s *stress) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.problems = append(s.problems, fmt.Sprintf(format, args...)); len(s.problems) <= 20 {
		s.t.Error(s.problems[len(s.problems)-1])
	}
}

func (s *stress) count(in map[string]int, what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in[what]++
}

// isOver reports whether the time is up.
func (s *stress) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// pause lets time pass, up to limit, or until the time is up.
func (s *stress) pause(limit time.Duration) {
	timer := time.NewTimer(rand.N(limit))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.over:
	}
}

// stressClient is one client; it comes and goes.
type stressClient struct {
	*stress
	kind stressKind
	id   string // its application_name too
	conn *pgx.Conn
	n    int
	app  string // what application_name has to be now

	prepared map[string]string // by SQL: what EXECUTE of a name has to return
	changed  bool              // DateStyle is not what it was
}

// stressKind is what a kind of client does.
type stressKind struct {
	name string
	mode string // default_query_exec_mode of pgx
	// step does something and checks what comes of it. An error ends the
	// connection, and is judged.
	step func(*stressClient, context.Context) error
}

var stressKinds = []stressKind{
	{"cached statements", "cache_statement", (*stressClient).query},
	{"cached descriptions", "cache_describe", (*stressClient).query},
	{"descriptions", "describe_exec", (*stressClient).query}, // one transaction prepares, the next executes
	{"unnamed statements", "exec", (*stressClient).query},
	{"simple queries", "simple_protocol", (*stressClient).query},
	{"large messages", "cache_statement", (*stressClient).large},
	{"transactions", "cache_statement", (*stressClient).transaction},
	{"parameters", "exec", (*stressClient).parameter},
	{"COPY out", "exec", (*stressClient).copyOut},
	{"COPY in", "exec", (*stressClient).copyIn},
	{"PREPARE", "simple_protocol", (*stressClient).sqlPrepare},
	{"dates", "cache_statement", (*stressClient).dates},
	{"pipelines", "exec", (*stressClient).pipeline},
	{"cancels", "exec", (*stressClient).cancel},
	{"leavers", "exec", (*stressClient).vanish},
}

// errVanished ends the connection of a client that has closed it.
var errVanished = errors.New("closed by the client itself")

// token is what a row has to hold to be the client's own, and the answer to its
// last question.
func (c *stressClient) token() string {
	c.n++
	return c.id + "/" + strconv.Itoa(c.n)
}

// run is the life of a client.
func (c *stressClient) run() {
	for !c.isOver() {
		if err := c.arrive(); err != nil {
			c.judge("login", err)
			c.pause(50 * time.Millisecond)
			continue
		}
		for range 1 + rand.IntN(60) {
			if c.isOver() {
				break
			}
			if err := c.within(c.kind.step); err != nil {
				c.judge(c.kind.name, err)
				break
			}
			c.count(c.done, c.kind.name)
		}
		c.leave()
	}
}

// within bounds the time of a step.
func (c *stressClient) within(step func(*stressClient, context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), stuckTime, errStuck)
	defer cancel()
	err := step(c, ctx)
	if ctx.Err() != nil {
		return errStuck
	}
	return err
}

var errStuck = errors.New("stuck")

func (c *stressClient) arrive() error {
	c.app, c.prepared, c.changed = c.id, make(map[string]string), false
	return c.within(func(c *stressClient, ctx context.Context) (err error) {
		c.conn, err = c.p.dial(ctx, "application_name", c.id, "default_query_exec_mode", c.kind.mode)
		return err
	})
}

func (c *stressClient) leave() {
	if rand.IntN(2) == 0 {
		hangUp(c.conn.PgConn().Conn())
	}
	ctx, cancel := context.WithTimeout(context.Background(), stuckTime)
	defer cancel()
	c.conn.Close(ctx)
}

// judge decides whether a connection may end with err.
func (c *stressClient) judge(doing string, err error) {
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, errVanished):
	case errors.As(err, &pgErr) && (pgErr.Code == "57P01" && strings.Contains(pgErr.Message, "terminating connection due to administrator command") ||
		pgErr.Code == "08006" || strings.Contains(pgErr.Message, "server TLS handshake failed")):
		c.count(c.lost, pgErr.Message)
	case strings.HasSuffix(err.Error(), "conn closed") && c.conn.IsClosed():
		// The end came right behind an error that the client waited for.
		c.count(c.lost, "noticed late")
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.count(c.lost, midMessage)
	default:
		c.problem("%s: %s: %v", c.id, doing, err)
	}
}

// midMessage is how a connection may end when a server is lost that had sent
// half a message: there is no way to tell the client.
const midMessage = "without a word"

// wrong is the error of a client that got what is not its own.
func wrong(format string, args ...any) error {
	return fmt.Errorf("WRONG DATA: "+format, args...)
}

// chaos breaks things until the time is up.
func (s *stress) chaos() {
	admin := s.d.direct()
	for n := 1; !s.isOver(); n++ {
		s.pause(200 * time.Millisecond)
		switch {
		case n%40 == 0:
			s.rds.DropConnections()
		case n%8 == 0:
			s.p.conf.databases["shop"]["pool_size"] = stressPool - rand.IntN(2)
			s.p.writeConf()
			s.p.signal(syscall.SIGHUP)
		default:
			if _, err := admin.Exec(context.Background(), "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE usename = $1 ORDER BY random() LIMIT 1) s", s.d.name); err != nil {
				s.problem("pg_terminate_backend: %v", err)
			}
		}
	}
}

func TestStress(t *testing.T) {
	length := stressTime
	if v := os.Getenv("PGVALET_STRESS"); v != "" {
		length = must(time.ParseDuration(v))(t)
	}
	if testing.Short() {
		length /= 10
	}
	d := newDatabase(t)
	d.exec(
		"CREATE TABLE stress_rows (owner text)",
		"CREATE TABLE stress_copy (owner text, n int)",
		`CREATE FUNCTION stress_sleep(token text, seconds float) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			RAISE NOTICE '`+runningNotice+`';
			PERFORM pg_sleep(seconds);
			RETURN token;
		END $$`,
		"CREATE INDEX ON stress_rows (owner)",
		"CREATE INDEX ON stress_copy (owner)",
	)
	p := newPooler(t)
	p.args = nil
	rds := startRDS(t, d)
	// Cancel requests take their time on the way, so that those which must not
	// be overtaken could be.
	rds.Set(func(k *backendtest.Knobs) { k.AcceptLatency = 20 * time.Millisecond })
	p.serveRDS(rds, d)["pool_size"] = stressPool
	p.conf.set("event_loops", 3)
	p.conf.set("max_prepared_statements", 10) // so that many are evicted
	p.conf.set("server_login_retry", "50ms")
	p.conf.set("scram_iterations", 16)
	p.start()
	s := &stress{
		t: t, p: p, d: d, rds: rds, over: make(chan struct{}),
		done: map[string]int{}, lost: map[string]int{},
	}

	var running sync.WaitGroup
	running.Go(s.chaos)
	for _, kind := range stressKinds {
		for i := range stressEach {
			running.Go((&stressClient{stress: s, kind: kind, id: fmt.Sprintf("%s-%d", strings.ReplaceAll(kind.name, " ", "-"), i)}).run)
		}
	}
	time.AfterFunc(length, func() { close(s.over) })
	running.Wait()

	for _, kind := range stressKinds {
		if s.done[kind.name] == 0 && kind.name != "leavers" {
			t.Errorf("%s: not one step went well", kind.name)
		}
	}
	total := 0
	for _, n := range s.lost {
		total += n
	}
	if n := s.lost[midMessage]; n > 1+total/10 {
		t.Errorf("%d of %d lost connections ended without a word", n, total)
	}
	t.Logf("steps: %v; connections lost: %v; %d logins and %d cancel requests at the server", s.done, s.lost, rds.Stats().Logins, rds.Stats().Cancels)
	s.checkAfter()
}

// checkAfter looks at what is left when everybody has gone.
func (s *stress) checkAfter() {
	t, p, d := s.t, s.p, s.d
	p.conf.databases["shop"]["pool_size"] = stressPool
	p.reload()
	d.until(0, "state <> 'idle'")
	if n := d.servers("true"); n > stressPool {
		t.Errorf("%d servers, pool_size is %d", n, stressPool)
	}
	// Every place of the pool can be had, and at the same time.
	var all []*pgx.Conn
	for i := range stressPool {
		conn := p.connect(t)
		if got := one(t, conn, fmt.Sprintf("BEGIN; SELECT %d", i)); got != strconv.Itoa(i) {
			t.Errorf("got %s, want %d", got, i)
		}
		all = append(all, conn)
	}
	d.until(stressPool, "state = 'idle in transaction'")
	for _, conn := range all {
		one(t, conn, "COMMIT; SELECT 1")
	}
	d.until(0, "state <> 'idle'")
	if n := d.servers("true"); n != stressPool {
		t.Errorf("%d servers after %d were in use, pool_size is the same", n, stressPool)
	}

	if kb := residentKB(t, p.cmd.Process.Pid); kb > 1<<20 {
		t.Errorf("pgvalet has %d MB of memory", kb>>10)
	}
	// A dump of all goroutines ends the process.
	p.signal(syscall.SIGABRT)
	p.exit(2)
	if n := len(regexp.MustCompile(`(?m)^goroutine \d+ `).FindAllString(p.log.String(), -1)); n < 5 || n > 60 {
		t.Errorf("%d goroutines with %d clients and %d servers", n, len(all), stressPool)
	}
}

// residentKB returns the memory of a process, 0 where the system has no /proc.
func residentKB(t *testing.T, pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmRSS in %s", status)
	}
	return must(strconv.Atoi(string(m[1])))(t)
}
