package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// fault is a row of the table of failures.
type fault struct {
	name   string
	source backendtest.AWSService // of the credentials; "": the environment
	// plain: the client of "shop" logs in with a password, past the stand-in,
	// because the fault is there from the start.
	plain   bool
	dsql    bool            // the server is Aurora DSQL
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
	if _, iam := r.conf.databases["audit"]["iam_host"]; iam {
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
