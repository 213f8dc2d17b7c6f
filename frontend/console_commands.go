package frontend

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

// consoleCommand is one command of the console. The table of them is the source
// of what the console understands, of SHOW HELP and of docs/console.md.
type consoleCommand struct {
	name    string // in upper case; of SHOW with what is shown
	args    string // as the help writes them; empty: none
	admin   bool   // only for admin_users
	fake    bool   // a parameter of PostgreSQL that the console pretends to have
	help    string // a sentence or more for the reference page
	columns []column
	// One of these. rows is for SHOW: it needs nothing of the session.
	rows func(c *Console) [][]any
	run  func(s *consoleSession, st *consoleStatement) error
}

// tag is the command's tag in CommandComplete.
func (c *consoleCommand) tag() string {
	tag, _, _ := strings.Cut(c.name, " ")
	return tag
}

func consoleCommands() []consoleCommand {
	list := showCommands()
	list = append(list, []consoleCommand{
		{
			name: "SET", args: "name = value", run: (*consoleSession).setParameter,
			help: "Gives a setting of the main section another value, as a `RELOAD` with it in the file would. The next `RELOAD` undoes it. Settings that only a restart applies are refused. " +
				"TLS settings that are not valid together yet take effect as soon as they are. The parameters below are accepted from everybody, without an effect, for drivers that set them unasked.",
		},
		{
			name: "RELOAD", admin: true, run: (*consoleSession).reload,
			help: "Reads the configuration and all files that it names again, as SIGHUP does. With an error everything stays as it was.",
		},
		{
			name: "PAUSE", args: "[db]", admin: true, run: (*consoleSession).pause,
			help: "Lends no more servers of the database, or of all, closes them as they become free, and returns when the last is closed. " +
				"Clients stay connected and wait. Cancelling the command, or disconnecting before it has returned, undoes it.",
		},
		{
			name: "RESUME", args: "[db]", admin: true, run: (*consoleSession).resume,
			help: "Undoes `PAUSE` of the same database, or `KILL`; without a database `PAUSE` of all, or `SUSPEND`.",
		},
		{
			name: "DISABLE", args: "db", admin: true, run: (*consoleSession).disable,
			help: "Turns new clients of the database away. Those that are connected stay.",
		},
		{
			name: "ENABLE", args: "db", admin: true, run: (*consoleSession).enable,
			help: "Undoes `DISABLE`.",
		},
		{
			name: "RECONNECT", args: "[db]", admin: true, run: (*consoleSession).reconnect,
			help: "Replaces the servers of the database, or all: each is closed as soon as it is free.",
		},
		{
			name: "WAIT_CLOSE", args: "[db]", admin: true, run: (*consoleSession).waitClose,
			help: "Returns when all servers of the database, or of all, that are to be closed are closed: after `RECONNECT`, or a `RELOAD` that has changed where they are.",
		},
		{
			name: "KILL", args: "[db]", admin: true, run: (*consoleSession).kill,
			help: "Drops the clients and the servers of the database, or of each, at once, and pauses it until `RESUME db`.",
		},
		{
			name: "KILL_CLIENT", args: "id", admin: true, run: (*consoleSession).killClient,
			help: "Drops one client, by its `id` in `SHOW CLIENTS`.",
		},
		{
			name: "SUSPEND", admin: true, run: (*consoleSession).suspend,
			help: "Stops all traffic: reads nothing more from clients and servers, and returns when what was read is sent. Clients that do not take it within `suspend_timeout` are closed. " +
				"Whoever disconnects after it, or cancels it, resumes.",
		},
		{
			name: "SHUTDOWN", args: "[WAIT_FOR_SERVERS | WAIT_FOR_CLIENTS]", admin: true, run: (*consoleSession).shutdown,
			help: "Ends the process: at once; or, lending no more servers, when no server is left; or, accepting no more clients, when no client is left.",
		},
	}...)
	for _, p := range [...]Parameter{
		{"client_encoding", "UTF-8"},
		{"default_transaction_isolation", "read committed"},
		{"standard_conforming_strings", "on"},
		{"datestyle", "ISO"},
		{"timezone", "GMT"},
		{"application_name", ""},
		{"extra_float_digits", "1"},
		{"transaction_read_only", "off"},
	} {
		list = append(list, consoleCommand{
			name: "SHOW " + strings.ToUpper(p.Name), fake: true,
			columns: []column{{p.Name, columnText}},
			rows:    func(*Console) [][]any { return [][]any{{p.Value}} },
		})
	}
	return list
}

// failure is an error that the session survives.
func failure(code, message string) *Error {
	return &Error{Severity: "ERROR", Code: code, Message: message}
}

// complaint is an error of a command. PgBouncer has one code for all of them,
// which its tools may compare: on the console, alone, it is kept.
func complaint(message string) *Error { return failure("08P01", message) }

// The errors of the console's commands, in PgBouncer's words.
var (
	errAdminNeeded   = complaint("admin access needed")
	errReload        = failure("F0000", "RELOAD failed, see logs for additional details")
	errSet           = complaint("SET failed")
	errClientPointer = complaint("invalid client pointer supplied")
	errNoClient      = complaint("client not found")
	errNeedsDatabase = complaint("a database is required")
	errSuspendPaused = complaint("cannot suspend with paused databases")
	errEnding        = complaint("pooler is shutting down")
	errCanceled      = failure("57014", "canceling statement due to user request")
)

// adminVerbs are how an error names a command that the console's own database
// cannot have done to it.
var adminVerbs = map[string]string{"WAIT_CLOSE": "wait in"}

// poolError turns the error of a command about a database into what the client
// is told.
func poolError(st *consoleStatement, err error) error {
	switch {
	case errors.Is(err, pool.ErrNotPaused) && st.arg != "", errors.Is(err, pool.ErrNoSuchDatabase) && config.IsConsole(st.arg) && st.command.name == "RESUME":
		return complaint("database " + printable(st.arg) + " is not paused")
	case errors.Is(err, pool.ErrNoSuchDatabase) && config.IsConsole(st.arg):
		return complaint(fmt.Sprintf("cannot %s admin db: %s", cmp.Or(adminVerbs[st.command.name], strings.ToLower(st.command.name)), st.arg))
	case errors.Is(err, pool.ErrNoSuchDatabase):
		return complaint("no such database: " + printable(st.arg))
	case errors.Is(err, pool.ErrAlreadyPaused), errors.Is(err, pool.ErrNotPaused), errors.Is(err, pool.ErrResumed):
		return complaint(err.Error())
	}
	return err
}

// note writes the command to the log, as PgBouncer does.
func (s *consoleSession) note(st *consoleStatement) {
	name := st.command.name
	if st.arg != "" {
		name += " '" + printable(st.arg) + "'"
	}
	s.log.Info(name + " command issued")
}

func (s *consoleSession) setParameter(st *consoleStatement) error {
	if c := s.console.command("SHOW " + strings.ToUpper(st.arg)); c != nil && c.fake {
		s.notice("SET ignored", "")
		return nil
	}
	if admin, _ := consoleRights(s.console.o.Config(), s.login); !admin {
		return errAdminNeeded
	}
	s.log.Info("SET " + printable(st.arg) + "=" + printable(st.value) + " command issued")
	applied, err := s.console.o.Set(config.Assignment{Key: st.arg, Text: st.value})
	if err != nil {
		s.log.Warn("SET failed: " + printable(err.Error()))
		return errSet
	}
	if !applied {
		s.notice("TLS settings could not be applied, still using old configuration", "")
	}
	st.tag = "SET " + st.arg + "=" + st.value
	return nil
}

func (s *consoleSession) reload(st *consoleStatement) error {
	s.note(st)
	if s.console.o.Reload() != nil { // which has logged it
		return errReload
	}
	return nil
}

// undone runs a command that takes effect at once and then waits, and undoes it
// if the client does not wait for its end.
func (s *consoleSession) undone(st *consoleStatement, command func(ctx context.Context) error, undo func()) error {
	err := s.wait(command)
	switch {
	case errors.Is(err, errInterrupted):
		s.log.Info(st.command.name + " was cancelled, doing RESUME")
		undo()
		return errCanceled
	case errors.Is(err, errClientGone):
		s.log.Info("admin disappeared during " + st.command.name + ", doing RESUME")
		undo()
	}
	return poolError(st, err)
}

func (s *consoleSession) pause(st *consoleStatement) error {
	s.note(st)
	pools := s.console.o.Pools
	if s.console.o.Sessions.Suspended() {
		return poolError(st, pool.ErrAlreadyPaused)
	}
	return s.undone(st, func(ctx context.Context) error { return pools.Pause(ctx, st.arg) }, func() {
		_ = pools.Resume(st.arg) // somebody else may have done it
	})
}

func (s *consoleSession) suspend(st *consoleStatement) error {
	s.note(st)
	sessions, pools := s.console.o.Sessions, s.console.o.Pools
	switch {
	case pools.PausedAll():
		return poolError(st, pool.ErrAlreadyPaused)
	case pools.AnyPaused():
		return errSuspendPaused
	}
	err := s.undone(st, sessions.Suspend, func() {}) // it has undone it itself
	s.suspender = s.suspender || err == nil
	return err
}

func (s *consoleSession) resume(st *consoleStatement) error {
	s.note(st)
	switch {
	case st.arg != "":
	case s.console.o.ShuttingDown():
		return errEnding
	case s.console.o.Sessions.Resume():
		return nil
	}
	return poolError(st, s.console.o.Pools.Resume(st.arg))
}

func (s *consoleSession) disable(st *consoleStatement) error { return s.setDisabled(st, true) }

func (s *consoleSession) enable(st *consoleStatement) error { return s.setDisabled(st, false) }

func (s *consoleSession) setDisabled(st *consoleStatement, disabled bool) error {
	if st.arg == "" {
		return errNeedsDatabase
	}
	s.note(st)
	return poolError(st, s.console.o.Pools.SetDisabled(st.arg, disabled))
}

func (s *consoleSession) waitClose(st *consoleStatement) error {
	s.note(st)
	err := s.wait(func(ctx context.Context) error { return s.console.o.Pools.WaitClose(ctx, st.arg) })
	if errors.Is(err, errInterrupted) {
		return errCanceled
	}
	return poolError(st, err)
}

func (s *consoleSession) reconnect(st *consoleStatement) error {
	s.note(st)
	return poolError(st, s.console.o.Pools.Reconnect(st.arg))
}

func (s *consoleSession) kill(st *consoleStatement) error {
	s.note(st)
	if s.console.o.Sessions.Suspended() {
		return poolError(st, pool.ErrAlreadyPaused)
	}
	if err := s.console.o.Pools.Kill(st.arg); err != nil {
		return poolError(st, err)
	}
	s.console.o.Sessions.Kill(st.arg, errRemoved)
	return nil
}

func (s *consoleSession) killClient(st *consoleStatement) error {
	s.note(st)
	id, err := strconv.Atoi(st.arg)
	if err != nil {
		return errClientPointer
	}
	if !s.console.killClient(id) {
		return errNoClient
	}
	return nil
}

func (s *consoleSession) shutdown(st *consoleStatement) error {
	mode, ok := map[string]ShutdownMode{
		"": ShutdownNow, "WAIT_FOR_SERVERS": ShutdownWaitForServers, "WAIT_FOR_CLIENTS": ShutdownWaitForClients,
	}[strings.ToUpper(st.arg)]
	if !ok {
		return invalidCommand(st.text)
	}
	s.note(st)
	s.console.o.Shutdown(mode)
	if mode != ShutdownNow {
		return nil
	}
	// Whoever asks for it may take the end of the connection for the end of
	// the process.
	return s.wait(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
}

// showHelp answers with a notice, as PgBouncer does.
func (s *consoleSession) showHelp(*consoleStatement) error {
	var b strings.Builder
	var shows []string
	for i := range s.console.commands {
		if c := &s.console.commands[i]; c.tag() == "SHOW" && !c.fake {
			shows = append(shows, strings.TrimPrefix(c.name, "SHOW "))
		}
	}
	const perLine = 6
	for ; len(shows) > perLine; shows = shows[perLine:] {
		b.WriteString("\n\tSHOW " + strings.Join(shows[:perLine], "|"))
	}
	b.WriteString("\n\tSHOW " + strings.Join(shows, "|"))
	for i := range s.console.commands {
		if c := &s.console.commands[i]; c.tag() != "SHOW" {
			b.WriteString(strings.TrimRight("\n\t"+c.name+" "+c.args, " "))
		}
	}
	s.notice("Console usage", b.String())
	return nil
}
