package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/pgvalet/pgvalet/backend/evloop"
)

// relayCommand makes this program a relay: relay LISTEN TO.
const relayCommand = "relay"

// runRelay takes connections and carries their bytes to one of its own, one
// for each, on one event loop: what pgvalet does with the sockets, and nothing
// of what it does with their content. It ends with a signal.
func runRelay(listen, to string) error {
	loop, err := evloop.New(0, nil)
	if err != nil {
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
		loop.Stop()
	})
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed
			}
			if err := relayTo(loop, conn, to); err != nil {
				fmt.Fprintln(os.Stderr, "relay: "+err.Error())
			}
		}
	})
	err = loop.Run()
	running.Wait()
	return err
}

func relayTo(loop *evloop.Loop, client net.Conn, to string) error {
	server, err := net.Dial("tcp", to)
	if err != nil {
		client.Close()
		return err
	}
	var ends [2]*relayEnd
	for i, conn := range []net.Conn{client, server} {
		s, err := evloop.NewTransport(conn).Detach(nil)
		if err != nil {
			return err
		}
		ends[i] = &relayEnd{stream: s}
	}
	ends[0].other, ends[1].other = ends[1], ends[0]
	for _, e := range ends {
		if err := loop.Attach(e.stream, e); err != nil {
			return err
		}
	}
	return nil
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
