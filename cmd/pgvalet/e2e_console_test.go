package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// consoleScript is what is asked of both consoles, in turn, on one connection.
var consoleScript = []string{
	"SHOW HELP", "SHOW VERSION", "SHOW CONFIG", "SHOW DATABASES", "SHOW POOLS", "SHOW CLIENTS", "SHOW SERVERS", "SHOW SOCKETS", "SHOW ACTIVE_SOCKETS",
	"SHOW STATS", "SHOW STATS_TOTALS", "SHOW STATS_AVERAGES", "SHOW TOTALS", "SHOW USERS", "SHOW LISTS", "SHOW PEERS", "SHOW PEER_POOLS", "SHOW FDS",
	"SHOW MEM", "SHOW DNS_HOSTS", "SHOW DNS_ZONES", "SHOW STATE;", "SELECT version", "select POOLS ;",
	"SHOW client_encoding", "SHOW DateStyle", "SHOW TIMEZONE", "SHOW standard_conforming_strings", "SHOW default_transaction_isolation",
	"SET datestyle = 'ISO'", "SET TimeZone TO utc", "SET pool_mode=transaction", "set query_timeout to '1.5'", "SET query_timeout = soon", "SET no_such_setting = 1",
	"SET listen_port = 1", "SHOW", "SHOW nothing", "BEGIN", "SELECT 1", "SET x", "RELOAD now", "",

	"PAUSE", "SHOW STATE", "PAUSE", "PAUSE app", "KILL", "SUSPEND", "RESUME app", "RESUME", "RESUME", "SHOW STATE",
	"PAUSE app", "PAUSE app", "SHOW STATE", "SUSPEND", "RESUME", "RESUME app", "RESUME app",
	"KILL app", "RESUME", "RESUME app", "SUSPEND", "SHOW STATE", "PAUSE", "RESUME",
	"RECONNECT", "RECONNECT app", "WAIT_CLOSE", "WAIT_CLOSE app", "DISABLE app", "SHOW DATABASES", "ENABLE app", "DISABLE", "ENABLE",
	"PAUSE nothere", "RESUME nothere", "KILL nothere", "RECONNECT nothere", "WAIT_CLOSE nothere", "DISABLE nothere", "ENABLE nothere",
	"PAUSE pgbouncer", "RESUME pgbouncer", "KILL pgbouncer", "RECONNECT pgbouncer", "WAIT_CLOSE pgbouncer", "DISABLE pgbouncer", "ENABLE pgbouncer",
	"KILL_CLIENT", "KILL_CLIENT it", "KILL_CLIENT 4711", "RELOAD", "SHOW STATE", "SHUTDOWN SOON",
	"SHUTDOWN WAIT_FOR_CLIENTS",
}

// sameRows are the statements whose rows are the same too.
var sameRows = []string{"SHOW STATE", "SHOW STATE;", "SHOW client_encoding", "SHOW DateStyle", "SHOW TIMEZONE", "SHOW standard_conforming_strings", "SHOW default_transaction_isolation"}

// sameNames are those whose first column is.
var sameNames = []string{"SHOW DATABASES", "SHOW LISTS", "SHOW TOTALS", "SHOW POOLS", "select POOLS ;"}

// consoleDifferences are the statements that pgvalet answers in another way
// than PgBouncer 1.25.2, with the reason.
var consoleDifferences = map[string]string{
	"SHOW STATS":          "client_login_count is of the next version of PgBouncer",
	"SHOW STATS_TOTALS":   "client_login_count is of the next version of PgBouncer",
	"SHOW STATS_AVERAGES": "client_login_count is of the next version of PgBouncer",
	"SHOW TOTALS":         "client_login_count is of the next version of PgBouncer",
	"SET listen_port = 1": "PgBouncer says that it has set what it has not",
	"":                    "drivers ask an empty query to see whether a connection lives",
	"ENABLE pgbouncer":    "the text of the next version of PgBouncer",
}

// TestConsoleIsLikePgBouncers runs one script on the consoles of PgBouncer, if
// the machine has it, and pgvalet, with one configuration.
func TestConsoleIsLikePgBouncers(t *testing.T) {
	pgbouncer := os.Getenv("PGBOUNCER")
	if pgbouncer == "" {
		pgbouncer = "/usr/sbin/pgbouncer"
	}
	if _, err := os.Stat(pgbouncer); err != nil {
		t.Skip("no PgBouncer to compare with: ", err)
	}
	credential := must(backendtest.Unprivileged())(t) // PgBouncer refuses to run as root
	theirs, ours := runConsoleScript(t, pgbouncer, credential), runConsoleScript(t, "pgvalet", nil)
	for i, sql := range consoleScript {
		_, different := consoleDifferences[sql]
		if same := ours[i] == theirs[i]; same == different {
			t.Errorf("%q\npgvalet:   %s\nPgBouncer: %s", sql, ours[i], theirs[i])
		}
	}
}

// runConsoleScript starts a pooler and returns its answers to consoleScript.
func runConsoleScript(t *testing.T, program string, credential *syscall.Credential) []string {
	t.Helper()
	dir := must(os.MkdirTemp("", "console"))(t)
	t.Cleanup(func() { os.RemoveAll(dir) })
	port := must(backendtest.FreePort())(t)
	ini := filepath.Join(dir, "pooler.ini")
	for name, content := range map[string]string{
		ini: fmt.Sprintf(`[databases]
app = host=127.0.0.1 port=1 dbname=app user=app
rest = host=127.0.0.1 port=1 pool_mode=statement pool_size=3

[users]
admin = pool_size=2

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = trust
auth_file = %s
admin_users = admin
logfile = %s
`, port, filepath.Join(dir, "users.txt"), filepath.Join(dir, "log")),
		filepath.Join(dir, "users.txt"): `"admin" ""` + "\n",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if credential != nil {
		if err := os.Chown(dir, int(credential.Uid), int(credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "-q", ini)
	cmd.SysProcAttr = backendtest.ChildAttr(credential, syscall.SIGKILL)
	process, err := backendtest.StartProcess(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = process.Stop(testPatience, syscall.SIGQUIT) })

	config := must(pgconn.ParseConfig(fmt.Sprintf("postgres://admin@127.0.0.1:%d/pgbouncer?sslmode=disable", port)))(t)
	notices := []string{}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		notices = append(notices, n.Severity+" "+n.Code+" "+n.Message)
	}
	var conn *pgconn.PgConn
	eventually(t, program+" takes clients", func() bool {
		conn, err = pgconn.ConnectConfig(testContext(t), config)
		return err == nil
	})
	defer conn.Close(context.Background())
	answers := make([]string, len(consoleScript))
	for i, sql := range consoleScript {
		notices = notices[:0]
		answers[i] = answerOf(t, conn, sql) + strings.Join(notices, "; ")
	}
	return answers
}

// answerOf sends a query and returns the columns of the answer with their types,
// its tag, its error, and as much of the rows as is to be the same.
func answerOf(t *testing.T, conn *pgconn.PgConn, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	var b strings.Builder
	results := conn.Exec(ctx, sql)
	for results.NextResult() {
		r := results.ResultReader()
		for _, f := range r.FieldDescriptions() {
			fmt.Fprintf(&b, "%s:%d/%d ", f.Name, f.DataTypeOID, f.DataTypeSize)
		}
		var rows []string
		for r.NextRow() {
			switch {
			case slices.Contains(sameRows, sql):
				rows = append(rows, fmt.Sprintf("%s", r.Values()))
			case slices.Contains(sameNames, sql):
				rows = append(rows, string(r.Values()[0]))
			}
		}
		slices.Sort(rows) // PgBouncer's order is that of its lists
		tag, _ := r.Close()
		fmt.Fprintf(&b, "%s tag %q ", rows, tag)
	}
	err := results.Close()
	var e *pgconn.PgError
	switch {
	case errors.As(err, &e):
		fmt.Fprintf(&b, "%s %s %s ", e.Severity, e.Code, e.Message)
	case err != nil:
		t.Fatalf("%q: %v", sql, err)
	}
	return b.String()
}
