package frontend

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// consoleName is what the console's database, and the user of its pool, are
// called in its own tables, whatever name a client asked for.
const consoleName = "pgbouncer"

// imitated is the version of PgBouncer whose console this one is like. Tools
// decide by it which columns to expect.
const imitated = "1.25.2"

// Version is how pgvalet of the given version introduces itself where PgBouncer
// would. Tools look for a version of PgBouncer there, and take the first one.
func Version(own string) string { return "PgBouncer " + imitated + " (pgvalet " + own + ")" }

// ShutdownMode is how much SHUTDOWN waits for.
type ShutdownMode int

// The modes of SHUTDOWN.
const (
	ShutdownNow            ShutdownMode = iota
	ShutdownWaitForServers              // lend no more servers, end when none is left
	ShutdownWaitForClients              // accept no more clients, end when none is left
)

// ConsoleOptions is what a Console needs; every field must be set. The
// functions are called from many goroutines.
type ConsoleOptions struct {
	Config   func() *config.Config
	Pools    *pool.Pools
	Sessions *Sessions
	// Reload reads the configuration again. It logs its error itself.
	Reload func() error
	// Set gives a setting another value until the next Reload. applied is false
	// if it has to wait for other settings.
	Set func(a config.Assignment) (applied bool, err error)
	// Status is told the figures of each stats_period, if it is not nil.
	Status func(line string)
	// Shutdown begins to end the process, and returns at once; ShuttingDown
	// reports whether that has begun.
	Shutdown     func(mode ShutdownMode)
	ShuttingDown func() bool
	Version      string // pgvalet's own
	// LoggingIn returns the logins in progress, Listeners what is accepted on,
	// Users the names in auth_file.
	LoggingIn func() []ClientInfo
	Listeners func() []net.Listener
	Users     func() []string
	Log       *zap.Logger
}

// Console is the database "pgbouncer": it shows what pgvalet is doing and takes
// the operator's commands, in PgBouncer's words.
type Console struct {
	// Static after NewConsole.
	o        ConsoleOptions
	commands []consoleCommand
	stats    statsKeeper
	ctx      context.Context // done when Close begins
	cancel   context.CancelFunc
	wg       sync.WaitGroup // sessions and the keeper of the stats

	mu       sync.Mutex // guards the fields below, and wg.Add against Close
	sessions map[*consoleSession]struct{}
	closed   bool
	counted  pool.Stats // of the console's own sessions
}

// NewConsole returns a console, and starts to keep the statistics that it
// shows. Close must follow.
func NewConsole(o ConsoleOptions) *Console {
	c := &Console{o: o, commands: consoleCommands(), sessions: make(map[*consoleSession]struct{})}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.stats.start(time.Now())
	c.wg.Go(c.keepStats)
	return c
}

// Close ends the sessions at once and without a word, as PgBouncer does, and
// returns when they and the keeper of the statistics are gone. The event loops
// must still run.
func (c *Console) Close() {
	c.mu.Lock()
	c.closed = true
	c.cancel() // first: it is why they end
	for s := range c.sessions {
		s.login.Transport.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// Admit takes a client over and serves it on a goroutine of its own. On error
// the caller still owns the connection.
func (c *Console) Admit(_ context.Context, l *Login) error {
	if err := l.Transport.SetDeadline(time.Time{}); err != nil {
		return err
	}
	s := newConsoleSession(c, l)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errShuttingDown
	}
	c.sessions[s] = struct{}{}
	c.counted.ClientLogins++
	c.wg.Go(s.run)
	return nil
}

// remove takes a session that has ended out of the tables.
func (c *Console) remove(s *consoleSession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, s)
}

// countQuery counts a command for SHOW STATS, which is to see itself; the
// function that it returns notes the end.
func (c *Console) countQuery() (ended func()) {
	begin := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counted.Queries++
	c.counted.Xacts++
	return func() {
		took := time.Since(begin)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.counted.QueryTime += took
		c.counted.XactTime += took
	}
}

// count adds to the bytes that clients of the console have sent and received.
func (c *Console) count(received, sent int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counted.Received += uint64(received)
	c.counted.Sent += uint64(sent)
}

// clients returns the state of every client, the console's own among them, in
// the order of their ids.
func (c *Console) clients() []ClientInfo {
	list := c.o.Sessions.Snapshot()
	c.mu.Lock()
	for s := range c.sessions {
		list = append(list, s.info())
	}
	c.mu.Unlock()
	slices.SortFunc(list, func(a, b ClientInfo) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// killClient ends the client that the tables show with this id.
func (c *Console) killClient(id int) bool {
	if c.o.Sessions.KillClient(id) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for s := range c.sessions {
		if shownID(s.login.ID) == id {
			s.login.Transport.Close()
			return true
		}
	}
	return false
}

// shownID is how the tables show an id: it has to fit their column's type.
func shownID(id uint64) int { return int(id & (1<<31 - 1)) }

// pointer is how the tables show what is an address in PgBouncer.
func pointer(id uint64) string {
	if id == 0 {
		return ""
	}
	return "0x" + strconv.FormatUint(id, 16)
}
