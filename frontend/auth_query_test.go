package frontend

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// login connects as user to the database, runs a query and returns its answer
// and the outcome.
func (r *rig) login(database, user, password, more string) (string, string) {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(r.addr)
	ctx, cancel := context.WithTimeout(r.t.Context(), testTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=%s port=%s dbname=%s user=%s password='%s' sslmode=disable %s", host, port, database, user, password, more))
	if err != nil {
		return "", outcome(err)
	}
	defer conn.Close(ctx)
	var answer string
	err = conn.QueryRow(ctx, "select current_user::text", pgx.QueryExecModeSimpleProtocol).Scan(&answer)
	return answer, outcome(err)
}

// logins makes roles of the test's own, whose password is the package's, and a
// role that may read them. It returns a configuration with databases for it.
func logins(t *testing.T) (lines string) {
	t.Helper()
	pg := shared.Postgres(t)
	for name, method := range map[string]backendtest.AuthMethod{"aq_md5": backendtest.MD5, "aq_scram": backendtest.SCRAM, "aq_none": backendtest.Trust} {
		if err := pg.CreateLogin(t.Context(), name, method, password); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { admin(t, "DROP ROLE IF EXISTS "+name) })
	}
	database := func(name, more string) string {
		return fmt.Sprintf("[databases.%s]\nhost = %q\nport = %d\ndbname = \"postgres\"\n%s\n", name, pg.Host, pg.Port, more)
	}
	return "\nauth_user = 'postgres'\ndefault_pool_size = 5\n" + database("own", "") +
		database("forced", "user = 'postgres'") +
		database("else_where", "auth_dbname = 'own'") +
		database("missing", "auth_dbname = 'nowhere'") +
		database("reserved", "auth_dbname = 'pgbouncer'") +
		database("one", "auth_query = 'select $1::text'") +
		database("broken", "auth_query = 'select $1, no_such_column'") +
		database("several", "auth_query = 'select $1::text, n::text from generate_series(1, 2) n'") +
		database("renamed", "auth_query = '''select 'somebody', $1::text'''") +
		database("nobody", "auth_user = 'aq_missing'")
}

func TestAuthQuery(t *testing.T) {
	const (
		noUser   = "28000 no such user"
		internal = "XX000 bouncer config error"
		failed   = "28P01 SASL authentication failed"
	)
	for _, authType := range []string{"md5", "plain", "scram-sha-256", "trust"} {
		r := newRig(t, "auth_type = '"+authType+"'"+logins(t))
		r.setUsers("\"listed\" \"secret\"\n\"postgres\" \"\"")
		wrong := map[string]string{"plain": "28P01 password authentication failed", "md5": "28P01 password authentication failed", "scram-sha-256": failed}
		wrongScram := wrong[authType]
		if authType == "md5" {
			wrongScram = failed
		}
		for _, tt := range []struct{ database, user, password, want string }{
			{"own", "aq_scram", password, "ok"},
			{"own", "aq_scram", "wrong", wrongScram},
			{"forced", "aq_scram", password, "ok"},
			{"else_where", "aq_scram", password, "ok"},
			{"own", "aq_none", "x", wrong[authType]}, // NULL
			{"own", "aq_missing", password, noUser},
			{"missing", "aq_scram", password, internal},
			{"reserved", "aq_scram", password, internal},
			{"one", "aq_scram", password, internal},
			{"broken", "aq_scram", password, internal},
			{"several", "aq_scram", password, internal},
			{"renamed", "aq_scram", password, internal},
			{"nobody", "aq_scram", password, `28000 role "aq_missing" does not exist`},
			{"nowhere", "aq_scram", "x", wrong[authType]}, // and nobody is asked
			{"own", "listed", "wrong", wrong[authType]},   // auth_file holds
		} {
			if authType == "trust" && (tt.want == "" || tt.database == "nowhere" || tt.user == "listed") {
				continue
			}
			if authType == "trust" && tt.user == "aq_scram" && tt.database != "forced" && tt.want == "ok" {
				tt.want = `28000 server login failed: wrong password type` // nobody has shown the keys
			}
			if authType == "plain" && tt.database != "forced" && tt.want == "ok" {
				tt.want = `28000 server login failed: wrong password type`
			}
			if _, got := r.login(tt.database, tt.user, tt.password, ""); got != tt.want {
				t.Errorf("%s, %s as %s with %q: %q, want %q", authType, tt.database, tt.user, tt.password, got, tt.want)
			}
		}
		want := map[bool]string{true: "ok", false: failed}[authType != "scram-sha-256"]
		if who, got := r.login("own", "aq_md5", password, ""); got != want || got == "ok" && who != "aq_md5" {
			t.Errorf("%s as aq_md5: %q as %q, want %q", authType, got, who, want)
		}
	}
}

// TestAuthQueryDisabled has a database that the console has disabled not asked.
func TestAuthQueryDisabled(t *testing.T) {
	r := newRig(t, "auth_type = 'scram-sha-256'"+logins(t))
	r.setUsers(`"postgres" ""`)
	const disabled = `55000 authentication database "own" is disabled`
	for _, want := range []string{"ok", disabled, "ok"} {
		if err := r.pools.SetDisabled("own", want == disabled); err != nil {
			t.Fatal(err)
		}
		if _, got := r.login("else_where", "aq_scram", password, ""); got != want {
			t.Errorf("with its auth_dbname: %q, want %q", got, want)
		}
		if _, got := r.login("own", "aq_scram", password, ""); got != want {
			t.Errorf("itself: %q, want %q", got, want)
		}
	}
}

// TestAuthQuerySettings checks that neither the client's settings nor those of an
// earlier client of the same server reach the query.
func TestAuthQuerySettings(t *testing.T) {
	pg := shared.Postgres(t)
	if err := pg.CreateLogin(t.Context(), "aq_set", backendtest.Trust, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin(t, "DROP ROLE aq_set") })
	r := newRig(t, fmt.Sprintf(`
auth_type = "plain"
auth_user = "postgres"
auth_query = "select $1::text, current_setting('application_name') || current_setting('IntervalStyle')"
[databases.own]
host = %q
port = %d
dbname = "postgres"`, pg.Host, pg.Port))
	r.setUsers(`"postgres" "x"`)
	evil := "application_name=evil options='-c IntervalStyle=sql_standard'"
	if _, got := r.login("own", "postgres", "x", evil); got != "ok" {
		t.Fatal(got)
	}
	for range 2 {
		if _, got := r.login("own", "aq_set", "postgres", evil); got != "ok" {
			t.Errorf("the query has seen a client's settings: %s", got)
		}
	}
}

// TestAuthQueryStorm has many logins of one user ask only as often as the
// database answers, and yet see a change at once.
func TestAuthQueryStorm(t *testing.T) {
	pg := shared.Postgres(t)
	name := table(t, "secret text")
	admin(t, "INSERT INTO "+name+" VALUES ('old')", "DROP SEQUENCE IF EXISTS aq_asked", "CREATE SEQUENCE aq_asked")
	t.Cleanup(func() { admin(t, "DROP SEQUENCE aq_asked") })
	r := newRig(t, fmt.Sprintf(`
auth_type = "plain"
auth_user = "postgres"
auth_query = "select $1::text, secret from %s, nextval('aq_asked'), pg_sleep(0.1)"
[databases.own]
host = %q
port = %d
user = "postgres"
dbname = "postgres"`, name, pg.Host, pg.Port))
	r.setUsers("")
	var wg sync.WaitGroup
	var passed atomic.Int32
	for range 30 {
		wg.Go(func() {
			if _, got := r.login("own", "stormer", "old", ""); got == "ok" {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	conn, err := pg.Connect(t.Context(), "postgres", pg.Superuser)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var asked int
	if err := conn.QueryRow(t.Context(), "select last_value from aq_asked").Scan(&asked); err != nil {
		t.Fatal(err)
	}
	if passed.Load() != 30 || asked > 15 {
		t.Errorf("%d of 30 logins passed, the query was run %d times", passed.Load(), asked)
	}
	admin(t, "UPDATE "+name+" SET secret = 'new'")
	if _, got := r.login("own", "stormer", "old", ""); got != "28P01 password authentication failed" {
		t.Errorf("the old password is accepted: %s", got)
	}
	if _, got := r.login("own", "stormer", "new", ""); got != "ok" {
		t.Errorf("the new password is not: %s", got)
	}
}

// TestAuthQueryGivenUp leaves nothing behind when the client does not wait.
func TestAuthQueryGivenUp(t *testing.T) {
	pg := shared.Postgres(t)
	r := newRig(t, fmt.Sprintf(`
auth_type = "plain"
auth_user = "postgres"
auth_query = "select $1::text, pg_sleep(600)::text"
query_wait_timeout = 0.2
[databases.own]
host = %q
port = %d
dbname = "postgres"`, pg.Host, pg.Port))
	r.setUsers("")
	if _, got := r.login("own", "waiter", "x", ""); got != "53300 query_wait_timeout" {
		t.Errorf("got %s", got)
	}
	r.awaitRest()
}

// TestPassThrough logs in to the server with what the client has shown: with
// SCRAM only as long as server and auth_file have the very same secret.
func TestPassThrough(t *testing.T) {
	pg := shared.Postgres(t)
	if err := pg.CreateLogin(t.Context(), "aq_keys", backendtest.SCRAM, password); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { admin(t, "DROP ROLE aq_keys") })
	conn, err := pg.Connect(t.Context(), "postgres", pg.Superuser)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var secret string
	if err := conn.QueryRow(t.Context(), "select rolpassword from pg_authid where rolname = 'aq_keys'").Scan(&secret); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, fmt.Sprintf(`
auth_type = "scram-sha-256"
[databases.own]
host = %q
port = %d
dbname = "postgres"
[databases.forced]
host = %q
port = %d
user = "aq_keys"
dbname = "postgres"`, pg.Host, pg.Port, pg.Host, pg.Port))
	r.setUsers(fmt.Sprintf("\"aq_keys\" %q\n\"other\" \"x\"", secret))
	if _, got := r.login("forced", "other", "x", ""); got != "28000 server login failed: wrong password type" {
		t.Errorf("before anybody has shown the keys: %s", got)
	}
	for _, database := range []string{"own", "forced"} {
		if who, got := r.login(database, "aq_keys", password, ""); got != "ok" || who != "aq_keys" {
			t.Errorf("%s: %s as %q", database, got, who)
		}
	}
	if err := r.pools.Reconnect(""); err != nil {
		t.Fatal(err)
	}
	if _, got := r.login("forced", "other", "x", ""); got != "ok" {
		t.Errorf("with the keys of an earlier client: %s", got)
	}
	r.setUsers(fmt.Sprintf("\"aq_keys\" %q", verifier(password)))
	if err := r.pools.Reconnect(""); err != nil {
		t.Fatal(err)
	}
	if _, got := r.login("own", "aq_keys", password, ""); !strings.HasPrefix(got, "28000 server login failed") {
		t.Errorf("with another secret of the same password: %s", got)
	}
}
