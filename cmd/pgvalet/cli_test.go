package main

import (
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pgvalet/pgvalet/backend/backendtest"
)

// TestCommandLine runs the scripts in testdata/cli. Beside testscript's own
// commands they have:
//
//	listen ADDRESS   listens there until the end: a port of 127.0.0.1, 0 for a
//	                 free one, which $PORT then holds, or the path of a socket
//	certificate NAME writes NAME.crt and NAME.key
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/cli",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("LIVE_PID", strconv.Itoa(os.Getpid()))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"listen": func(ts *testscript.TestScript, neg bool, args []string) {
				network, address := "unix", ts.MkAbs(args[0])
				if _, err := strconv.Atoi(args[0]); err == nil {
					network, address = "tcp", net.JoinHostPort("127.0.0.1", args[0])
				}
				ln, err := net.Listen(network, address)
				ts.Check(err)
				ts.Defer(func() { ln.Close() })
				if tcp, ok := ln.Addr().(*net.TCPAddr); ok {
					ts.Setenv("PORT", strconv.Itoa(tcp.Port))
				}
			},
			"certificate": func(ts *testscript.TestScript, neg bool, args []string) {
				ca, err := backendtest.NewCA()
				ts.Check(err)
				cert, err := ca.Issue("localhost")
				ts.Check(err)
				_, _, err = cert.WriteFiles(ts.MkAbs("."), args[0])
				ts.Check(err)
			},
		},
	})
}
