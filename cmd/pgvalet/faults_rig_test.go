package main

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// faultRig is a pgvalet with two databases: a client of "shop" has a server, and
// keeps using it in a transaction, while clients of "audit" need new ones.
type faultRig struct {
	*pooler
	d   *database
	rds *backendtest.RDS
	aws *backendtest.AWS

	partition *backendtest.Partition // between pgvalet and "audit"; nil: none

	mu      sync.Mutex // guards secrets
	secrets []string   // that no log may hold
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
	if f.dsql {
		r.rds = startDSQL(t, r.d)
	} else {
		r.rds = startRDS(t, r.d)
	}
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
	served := r.serveRDS(r.rds, r.d)
	if f.dsql {
		served["server_auth"] = "dsql"
	}
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
