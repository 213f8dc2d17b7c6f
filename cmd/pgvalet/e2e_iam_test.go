package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// overIAM returns a pgvalet, not started, in front of a stand-in for RDS.
func overIAM(t testing.TB) (*pooler, *database, *backendtest.RDS) {
	t.Helper()
	d := newDatabase(t)
	rds := startRDS(t, d)
	p := newPooler(t)
	p.serveRDS(rds, d)
	p.conf.set("server_login_retry", "100ms")
	return p, d, rds
}

func TestIAMWrongAuthority(t *testing.T) {
	p, _, rds := overIAM(t)
	p.write("server-ca.crt", string(serverCA.PEM()))
	p.start()
	_, err := p.dial(testContext(t))
	wantError(t, err, "08001", "server certificate verify failed")
	line := p.logged("login to server: ")
	if !strings.Contains(line, "unknown authority") {
		t.Errorf("the log does not say why: %s", line)
	}
	if s := rds.Stats(); s.DistinctTokens != 0 {
		t.Errorf("%d tokens were sent to a server that was not verified", s.DistinctTokens)
	}

	// The right authority, and nothing else, mends it.
	p.write("server-ca.crt", string(rds.CA().PEM()))
	p.reload()
	one(t, p.connect(t), "SELECT 1")
}

func TestIAMWrongName(t *testing.T) {
	p, _, rds := overIAM(t)
	p.conf.databases["shop"]["server_tls_name"] = "other.cluster-c0abcdefghij.us-east-1.rds.amazonaws.com"
	p.start()
	_, err := p.dial(testContext(t))
	wantError(t, err, "08001", "server certificate verify failed")
	line := p.logged("login to server: ")
	if !strings.Contains(line, "valid for "+backendtest.DefaultRDSHost) || !strings.Contains(line, "not other.cluster-") {
		t.Errorf("the log does not say why: %s", line)
	}
	if s := rds.Stats(); s.DistinctTokens != 0 {
		t.Errorf("%d tokens were sent to a server that was not verified", s.DistinctTokens)
	}
}

// TestIAMRevokedKey: open servers go on, new logins say what is known, and all
// is well by itself when the key is.
func TestIAMRevokedKey(t *testing.T) {
	p, d, rds := overIAM(t)
	p.conf.databases["shop"]["pool_size"] = 2
	p.start()
	first, second := p.connect(t), p.connect(t)
	one(t, first, "BEGIN; SELECT 1") // the only server
	d.until(1, "true")

	rds.RevokeKey(accessKey.ID)
	p.log.mark()
	wait := make(chan error, 1)
	go func() {
		_, err := second.Exec(testContext(t), "SELECT 'when there is a server'")
		wait <- err
	}()
	line := p.logged("IAM token refused, signed for")
	for _, want := range []string{"rds-db:connect", `user "` + d.name + `"`, "…" + accessKey.ID[len(accessKey.ID)-4:]} {
		if !strings.Contains(line, want) {
			t.Errorf("the log does not say %q: %s", want, line)
		}
	}
	one(t, first, "SELECT 'goes on'")
	one(t, first, "COMMIT; SELECT 1")
	if err := <-wait; err != nil {
		t.Errorf("the one server did not come round: %v", err)
	}

	// Without any server there is nothing to wait for.
	p.log.mark()
	rds.DropConnections()
	p.logged("closing because: server conn crashed?")
	for what, ask := range map[string]func() error{
		"an old client": func() error { _, err := second.Exec(testContext(t), "SELECT 1"); return err },
		"a new client":  func() error { return use(p.dial(testContext(t))) },
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), "PAM authentication failed") {
			t.Errorf("%s is told: %v", what, err)
		}
	}

	rds.AddKey(accessKey)
	eventually(t, "it recovers by itself", func() bool {
		return use(p.dial(testContext(t))) == nil
	})
}

// use runs a query on a new connection, and closes it.
func use(conn *pgx.Conn, err error) error {
	if err != nil {
		return err
	}
	_, err = conn.Exec(context.Background(), "SELECT 1")
	return errors.Join(err, conn.Close(context.Background()))
}

func TestIAMRoleNotInGroup(t *testing.T) {
	for _, challenge := range []backendtest.AuthMethod{backendtest.SCRAM, backendtest.MD5} {
		t.Run(string(challenge), func(t *testing.T) {
			p, d, rds := overIAM(t)
			rds.Set(func(k *backendtest.Knobs) { k.IAMUsers, k.Challenge = nil, challenge })
			p.start()
			_, err := p.dial(testContext(t))
			if err == nil || !strings.Contains(err.Error(), "rds_iam") {
				t.Errorf("the client is told: %v", err)
			}
			line := p.logged("login to server: ")
			if !strings.Contains(line, "rds_iam") || !strings.Contains(line, d.name) {
				t.Errorf("the log does not say why: %s", line)
			}
			if s := rds.Stats(); s.DistinctTokens != 0 {
				t.Error("the token was sent in answer to a challenge")
			}
		})
	}
}

// TestIAMServerDownAtStart: clients that come too early wait.
func TestIAMServerDownAtStart(t *testing.T) {
	p, _, rds := overIAM(t)
	rds.Set(func(k *backendtest.Knobs) { k.Refuse = true })
	p.start()
	in := make(chan error, 1)
	go func() { in <- use(p.dial(testContext(t))) }()
	p.logged("login to server: ")
	rds.Set(func(k *backendtest.Knobs) { k.Refuse = false })
	if err := <-in; err != nil {
		t.Error(err)
	}
	one(t, p.connect(t), "SELECT 1")
}

// TestIAMFailover: all connections break at once; clients are told, new ones
// get new servers, with the old token.
func TestIAMFailover(t *testing.T) {
	p, d, rds := overIAM(t)
	p.start()
	busy, idle := p.connect(t), p.connect(t)
	one(t, busy, "BEGIN; SELECT 1")
	one(t, idle, "SELECT 1")
	d.until(2, "true")
	rds.DropConnections()
	wantError(t, closedBy(t, busy), "08006", "server conn crashed?")
	eventually(t, "the pooler has noticed", func() bool {
		return strings.Count(p.log.String(), "closing because: server conn crashed? EOF") == 2
	})
	one(t, idle, "SELECT 'it has not noticed'")
	one(t, p.connect(t), "SELECT 1")
	if s := rds.Stats(); s.DistinctTokens != 1 || len(s.Refused) != 0 {
		t.Errorf("%d tokens, refused %v; want one that serves all", s.DistinctTokens, s.Refused)
	}
}
