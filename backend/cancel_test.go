package backend

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

func TestCancel(t *testing.T) {
	plainPG := plainServer.Postgres(t)
	tlsPG, ca := tlsServer.postgres(t)
	overTLS := target(tlsPG, "postgres")
	overTLS.SSLMode = config.SSLVerifyFull
	overTLS.TLSConfig = &tls.Config{RootCAs: ca.Pool()}
	for name, target := range map[string]*Target{
		"plain": target(plainPG, "postgres"),
		"TLS":   overTLS,
		"unix":  targetOverSocket(plainPG),
	} {
		t.Run(name, func(t *testing.T) {
			l := mustConnect(t, target)
			front := pgproto3.NewFrontend(l.stream(), l.stream())
			front.Send(&pgproto3.Query{String: "SELECT 1; SELECT pg_sleep(60)"})
			if err := front.Flush(); err != nil {
				t.Fatal(err)
			}
			waitForSleep(t, target, l.PID)

			wrong := append([]byte(nil), l.Key...)
			wrong[0]++
			if err := Cancel(testContext(t), target, l.Addr, l.TLS != nil, l.PID, wrong, nil); err != nil {
				t.Errorf("with a wrong key: %v", err)
			}
			waitForSleep(t, target, l.PID) // still

			if err := Cancel(testContext(t), target, l.Addr, l.TLS != nil, l.PID, l.Key, nil); err != nil {
				t.Fatal(err)
			}
			for {
				msg, err := front.Receive()
				if err != nil {
					t.Fatal(err)
				}
				if e, ok := msg.(*pgproto3.ErrorResponse); ok {
					if e.Code != "57014" {
						t.Errorf("%s %s", e.Code, e.Message)
					}
					break
				}
			}
		})
	}
}

// waitForSleep returns when the server process pid sleeps.
func waitForSleep(t *testing.T, target *Target, pid uint32) {
	t.Helper()
	l := mustConnect(t, target)
	for {
		got := ask(t, l, fmt.Sprintf("SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = %d", pid))
		if len(got) != 1 {
			t.Fatal("the session is gone")
		}
		if got[0] == "PgSleep" {
			return
		}
	}
}

func TestCancelRules(t *testing.T) {
	_, ca := tlsServer.postgres(t)
	cert, err := ca.Issue("pg.test")
	if err != nil {
		t.Fatal(err)
	}
	accept := backendtest.AcceptTLS(&tls.Config{Certificates: []tls.Certificate{cert.TLS}})
	key := []byte("a long key, as protocol 3.2 has them")
	expect := backendtest.ExpectCancel(&pgproto3.CancelRequest{ProcessID: 42, SecretKey: key})
	for _, test := range []struct {
		name    string
		mode    config.SSLMode
		overTLS bool
		script  backendtest.Script
		want    Kind
		ok      bool
	}{
		{"plain", config.SSLPrefer, false, backendtest.Script{expect}, 0, true},
		{"TLS", config.SSLPrefer, true, backendtest.Script{accept, expect}, 0, true},
		{"no TLS any more", config.SSLPrefer, true, backendtest.Script{backendtest.RefuseTLS()}, TLSRefused, false},
		{"reset instead of the end", config.SSLDisable, false, backendtest.Script{expect, backendtest.Reset()}, 0, true},
		{"error before the end", config.SSLDisable, false, backendtest.Script{expect, backendtest.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "53300", Message: "full"})}, 0, true},
		{"answer without end", config.SSLDisable, false, backendtest.Script{expect, hail(make([]byte, 1<<16))}, BrokenProtocol, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := backendtest.StartScript(t, test.script)
			target := scriptTarget(t, server)
			target.SSLMode = test.mode
			addr, err := (&Target{Host: target.Host, Port: target.Port}).resolve(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			err = Cancel(testContext(t), target, addr[0], test.overTLS, 42, key, nil)
			if test.ok != (err == nil) || !test.ok && !isKind(err, test.want) {
				t.Errorf("%v, want ok=%v, kind %d", err, test.ok, test.want)
			}
			<-server.Played()
		})
	}

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(testContext(t))
		server := backendtest.StartScript(t, backendtest.Script{
			expect,
			func(*backendtest.ScriptConn) error { cancel(); return nil },
			backendtest.Hang(),
		})
		target := scriptTarget(t, server)
		addr, err := target.resolve(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := Cancel(ctx, target, addr[0], false, 42, key, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
