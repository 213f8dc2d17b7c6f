package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend"
	"github.com/pgvalet/pgvalet/config"
	"github.com/pgvalet/pgvalet/pool"
)

const (
	// identityPatience bounds the question to STS who we are: it is of interest,
	// and not needed for a login.
	identityPatience = 3 * time.Second
	// askPatience bounds all the queries that are made after the login.
	askPatience = 10 * time.Second
	// latencySamples is how many queries the latency is measured with.
	latencySamples = 5
)

// The outcomes of a step.
const (
	stepOK      = "ok"
	stepFailed  = "failed"
	stepUnknown = "unknown" // it says nothing about whether clients can work
)

// stepResult is what came of one step of a diagnosis.
type stepResult struct {
	Step   string  `json:"step"`
	State  string  `json:"state"`
	Millis float64 `json:"ms"`
	Detail string  `json:"detail,omitempty"`
	Error  string  `json:"error,omitempty"`
	Next   string  `json:"next,omitempty"` // what to check next
}

// diagnosis is what is known of one database.
type diagnosis struct {
	Database string       `json:"database"`
	User     string       `json:"user"`
	Host     string       `json:"host"`
	Port     int          `json:"port"`
	OK       bool         `json:"ok"`
	Steps    []stepResult `json:"steps"`
}

// doctor logs in to databases as a pool does, and watches itself.
type doctor struct {
	settings pool.Settings
	tokens   *auth.TokenSource
	user     string // for databases that force none; "": the first of auth_file
}

// examine goes through all the steps for one of the hosts of a database, up to the
// first that fails.
func (d *doctor) examine(ctx context.Context, db *config.Database, host string) *diagnosis {
	p := &diagnosis{Database: db.Name, User: d.userOf(db), Host: host, Port: db.Port}
	if db.ServerAuth == config.ServerAuthClientToken || d.settings.Config.PoolModeFor(db, p.User) == config.PoolModePassthrough {
		p.unsure("login", 0, "it is made with what a client brings: connect as one")
		p.OK = true
		return p
	}
	if p.User == "" {
		p.add("user", 0, "", errors.New("the database forces no user, and auth_file has none"))
		return p
	}
	t := pool.NewTarget(&d.settings, db, host, p.User, d.tokens, zap.NewNop())
	t.Trace = p.trace
	if t.IAM != nil && !d.credentials(ctx, p, pool.TokenKey(db, p.User)) {
		return p
	}
	login, err := backend.Connect(ctx, t)
	if err != nil {
		p.failed(err)
		return p
	}
	defer login.Close()
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	if t.IAM != nil {
		p.membership(ctx, login)
	}
	p.role(ctx, login)
	p.OK = p.latency(ctx, login)
	return p
}

func (d *doctor) userOf(db *config.Database) string {
	switch {
	case db.User != "":
		return db.User
	case d.user != "":
		return d.user
	}
	names := d.settings.Userlist.Names()
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// add notes a step.
func (p *diagnosis) add(step string, took time.Duration, detail string, err error) {
	r := stepResult{Step: step, State: stepOK, Millis: float64(took.Microseconds()) / 1000, Detail: detail}
	if err != nil {
		r.State, r.Error, r.Next = stepFailed, err.Error(), next(err)
	}
	p.Steps = append(p.Steps, r)
}

// unsure notes a step that could not be made, and matters little.
func (p *diagnosis) unsure(step string, took time.Duration, why string) {
	p.add(step, took, why, nil)
	p.Steps[len(p.Steps)-1].State = stepUnknown
}

func (p *diagnosis) trace(t backend.Trace) { p.add(t.Step.String(), t.Took, t.Detail, t.Err) }

// failed notes why the login as a whole has failed. It says more than the error
// of the step that ended it, where it may well be for the last of several
// attempts.
func (p *diagnosis) failed(err error) {
	if n := len(p.Steps); n == 0 || p.Steps[n-1].State != stepFailed {
		p.add(backend.StepLogin.String(), 0, "", err)
		return
	}
	last := &p.Steps[len(p.Steps)-1]
	last.Error = err.Error()
	if n := next(err); n != "" {
		last.Next = n
	}
}

// next is what to check next after an error: what clients are told.
func next(err error) string {
	if hint := backend.Explain(err).Hint; hint != "" {
		return hint
	}
	if e, ok := errors.AsType[*auth.CredentialError](err); ok { // of no login
		return e.Next()
	}
	return ""
}

// credentials looks for the AWS credentials and who they are. It reports whether
// there are any.
func (d *doctor) credentials(ctx context.Context, p *diagnosis, k auth.TokenKey) bool {
	began := time.Now()
	c, err := d.tokens.Retrieve(k.Credentials, k.Region)
	if err != nil {
		p.add("credentials", time.Since(began), "", err)
		return false
	}
	detail := fmt.Sprintf("%s, access key %s, ", c.Source, c.AccessKey)
	if c.Expires.IsZero() {
		detail += "never expires"
	} else {
		detail += fmt.Sprintf("expires in %v", time.Until(c.Expires).Round(time.Second))
	}
	p.add("credentials", time.Since(began), detail, nil)

	ctx, cancel := context.WithTimeout(ctx, identityPatience)
	defer cancel()
	began = time.Now()
	if who, err := d.tokens.Identify(ctx, k.Credentials, k.Region); err == nil {
		p.add("identity", time.Since(began), who.ARN, nil)
	} else {
		p.unsure("identity", time.Since(began), "sts:GetCallerIdentity: "+err.Error())
	}
	return true
}

// membership looks whether the role is in rds_iam, which decides what the server
// asks for.
func (p *diagnosis) membership(ctx context.Context, l *backend.Login) {
	began := time.Now()
	row, err := l.Ask(ctx, "SELECT pg_catalog.pg_has_role(pg_catalog.to_regrole('rds_iam')::pg_catalog.oid, 'MEMBER')")
	took := time.Since(began)
	switch {
	case err != nil:
		p.unsure("rds_iam", took, err.Error())
	case len(row) == 1 && row[0] == "t":
		p.add("rds_iam", took, "the role is a member", nil)
	case len(row) == 1 && row[0] == "":
		p.unsure("rds_iam", took, "there is no role rds_iam: the server is not RDS")
	default:
		p.unsure("rds_iam", took, "the role is not a member, and got in all the same")
	}
}

// role tells a writer from a reader.
func (p *diagnosis) role(ctx context.Context, l *backend.Login) {
	began := time.Now()
	row, err := l.Ask(ctx, "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('transaction_read_only'), pg_catalog.current_setting('server_version')")
	took := time.Since(began)
	switch {
	case err != nil || len(row) != 3:
		p.unsure("role", took, fmt.Sprintf("cannot be told: %v", err))
	case row[0] == "t":
		p.add("role", took, "read-only: a standby or reader, PostgreSQL "+row[2], nil)
	case row[1] == "on":
		p.add("role", took, "read-only by default_transaction_read_only, PostgreSQL "+row[2], nil)
	default:
		p.add("role", took, "writer, PostgreSQL "+row[2], nil)
	}
}

// latency measures how long the smallest query takes.
func (p *diagnosis) latency(ctx context.Context, l *backend.Login) bool {
	took := make([]time.Duration, latencySamples)
	for i := range took {
		began := time.Now()
		if _, err := l.Ask(ctx, "SELECT 1"); err != nil {
			p.add("query", time.Since(began), "", err)
			return false
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	median := took[len(took)/2]
	p.add("query", median, "median of "+strconv.Itoa(len(took))+", the slowest "+took[len(took)-1].Round(time.Microsecond).String(), nil)
	return true
}
