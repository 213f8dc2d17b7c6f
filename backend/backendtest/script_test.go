package backendtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
)

func TestScriptAnswersAQuery(t *testing.T) {
	ctx := testContext(t)
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Issue("db.example.com")
	if err != nil {
		t.Fatal(err)
	}
	answer := Send(
		&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("x"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}}},
		&pgproto3.DataRow{Values: [][]byte{[]byte("made up")}},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")},
		&pgproto3.ReadyForQuery{TxStatus: 'I'},
	)
	s := StartScript(t,
		Script{
			AcceptTLS(&tls.Config{Certificates: []tls.Certificate{cert.TLS}}),
			ExpectStartup(map[string]string{"user": "app", "database": "db"}),
			Send(&pgproto3.AuthenticationCleartextPassword{}),
			Expect(&pgproto3.PasswordMessage{Password: "secret"}),
			Send(
				&pgproto3.AuthenticationOk{},
				&pgproto3.ParameterStatus{Name: "client_encoding", Value: "UTF8"},
				&pgproto3.ParameterStatus{Name: "standard_conforming_strings", Value: "on"},
				&pgproto3.ReadyForQuery{TxStatus: 'I'},
			),
			Expect(&pgproto3.Query{String: "SELECT x"}),
			answer,
			Expect(&pgproto3.Terminate{}),
			ExpectClose(),
		},
		Script{Welcome(), Expect(&pgproto3.Query{String: "SELECT x"}), Reset()},
	)
	config, err := pgx.ParseConfig("postgres://app:secret@" + s.Addr() + "/db?sslmode=require")
	if err != nil {
		t.Fatal(err)
	}
	config.TLSConfig = &tls.Config{RootCAs: ca.Pool(), ServerName: "db.example.com"}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	var x string
	if err := conn.QueryRow(ctx, "SELECT x", pgx.QueryExecModeSimpleProtocol).Scan(&x); err != nil || x != "made up" {
		t.Errorf("%q, %v", x, err)
	}
	if err := conn.Close(ctx); err != nil {
		t.Error(err)
	}

	raw, err := new(net.Dialer).DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if _, err := raw.Write(append(startupPacket(3<<16, "user\x00app\x00\x00"), "Q\x00\x00\x00\x0dSELECT x\x00"...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, raw); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error %v, want a reset", err)
	}
	select {
	case <-s.Played():
	case <-ctx.Done():
		t.Error("the scripts were not played to the end")
	}
}

func TestScriptSASLAndCancel(t *testing.T) {
	goOn, hanging := make(chan struct{}), make(chan struct{})
	s := StartScript(t,
		Script{
			RefuseTLS(),
			ExpectStartup(nil),
			Send(&pgproto3.AuthenticationSASL{AuthMechanisms: []string{"SCRAM-SHA-256"}}),
			func(c *ScriptConn) error {
				msg, err := c.Backend.Receive()
				if _, ok := msg.(*pgproto3.SASLInitialResponse); err != nil || !ok {
					return fmt.Errorf("%T, %v", msg, err)
				}
				return nil
			},
			Await(goOn),
			SendBytes([]byte{'E', 0, 0, 0, 5, 0}),
		},
		Script{ExpectCancel(&pgproto3.CancelRequest{ProcessID: 7, SecretKey: []byte{1, 2, 3, 4}})},
		Script{func(*ScriptConn) error { close(hanging); return nil }, Hang()},
	)
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	frontend := pgproto3.NewFrontend(conn, conn)
	frontend.Send(&pgproto3.SSLRequest{})
	if err := frontend.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	frontend.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": "app"}})
	frontend.Send(&pgproto3.SASLInitialResponse{AuthMechanism: "SCRAM-SHA-256", Data: []byte("n,,n=,r=x")})
	if err := frontend.Flush(); err != nil {
		t.Fatal(err)
	}
	if _, err := frontend.Receive(); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if msg, err := frontend.Receive(); err != nil {
		t.Errorf("%v, %v", msg, err)
	}

	cancel, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer cancel.Close()
	if _, err := cancel.Write([]byte{0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 7, 1, 2, 3, 4}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, cancel); err != nil {
		t.Error(err)
	}

	hung, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	<-hanging
}

// recorder is a testing.TB that keeps errors instead of failing.
type recorder struct {
	testing.TB
	cleanup func()

	mu     sync.Mutex // guards errors
	errors []string
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanup = f }
func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestScriptReportsWhatWentWrong(t *testing.T) {
	startup := startupPacket(3<<16, "user\x00app\x00\x00")
	for _, tt := range []struct {
		name    string
		scripts []Script
		packets [][]byte // one per connection
		want    string
	}{
		{"another message", []Script{{ExpectStartup(nil), Expect(&pgproto3.Query{String: "a"})}}, [][]byte{append(slices.Clip(startup), "Q\x00\x00\x00\x06b\x00"...)}, "script 1, step 2: &pgproto3.Query{String:\"b\"} instead of"},
		{"the end instead of a message", []Script{{ExpectStartup(nil), Expect(&pgproto3.Sync{})}}, [][]byte{startup}, "unexpected EOF instead of &pgproto3.Sync"},
		{"another startup parameter", []Script{{ExpectStartup(map[string]string{"user": "other"})}}, [][]byte{startup}, `startup parameter user is "app", not "other"`},
		{"no SSLRequest", []Script{{RefuseTLS()}}, [][]byte{startup}, "*pgproto3.StartupMessage instead of an SSLRequest"},
		{"no startup message", []Script{{ExpectStartup(nil)}}, [][]byte{{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}}, "*pgproto3.SSLRequest instead of a startup message"},
		{"a message instead of the end", []Script{{ExpectStartup(nil), ExpectClose()}}, [][]byte{append(slices.Clip(startup), "S\x00\x00\x00\x04"...)}, "&pgproto3.Sync{} instead of the end"},
		{"a connection too many", []Script{{}}, [][]byte{nil, nil}, "connection 2, but there are 1 scripts"},
		{"a connection too few", []Script{{}, {}}, [][]byte{nil}, "1 connections, but there are 2 scripts"},
		{"right", []Script{{ExpectStartup(nil), ExpectClose()}}, [][]byte{startup}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rec := &recorder{TB: t}
			s := StartScript(rec, tt.scripts...)
			var closers []func() error
			for _, packet := range tt.packets {
				conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", s.Addr())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write(packet); err != nil {
					t.Fatal(err)
				}
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				closers = append(closers, conn.Close)
				_, _ = conn.Read(make([]byte, 1)) // until the script is over
			}
			rec.cleanup()
			for _, c := range closers {
				_ = c()
			}
			got := strings.Join(rec.errors, "\n")
			if len(rec.errors) > 1 || !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
				t.Errorf("reported %q, want %q", got, tt.want)
			}
		})
	}
}

func TestScriptDoesNotWaitBeyondTheTest(t *testing.T) {
	rec := &recorder{TB: t}
	started := make(chan struct{})
	s := StartScript(rec, Script{
		func(*ScriptConn) error { close(started); return nil },
		Await(nil),
	})
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-started
	rec.cleanup()
	if len(rec.errors) != 1 || !strings.Contains(rec.errors[0], "the test ended before the event") {
		t.Errorf("reported %q", rec.errors)
	}
}
