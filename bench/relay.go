package main

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/pgvalet/pgvalet/backend/evloop"
)

// relayCommand makes this program a relay: relay VARIANT LISTEN TO.
const relayCommand = "relay"

// relay takes connections and carries their bytes to one of its own, one
// for each, on one event loop: what pgvalet does with the sockets, and nothing
// of what it does with their content.
type relay struct {
	loop *evloop.Loop
	to   string
	tls  *tls.Config // of evloop.ServerTLS, for clients; nil: no TLS on either side
}

// runRelay is a relay until a signal ends it. With TLS it needs the stage's
// files where it is started.
func runRelay(variant, listen, to string) error {
	r := &relay{to: to}
	if variant == tlsVariant {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return err
		}
		r.tls = evloop.ServerTLS(&tls.Config{Certificates: []tls.Certificate{cert}})
	}
	var err error
	if r.loop, err = evloop.New(0, nil); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT)
	var running sync.WaitGroup
	running.Go(func() {
		<-stop
		ln.Close()
		r.loop.Stop()
	})
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			if err := r.take(conn); err != nil {
				fmt.Fprintln(os.Stderr, "relay: "+err.Error())
			}
		}
	})
	err = r.loop.Run()
	running.Wait()
	return err
}

// take connects a client with a server. The next client waits meanwhile.
func (r *relay) take(client net.Conn) error {
	server, err := net.Dial("tcp", r.to)
	if err != nil {
		client.Close()
		return err
	}
	a, err := r.end(client, r.acceptTLS)
	if err != nil {
		server.Close()
		return err
	}
	b, err := r.end(server, r.startTLS)
	if err != nil {
		a.stream.Close()
		return err
	}
	a.other, b.other = b, a
	// On the loop's goroutine, where nothing can come in between.
	r.loop.Post(func(any) {
		if err := errors.Join(r.loop.Attach(a.stream, a), r.loop.Attach(b.stream, b)); err != nil {
			fmt.Fprintln(os.Stderr, "relay: "+err.Error())
			a.close()
		}
	}, nil)
	return nil
}

// end makes conn, which it owns, one end of a relay.
func (r *relay) end(conn net.Conn, secure func(net.Conn, *evloop.Transport) (evloop.TLSConn, error)) (*relayEnd, error) {
	conn.SetDeadline(time.Now().Add(clientPatience)) // for the handshake; a stream has none
	t := evloop.NewTransport(conn)
	var secured evloop.TLSConn
	if r.tls != nil {
		var err error
		if secured, err = secure(conn, t); err != nil {
			conn.Close()
			return nil, err
		}
	}
	s, err := t.Detach(secured)
	if err != nil {
		return nil, err
	}
	return &relayEnd{stream: s}, nil
}

func (r *relay) acceptTLS(client net.Conn, t *evloop.Transport) (evloop.TLSConn, error) {
	var request [8]byte
	if _, err := io.ReadFull(client, request[:]); err != nil {
		return nil, err
	}
	if code := binary.BigEndian.Uint32(request[4:]); code != sslRequest {
		return nil, fmt.Errorf("request %d instead of one for TLS", code)
	}
	if _, err := client.Write([]byte{'S'}); err != nil {
		return nil, err
	}
	return t.Server(r.tls)
}

func (r *relay) startTLS(server net.Conn, t *evloop.Transport) (evloop.TLSConn, error) {
	if err := askTLS(server); err != nil {
		return nil, err
	}
	return t.Client(clientTLS())
}

// relayEnd is one of the two connections that belong together.
type relayEnd struct {
	stream *evloop.Stream
	other  *relayEnd
}

// Readable implements evloop.Handler.
func (e *relayEnd) Readable(s *evloop.Stream) {
	buf := s.Loop().Scratch()
	n, err := s.Read(buf)
	switch {
	case n > 0:
		e.other.stream.Write(buf[:n])
		if e.other.stream.Queued() > 0 {
			s.PauseRead()
		} else if n == len(buf) {
			s.Yield()
		}
	case !errors.Is(err, evloop.ErrWouldBlock):
		e.close()
	}
}

// Writable implements evloop.Handler.
func (e *relayEnd) Writable(*evloop.Stream) { e.other.stream.ResumeRead() }

// Parked implements evloop.Handler.
func (e *relayEnd) Parked(*evloop.Stream, *evloop.Loop) {}

// HungUp implements evloop.Handler.
func (e *relayEnd) HungUp(_ *evloop.Stream, gone bool) {
	if gone {
		e.close()
	}
}

func (e *relayEnd) close() {
	e.stream.Close()
	e.other.stream.Close()
}
