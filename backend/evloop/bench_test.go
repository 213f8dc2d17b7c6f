package evloop

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
)

// echo sends back what it reads.
func echo(s *Stream) {
	buf := s.Loop().Scratch()
	for {
		n, err := s.Read(buf)
		if err == ErrWouldBlock {
			return
		}
		if err != nil {
			s.Close()
			return
		}
		s.Write(buf[:n])
		if n < len(buf) {
			return
		}
	}
}

// BenchmarkEcho is a round trip through a loop: a query-sized message to it,
// and back. The TLS peer's own allocations are part of what it reports.
func BenchmarkEcho(b *testing.B) {
	run := func(b *testing.B, s *Stream, peer io.ReadWriter) {
		l := startLoop(b)
		attach(b, l, s, &hooks{readable: echo})
		msg := make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := peer.Write(msg); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(peer, msg); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("plain", func(b *testing.B) {
		s, peer := detached(b)
		run(b, s, peer)
	})
	b.Run("tls", func(b *testing.B) {
		s, peer := detachedTLS(b, tls.VersionTLS13)
		run(b, s, peer)
	})
	b.Run("tls/goroutines", func(b *testing.B) { // what crypto/tls costs by itself
		ours, peerConn := socketPair(b)
		_, conn, peer := secure(b, ours, peerConn, tls.VersionTLS13)
		go func() { _, _ = io.Copy(struct{ io.Writer }{conn}, struct{ io.Reader }{conn}) }()
		msg := make([]byte, 64)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := peer.Write(msg); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(peer, msg); err != nil {
				b.Fatal(err)
			}
		}
		peerConn.Close()
	})
}

// BenchmarkBulkRead is what a loop takes in from a peer that never waits.
func BenchmarkBulkRead(b *testing.B) {
	const chunk = 1 << 20
	run := func(b *testing.B, s *Stream, peer net.Conn) {
		l := startLoop(b)
		total := 0
		done := make(chan struct{})
		attach(b, l, s, &hooks{readable: func(s *Stream) {
			n, err := s.Read(l.Scratch())
			if err == nil && n == len(l.Scratch()) {
				s.Yield()
			}
			if total += n; total >= chunk {
				total -= chunk
				done <- struct{}{}
			}
		}})
		p := make([]byte, chunk)
		b.SetBytes(chunk)
		b.ReportAllocs()
		for b.Loop() {
			go func() { _, _ = peer.Write(p) }()
			<-done
		}
	}
	b.Run("plain", func(b *testing.B) {
		ours, peer := dialled(b, "tcp")
		run(b, detach(b, ours), peer)
	})
	b.Run("tls", func(b *testing.B) {
		ours, peerConn := dialled(b, "tcp")
		tr, conn, peer := secure(b, ours, peerConn, tls.VersionTLS13)
		s, err := tr.Detach(conn)
		if err != nil {
			b.Fatal(err)
		}
		run(b, s, peer)
	})
}
