package backend

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgvalet/pgvalet/auth"
	"github.com/pgvalet/pgvalet/backend/backendtest"
	"github.com/pgvalet/pgvalet/config"
)

func TestSSLModes(t *testing.T) {
	plainPG := plainServer.Postgres(t)
	tlsPG, ca := tlsServer.postgres(t)
	const (
		isPlain   = "plain"
		isTLS     = "TLS"
		noEntry   = "rejects connection"
		refused   = "server refused SSL"
		wrongName = "certificate is valid for pg.test, not wrong.test"
		unknownCA = "signed by unknown authority"
	)
	otherCA, err := backendtest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	known, unknown := &tls.Config{RootCAs: ca.Pool()}, &tls.Config{RootCAs: otherCA.Pool()}
	type server struct {
		pg   *backendtest.Postgres
		user string
		cfg  *tls.Config
		name string
	}
	without := server{plainPG, "postgres", nil, ""}
	with := server{tlsPG, "postgres", known, "pg.test"}
	needsTLS := server{tlsPG, "needs_tls", known, "pg.test"}
	needsPlain := server{tlsPG, "needs_plain", known, "pg.test"}
	byAddress := server{tlsPG, "postgres", known, ""}
	badName := server{tlsPG, "postgres", known, "wrong.test"}
	badCA := server{tlsPG, "postgres", unknown, "pg.test"}
	noConfig := server{tlsPG, "postgres", nil, ""}

	for _, test := range []struct {
		name   string
		server server
		want   [6]string // by sslmode, weakest first
	}{
		//                                          disable  allow    prefer   require  verify-ca  verify-full
		{"server without TLS", without, [6]string{isPlain, isPlain, isPlain, refused, refused, refused}},
		{"server with TLS", with, [6]string{isPlain, isPlain, isTLS, isTLS, isTLS, isTLS}},
		{"user must use TLS", needsTLS, [6]string{noEntry, isTLS, isTLS, isTLS, isTLS, isTLS}},
		{"user must not use TLS", needsPlain, [6]string{isPlain, isPlain, isPlain, noEntry, noEntry, noEntry}},
		{"name is the address", byAddress, [6]string{isPlain, isPlain, isTLS, isTLS, isTLS, isTLS}},
		{"wrong name", badName, [6]string{isPlain, isPlain, isTLS, isTLS, isTLS, wrongName}},
		{"unknown authority", badCA, [6]string{isPlain, isPlain, isTLS, isTLS, unknownCA, unknownCA}},
		{"system's authorities", noConfig, [6]string{isPlain, isPlain, isTLS, isTLS, unknownCA, unknownCA}},
	} {
		for mode, want := range test.want {
			t.Run(fmt.Sprintf("%s/%s", test.name, config.SSLMode(mode)), func(t *testing.T) {
				target := target(test.server.pg, test.server.user)
				target.SSLMode = config.SSLMode(mode)
				target.TLSConfig, target.ServerName = test.server.cfg, test.server.name
				l, err := Connect(testContext(t), target)
				switch want {
				case isPlain, isTLS:
					if err != nil {
						t.Fatal(err)
					}
					defer l.Close()
					got := ask(t, l, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")[0]
					if (got == "t") != (want == isTLS) || (l.TLS != nil) != (want == isTLS) {
						t.Errorf("want %s, the server says ssl=%s", want, got)
					}
				case noEntry:
					wantLoginError(t, err, "28000", "pg_hba.conf "+noEntry)
				case refused:
					wantConnectError(t, err, TLSRefused, refused, "sslmode is "+config.SSLMode(mode).String())
				default:
					wantConnectError(t, err, BadCertificate, "server certificate verify failed", want)
				}
			})
		}
	}
}

// When both ways fail, the answer to the attempt over TLS is the one that
// tells more, and the log has both.
func TestBothWaysRefused(t *testing.T) {
	refuse := func(code, message string) backendtest.Step {
		return backendtest.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
	}
	_, ca := tlsServer.postgres(t)
	cert, err := ca.Issue("pg.test")
	if err != nil {
		t.Fatal(err)
	}
	startup := backendtest.ExpectStartup(nil)
	accept := backendtest.AcceptTLS(&tls.Config{Certificates: []tls.Certificate{cert.TLS}})
	refuseTLS := backendtest.RefuseTLS()
	noEntry, password := refuse("28000", "no entry"), refuse("28P01", "wrong password")
	for _, test := range []struct {
		name          string
		mode          config.SSLMode
		scripts       []backendtest.Script
		code, message string
		log           string
	}{
		{
			"prefer", config.SSLPrefer,
			[]backendtest.Script{{accept, startup, password}, {startup, noEntry}},
			"28P01", "wrong password",
			"FATAL: wrong password (SQLSTATE 28P01); without TLS: FATAL: no entry (SQLSTATE 28000)",
		},
		{
			"allow", config.SSLAllow,
			[]backendtest.Script{{startup, noEntry}, {accept, startup, password}},
			"28P01", "wrong password",
			"FATAL: wrong password (SQLSTATE 28P01); without TLS: FATAL: no entry (SQLSTATE 28000)",
		},
		{
			"allow, no TLS", config.SSLAllow,
			[]backendtest.Script{{startup, noEntry}, {refuseTLS}},
			"28000", "no entry",
			"FATAL: no entry (SQLSTATE 28000)",
		},
		{
			"prefer, no TLS: not twice", config.SSLPrefer,
			[]backendtest.Script{{refuseTLS, startup, password}},
			"28P01", "wrong password",
			"FATAL: wrong password (SQLSTATE 28P01)",
		},
		{
			"prefer, full: not twice", config.SSLPrefer,
			[]backendtest.Script{{accept, startup, refuse("53300", "too many clients")}},
			"53300", "too many clients",
			"FATAL: too many clients (SQLSTATE 53300)",
		},
		{
			"allow, after authentication: not twice", config.SSLAllow,
			[]backendtest.Script{{startup, backendtest.Send(&pgproto3.AuthenticationOk{}), refuse("28000", "not permitted to log in")}},
			"28000", "not permitted to log in",
			"FATAL: not permitted to log in (SQLSTATE 28000)",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := backendtest.StartScript(t, test.scripts...)
			target := scriptTarget(t, server)
			target.SSLMode = test.mode
			_, err := Connect(testContext(t), target)
			wantLoginError(t, err, test.code, test.message)
			if want := server.Addr() + ": " + test.log; err == nil || err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		})
	}
}

// As in libpq, prefer goes on without TLS when the handshake fails.
func TestPreferAfterFailedHandshake(t *testing.T) {
	server := backendtest.StartScript(t,
		backendtest.Script{expectSSLRequest('S'), backendtest.SendBytes([]byte("this is no TLS"))},
		backendtest.Script{backendtest.Welcome(), backendtest.Expect(&pgproto3.Terminate{})},
	)
	target := scriptTarget(t, server)
	target.SSLMode = config.SSLPrefer
	target.Password = auth.ParseSecret("x")
	l, err := Connect(testContext(t), target)
	if err != nil {
		t.Fatal(err)
	}
	if l.TLS != nil {
		t.Error("TLS")
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	<-server.Played()
}
