package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

var updateFaults = flag.Bool("update-faults", false, "write the table of docs/iam-failures.md from this run")

// faultRig is a pgvalet with two databases: a client of "shop" has a server, and
// keeps using it in a transaction, while clients of "audit" need new ones.
type faultRig struct {
	*pooler
	d   *database
	rds *backendtest.RDS
	aws *backendtest.AWS

	mu      sync.Mutex // guards secrets
	secrets []string   // that no log may hold
}

// fault is a row of the table of failures.
type fault struct {
	name   string
	source backendtest.AWSService // of the credentials; "": the environment
	// plain: the client of "shop" logs in with a password, past the stand-in,
	// because the fault is there from the start.
	plain   bool
	prepare func(*faultRig) // before pgvalet starts
	strike  func(*faultRig) // when "shop" has its server
	mend    func(*faultRig)

	code, says, hint, reason string // what a client of "audit" gets, and what is counted
	recovery                 string // "" : by itself
}

// Bounds of the suite's pgvalet; a fault is answered within the last one.
const (
	faultConnectTimeout = "2s"
	faultLoginTimeout   = "4s"
	faultBound          = 12 * time.Second
)

func knobs(change func(k *backendtest.Knobs)) func(*faultRig) {
	return func(r *faultRig) { r.rds.Set(change) }
}

func refusal(e backendtest.Refusal) func(*faultRig) {
	return knobs(func(k *backendtest.Knobs) { k.Refusal = &e })
}

func awsKnobs(s backendtest.AWSService, change func(k *backendtest.AWSKnobs)) func(*faultRig) {
	return func(r *faultRig) { r.aws.Set(s, change) }
}

// audit changes one key of the database "audit".
func audit(key string, value any) func(*faultRig) {
	return func(r *faultRig) { r.conf.databases["audit"][key] = value }
}

// restoring makes the change and reloads.
func restoring(change func(*faultRig)) func(*faultRig) {
	return func(r *faultRig) { change(r); r.reload() }
}

var (
	wellAgain = knobs(func(k *backendtest.Knobs) {
		k.Refusal, k.RejectAll, k.MaxToken, k.ClockOffset, k.PerSecond, k.Refuse, k.AcceptLatency = nil, false, 0, 0, 0, false, 0
	})
	sourceWell = func(s backendtest.AWSService) func(*faultRig) {
		return awsKnobs(s, func(k *backendtest.AWSKnobs) { *k = backendtest.AWSKnobs{} })
	}
	containerSay = func(change func(k *backendtest.AWSKnobs)) func(*faultRig) {
		return awsKnobs(backendtest.AWSContainer, change)
	}
)

var faults = []fault{
	{
		name: "no credentials found", source: backendtest.AWSIMDS, plain: true,
		prepare: awsKnobs(backendtest.AWSIMDS, func(k *backendtest.AWSKnobs) { k.Status = 404 }), mend: sourceWell(backendtest.AWSIMDS),
		code: "28000", says: "server login failed: no IAM token: no aws credentials found", hint: "Set AWS_ACCESS_KEY_ID or AWS_PROFILE", reason: "no_credentials",
	},
	{
		name: "credentials expired", source: backendtest.AWSContainer, plain: true,
		prepare: containerSay(func(k *backendtest.AWSKnobs) { k.Life = -time.Minute }), mend: sourceWell(backendtest.AWSContainer),
		code: "28000", says: "no IAM token: aws credentials expired", hint: "Renew them at their source", reason: "credentials_expired",
	},
	{
		name: "role not assumable", plain: true, prepare: roleInProfile, mend: sourceWell(backendtest.AWSSTS),
		code: "28000", says: "no IAM token: role cannot be assumed", hint: "trust policy", reason: "role_not_assumable",
	},
	{
		name: "web identity token expired", source: backendtest.AWSSTS, plain: true,
		prepare: awsKnobs(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 400, "ExpiredTokenException" }), mend: sourceWell(backendtest.AWSSTS),
		code: "28000", says: "no IAM token: web identity token not accepted", hint: "Is the token file renewed", reason: "web_identity_refused",
	},
	{
		name: "credential endpoint refuses", source: backendtest.AWSContainer, plain: true,
		prepare: containerSay(func(k *backendtest.AWSKnobs) { k.Status, k.Code = 400, "AccessDeniedException" }), mend: sourceWell(backendtest.AWSContainer),
		code: "28000", says: "no IAM token: credential endpoint refused", hint: "Look at the role of the task, pod or instance", reason: "credentials_unreachable",
	},
	{
		name: "credential endpoint hangs", source: backendtest.AWSContainer, plain: true,
		prepare: func(r *faultRig) { // the pooler gives up before the SDK does
			r.conf.set("server_connect_timeout", "1s")
			containerSay(func(k *backendtest.AWSKnobs) { k.Hang = true })(r)
		}, mend: sourceWell(backendtest.AWSContainer),
		code: "28000", says: "no IAM token: the source of the aws credentials does not answer", hint: "VPC endpoint", reason: "credentials_unreachable",
	},
	{
		name: "credential endpoint cut off", source: backendtest.AWSContainer, plain: true,
		prepare: func(r *faultRig) { // the SDK gives up before the pooler does
			r.conf.set("server_connect_timeout", "15s")
			r.conf.set("client_login_timeout", "20s")
			r.conf.set("query_wait_timeout", "20s")
			containerSay(func(k *backendtest.AWSKnobs) { k.Drop = true })(r)
		}, mend: sourceWell(backendtest.AWSContainer),
		code: "28000", says: "no IAM token: credential endpoint cannot be reached", hint: "VPC endpoint", reason: "credentials_unreachable",
	},
	{
		name: "clock 20 minutes slow", strike: knobs(func(k *backendtest.Knobs) { k.ClockOffset = 20 * time.Minute }), mend: wellAgain,
		code: "28000", says: "PAM authentication failed for user", hint: "this machine's clock is right", reason: "token_refused",
	},
	{
		name: "clock 20 minutes fast", strike: knobs(func(k *backendtest.Knobs) { k.ClockOffset = -20 * time.Minute }), mend: wellAgain,
		code: "28000", says: "PAM authentication failed for user", hint: "this machine's clock is right", reason: "token_refused",
	},
	{
		name: "wrong region", prepare: audit("iam_region", "eu-west-1"), mend: restoring(audit("iam_region", "us-east-1")), recovery: "RELOAD with the right iam_region",
		code: "28000", says: "PAM authentication failed for user", hint: "signed for region eu-west-1, but the endpoint's name says us-east-1", reason: "token_refused",
	},
	{
		name: "alias signed instead of the endpoint", recovery: "RELOAD with the right iam_host",
		prepare: func(r *faultRig) {
			r.conf.databases["audit"]["iam_region"] = "us-east-1"
			r.conf.databases["audit"]["server_tls_name"] = backendtest.DefaultRDSHost
			audit("iam_host", "db.internal.example")(r)
		},
		mend: restoring(audit("iam_host", backendtest.DefaultRDSHost)),
		code: "28000", says: "PAM authentication failed for user", hint: "is not that of an RDS endpoint", reason: "token_refused",
	},
	{
		name: "token refused, later accepted", strike: knobs(func(k *backendtest.Knobs) { k.RejectAll = true }), mend: wellAgain,
		code: "28000", says: "PAM authentication failed for user", hint: "rds-db:connect", reason: "token_refused",
	},
	{
		name: "RDS throttles logins", strike: knobs(func(k *backendtest.Knobs) { k.PerSecond = -1 }), mend: wellAgain,
		code: "28000", says: "PAM authentication failed for user", hint: "iam-db-auth-error", reason: "token_refused",
	},
	{
		name: "role not in rds_iam, SCRAM asked", strike: knobs(func(k *backendtest.Knobs) { k.IAMUsers = nil }), mend: memberAgain,
		code: "28000", says: "server login failed: server did not ask for a cleartext password", hint: "GRANT rds_iam", reason: "not_in_rds_iam",
	},
	{
		name: "role not in rds_iam, md5 asked", strike: knobs(func(k *backendtest.Knobs) { k.IAMUsers, k.Challenge = nil, backendtest.MD5 }), mend: memberAgain,
		code: "28000", says: "server login failed: server did not ask for a cleartext password", hint: "GRANT rds_iam", reason: "not_in_rds_iam",
	},
	{
		name: "certificate of another authority", recovery: "RELOAD with the new bundle",
		prepare: func(r *faultRig) { r.hostIsRDS() },
		strike: func(r *faultRig) {
			if err := r.rds.RotateCA(); err != nil {
				r.t.Fatal(err)
			}
		},
		mend: func(r *faultRig) { r.trust(); r.reload() },
		code: "08001", says: "server certificate verify failed", hint: "curl -O https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem", reason: "certificate",
	},
	{
		name: "certificate of another name", recovery: "RELOAD with the right server_tls_name",
		prepare: audit("server_tls_name", "other.cluster-c0abcdefghij.us-east-1.rds.amazonaws.com"), mend: restoring(audit("server_tls_name", backendtest.DefaultRDSHost)),
		code: "08001", says: "server certificate verify failed", hint: "server_tls_name", reason: "certificate",
	},
	{
		name: "database starts", strike: refusal(backendtest.StartingUp), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): the database system is starting up", hint: "tried again by itself", reason: "not_ready",
	},
	{
		name: "database recovers", strike: refusal(backendtest.InRecovery), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): the database system is in recovery mode", hint: "tried again by itself", reason: "not_ready",
	},
	{
		name: "database full", strike: refusal(backendtest.TooManyClients), mend: wellAgain,
		code: "53300", says: "sorry, too many clients already", hint: "max_connections", reason: "server_full",
	},
	{
		name: "only reserved connections left", strike: refusal(backendtest.ReservedSlots), mend: wellAgain,
		code: "53300", says: "remaining connection slots are reserved", hint: "max_connections", reason: "server_full",
	},
	{
		name: "endpoint hangs up", strike: knobs(func(k *backendtest.Knobs) { k.Refuse = true }), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): server", hint: "tried again by itself", reason: "hung_up",
	},
	{
		name: "endpoint does not answer", strike: knobs(func(k *backendtest.Knobs) { k.AcceptLatency = time.Hour }), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): connect timeout", hint: "security groups", reason: "timeout",
	},
	{
		name: "nobody listens", prepare: audit("port", 1), mend: func(r *faultRig) { r.conf.databases["audit"]["port"] = r.conf.databases["shop"]["port"]; r.reload() },
		recovery: "RELOAD with the right port",
		code:     "08001", says: "client_login_timeout (server down): connect failed", hint: "Check host and port", reason: "unreachable",
	},
	{
		name: "token too long for the server", strike: knobs(func(k *backendtest.Knobs) { k.MaxToken = 300 }), mend: wellAgain,
		code: "08001", says: "client_login_timeout (server down): server conn crashed?", hint: "session token", reason: "token_too_long",
	},
	{
		name: "TLS demanded (rds.force_ssl)", plain: true, prepare: withoutTLS, recovery: "RELOAD with server_tls_sslmode = verify-full",
		mend: func(r *faultRig) {
			r.conf.set("server_tls_sslmode", "verify-full")
			s := r.conf.databases["audit"]
			delete(s, "password")
			s["server_auth"], s["iam_host"] = "iam", backendtest.DefaultRDSHost
			r.reload()
		},
		code: "28000", says: "no encryption", hint: "server_tls_sslmode", reason: "hba_refused",
	},
	{
		name: "RDS Proxy: too many requests", strike: refusal(backendtest.ProxyTooManyRequests), mend: wellAgain,
		code: "28000", says: "The IAM authentication failed because of too many competing requests.", hint: "iam_login_rate", reason: "throttled",
	},
	{
		name: "RDS Proxy: no secret for the role", strike: refusal(backendtest.ProxyNoSecret), mend: wellAgain,
		code: "28000", says: "This RDS proxy has no credentials for the role", hint: "Secrets Manager", reason: "no_database",
	},
	{
		name: "RDS Proxy: no connection to spare", strike: refusal(backendtest.ProxyNoConnection), mend: wellAgain,
		code: "08000", says: "Timed-out waiting to acquire database connection.", hint: "MaxConnectionsPercent", reason: "server_full",
	},
	{
		name: "Aurora DSQL: too many logins", strike: refusal(backendtest.DSQLTooFast), mend: wellAgain,
		code: "53400", says: "Unable to accept connection, rate exceeded", hint: "iam_login_rate", reason: "throttled",
	},
	{
		name: "Aurora DSQL: too many sessions", strike: refusal(backendtest.DSQLTooManyOpen), mend: wellAgain,
		code: "53300", says: "Unable to accept connection, too many open connections", hint: "max_connections", reason: "server_full",
	},
}

func memberAgain(r *faultRig) {
	r.rds.Set(func(k *backendtest.Knobs) { k.IAMUsers = []string{r.d.name} })
}

// roleInProfile makes a role of the shared configuration the credentials, which
// STS refuses.
func roleInProfile(r *faultRig) {
	r.write("aws-config", "[default]\nrole_arn = arn:aws:iam::123456789012:role/pooler\nsource_profile = base\n"+
		"[profile base]\naws_access_key_id = "+baseKey.ID+"\naws_secret_access_key = "+baseKey.Secret+"\n")
	r.env = slices.DeleteFunc(r.env, func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	r.env = append(r.env, "AWS_CONFIG_FILE="+r.path("aws-config"), "AWS_ENDPOINT_URL_STS="+r.aws.URL(), "AWS_EC2_METADATA_DISABLED=true")
	r.aws.Set(backendtest.AWSSTS, func(k *backendtest.AWSKnobs) { k.Status, k.Code = 403, "AccessDenied" })
}

// withoutTLS has both databases log in with a password and without TLS.
func withoutTLS(r *faultRig) {
	r.conf.set("server_tls_sslmode", "disable")
	s := r.conf.databases["audit"]
	delete(s, "server_auth")
	delete(s, "iam_host")
	s["password"] = serverPassword
}

// hostIsRDS makes the name that is verified stand in "audit", as it does where
// host is the endpoint itself.
func (r *faultRig) hostIsRDS() {
	r.conf.databases["audit"]["server_tls_name"] = backendtest.DefaultRDSHost
}

// trust writes the authorities of both servers.
func (r *faultRig) trust() {
	r.write("server-ca.crt", string(r.rds.CA().PEM())+string(serverCA.PEM()))
}

// baseKey is a long-term key that STS knows.
var baseKey = backendtest.AccessKey{ID: "AKIAEXAMPLE000000002", Secret: "long/term/secret/of/the/base/key/000001"}

func newFaultRig(t *testing.T, f *fault) *faultRig {
	t.Helper()
	r := &faultRig{d: newDatabase(t)}
	r.rds = startRDS(t, r.d)
	r.pooler = newPooler(t)
	r.aws = must(backendtest.StartAWS(backendtest.AWSOptions{
		Keys:          []backendtest.AccessKey{baseKey},
		Roles:         []backendtest.AWSRole{{ARN: "arn:aws:iam::123456789012:role/pooler"}},
		WebIdentities: map[string]time.Time{"web-identity-jwt": time.Now().Add(time.Hour)},
		Issued: func(k backendtest.AccessKey) {
			r.rds.AddKey(k)
			r.mu.Lock()
			defer r.mu.Unlock()
			r.secrets = append(r.secrets, k.Secret, k.SessionToken)
		},
	}))(t)
	t.Cleanup(func() { r.aws.Close() })
	r.secrets = []string{
		accessKey.Secret, accessKey.SessionToken, baseKey.Secret, clientPassword, serverPassword,
		"X-Amz-Signature", "X-Amz-Security-Token", "web-identity-jwt", "pod-token",
	}
	r.serveRDS(r.rds, r.d)
	r.conf.databases["audit"] = r.conf.databases["shop"]
	if f.plain {
		r.serve(r.d)
	} else {
		r.conf.databases["shop"] = maps.Clone(r.conf.databases["audit"])
	}
	r.trust()
	if f.source != "" {
		r.env = slices.DeleteFunc(r.env, func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	}
	if f.source != "" {
		r.env = append(r.env, must(r.aws.Env(f.source, r.dir, "web-identity-jwt"))(t)...)
	}
	for key, value := range map[string]string{
		"server_login_retry": "500ms", "server_connect_timeout": faultConnectTimeout, "client_login_timeout": faultLoginTimeout, "query_wait_timeout": "5s",
	} {
		r.conf.set(key, value)
	}
	r.conf.set("admin_users", "app")
	if f.prepare != nil {
		f.prepare(r)
	}
	return r
}

// dialTo connects to a database of the pooler.
func (r *faultRig) dialTo(ctx context.Context, database string) (*pgx.Conn, error) {
	return r.dial(ctx, "database", database)
}

// outcome is what a fault led to.
type outcome struct {
	fault
	said           *pgconn.PgError
	took, recovers time.Duration
}

// TestFaults is the suite of failures: for each, what a client is told and when,
// that those who have servers notice nothing, what is counted and logged, and
// how it ends. It keeps the table in docs/iam-failures.md true.
func TestFaults(t *testing.T) {
	var mu sync.Mutex
	outcomes := make(map[string]outcome)
	t.Run("row", func(t *testing.T) {
		for _, f := range faults {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				o := f.run(t)
				mu.Lock()
				defer mu.Unlock()
				outcomes[f.name] = o
			})
		}
	})
	if !t.Failed() {
		checkFaultTable(t, outcomes)
	}
}

func (f *fault) run(t *testing.T) outcome {
	r := newFaultRig(t, f)
	r.start()
	ctx := testContext(t)
	steady := must(r.dialTo(ctx, "shop"))(t)
	defer steady.Close(context.Background())
	one(t, steady, "BEGIN; SELECT 1")
	if f.strike != nil {
		f.strike(r)
	}

	o := outcome{fault: *f}
	told := make(chan error, 1)
	began := time.Now()
	go func() {
		conn, err := r.dialTo(ctx, "audit")
		if err == nil {
			conn.Close(context.Background())
			err = errors.New("the client got in")
		}
		told <- err
	}()
	var err error
	for err == nil {
		select {
		case err = <-told:
		default:
			one(t, steady, "SELECT 'goes on'") // whatever the new logins wait for
		}
	}
	o.took = time.Since(began)
	if o.took > faultBound {
		t.Errorf("the client was told after %v", o.took)
	}
	if !errors.As(err, &o.said) {
		t.Fatalf("the client was told: %v", err)
	}
	if o.said.Code != f.code || !strings.Contains(o.said.Message, f.says) || !strings.Contains(o.said.Hint, f.hint) {
		t.Errorf("the client was told %s: %q, detail %q, hint %q; want %s, %q, hint %q",
			o.said.Code, o.said.Message, o.said.Detail, o.said.Hint, f.code, f.says, f.hint)
	}
	for _, private := range []string{"123456789012", "127.0.0.1", backendtest.DefaultRDSHost, accessKey.ID} {
		said := strings.ReplaceAll(o.said.Message, `connection for host "127.0.0.1"`, "") // what the server calls us
		if strings.Contains(said+o.said.Detail+o.said.Hint, private) {
			t.Errorf("the client was told %q: %+v", private, o.said)
		}
	}
	line := r.logged(`"reason": "` + f.reason + `"`)
	for _, want := range []string{`"database": "audit"`, `"reason": "` + f.reason + `"`} {
		if !strings.Contains(line, want) {
			t.Errorf("the log does not say %s: %s", want, line)
		}
	}
	if r.conf.databases["audit"]["server_auth"] == "iam" {
		for _, want := range []string{"iam_host", "iam_region", "iam_user"} {
			if !strings.Contains(line, `"`+want+`"`) {
				t.Errorf("the log does not say %s: %s", want, line)
			}
		}
	}
	if n := r.loginsOf("audit", f.reason); n == 0 {
		t.Errorf("nothing is counted as %s", f.reason)
	}

	f.mend(r)
	mended := time.Now()
	eventually(t, "it recovers", func() bool {
		conn, err := r.dialTo(ctx, "audit")
		if err != nil {
			return false
		}
		defer conn.Close(context.Background())
		_, err = conn.Exec(ctx, "SELECT 1")
		return err == nil
	})
	o.recovers = time.Since(mended)
	one(t, steady, "SELECT 'went on'")
	one(t, steady, "COMMIT; SELECT 1")
	if n := r.loginsOf("audit", "ok"); n == 0 {
		t.Error("no login is counted as ok")
	}
	r.noSecrets()
	return o
}

// loginsOf returns a counter of SHOW LOGINS.
func (r *faultRig) loginsOf(database, outcome string) int {
	r.t.Helper()
	ctx := testContext(r.t)
	console := must(r.dialTo(ctx, "pgbouncer"))(r.t)
	defer console.Close(ctx)
	rows := must(console.PgConn().Exec(ctx, "SHOW LOGINS").ReadAll())(r.t)
	n := 0
	for _, row := range rows[0].Rows {
		if string(row[0]) == database && string(row[2]) == outcome {
			n += must(strconv.Atoi(string(row[3])))(r.t)
		}
	}
	return n
}

// noSecrets looks for what must be in no log, at any level.
func (r *faultRig) noSecrets() {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.log.String()
	for _, secret := range r.secrets {
		if secret != "" && strings.Contains(log, secret) {
			r.t.Errorf("the log holds %q", secret)
		}
	}
}

const (
	faultPage  = "../../docs/iam-failures.md"
	faultBegin = "<!-- table: written by go test ./cmd/pgvalet -run TestFaults -update-faults -->\n"
	faultEnd   = "<!-- end of the table -->\n"
)

// text is the part of a row that does not differ from run to run.
func (o *outcome) text() string {
	recovery := o.recovery
	if recovery == "" {
		recovery = "by itself"
	}
	said := strings.ReplaceAll(o.said.Message, "|", `\|`)
	if i := strings.Index(said, `user "`); i >= 0 { // the name of the test's own
		if j := strings.Index(said[i+6:], `"`); j >= 0 {
			said = said[:i+6] + "app_user" + said[i+6+j:]
		}
	}
	if i := strings.Index(said, `database "`); i >= 0 {
		if j := strings.Index(said[i+10:], `"`); j >= 0 {
			said = said[:i+10] + "app" + said[i+10+j:]
		}
	}
	said = strings.ReplaceAll(said, `host "127.0.0.1"`, `host "…"`)
	return fmt.Sprintf("| %s | %s | %s `%s` | %s | %s |", o.name, "`"+o.reason+"`", o.said.Code, said, o.said.Hint, recovery)
}

// checkFaultTable compares the page with this run, or writes it.
func checkFaultTable(t *testing.T, outcomes map[string]outcome) {
	page, err := os.ReadFile(filepath.FromSlash(faultPage))
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), faultBegin)
	table, after, ok2 := strings.Cut(rest, faultEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", faultPage)
	}
	if *updateFaults {
		var b strings.Builder
		b.WriteString(before + faultBegin + "| Fault | Counted as | What the client gets | Hint | Recovery | Told after | Well again after |\n|---|---|---|---|---|---|---|\n")
		for _, f := range faults {
			o, ok := outcomes[f.name]
			if !ok {
				t.Fatalf("%s was not run", f.name)
			}
			fmt.Fprintf(&b, "%s %.1f s | %.1f s |\n", o.text(), o.took.Seconds(), o.recovers.Seconds())
		}
		b.WriteString(faultEnd + after)
		if err := os.WriteFile(filepath.FromSlash(faultPage), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, o := range outcomes {
		if !strings.Contains(table, o.text()+" ") {
			t.Errorf("%s does not have this row, -update-faults writes it: %s", faultPage, o.text())
		}
	}
	if n := strings.Count(table, "\n") - 2; n != len(faults) {
		t.Errorf("%s has %d rows, there are %d faults", faultPage, n, len(faults))
	}
}
