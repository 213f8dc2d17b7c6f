package evloop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"
)

var tlsVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// TestTLSReadResumes pins what doc.go says of crypto/tls: after "no bytes yet"
// at any byte of a record, Read goes on where it was.
func TestTLSReadResumes(t *testing.T) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ours, peerConn := socketPair(t)
			pipe := &records{Conn: peerConn}
			tr, conn, peer := secure(t, ours, pipe, version)
			s, err := tr.Detach(conn)
			if err != nil {
				t.Fatal(err)
			}
			l := startLoop(t)
			r := newReadAll()
			attach(t, l, s, r)

			var want []byte
			pipe.holding = true
			for _, msg := range []string{"a message", "", "x"} {
				mustWrite(t, peer, []byte(msg))
				want = append(want, msg...)
			}
			for _, b := range pipe.held {
				// Readable has seen each byte alone before the next is sent.
				mustWrite(t, peerConn, []byte{b})
				wait(t, r.read)
			}
			call(t, l, func() {
				if r.err != nil || !bytes.Equal(r.got, want) {
					t.Errorf("got %q, %v; want %q", r.got, r.err, want)
				}
			})
		})
	}
}

// TestTLSRecordsTogether sends many records at once, and cuts the stream of
// records in two at every byte.
func TestTLSRecordsTogether(t *testing.T) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ours, peerConn := socketPair(t)
			pipe := &records{Conn: peerConn}
			tr, conn, peer := secure(t, ours, pipe, version)
			s, err := tr.Detach(conn)
			if err != nil {
				t.Fatal(err)
			}
			l := startLoop(t)
			r := newReadAll()
			attach(t, l, s, r)

			pipe.holding = true
			for cut := 0; ; cut++ {
				pipe.held = pipe.held[:0]
				var want []byte
				for i := range 20 {
					msg := bytes.Repeat([]byte{byte(i)}, i*3)
					mustWrite(t, peer, msg)
					want = append(want, msg...)
				}
				if cut > len(pipe.held) {
					break
				}
				call(t, l, func() { r.got = r.got[:0] })
				mustWrite(t, peerConn, pipe.held[:cut])
				turns(t, l, 1)
				mustWrite(t, peerConn, pipe.held[cut:])
				r.until(t, l, func() bool { return len(r.got) >= len(want) || r.err != nil })
				if r.err != nil || !bytes.Equal(r.got, want) {
					t.Fatalf("cut at %d: got %q, %v; want %q", cut, r.got, r.err, want)
				}
			}
		})
	}
}

// TestTLSBytesAtDetach has bytes in every place where they can be when a stream
// is made: records that crypto/tls has read already, whole and in part, and
// the socket.
func TestTLSBytesAtDetach(t *testing.T) {
	for _, version := range tlsVersions {
		for _, parked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/parked=%t", tls.VersionName(version), parked), func(t *testing.T) {
				for early := 0; ; early++ {
					if testTLSBytesAtDetach(t, version, parked, early*7) {
						return
					}
				}
			})
		}
	}
}

// testTLSBytesAtDetach sends the first early bytes of the records before Detach
// and the others after Attach. It reports true when there are no others.
func testTLSBytesAtDetach(t *testing.T, version uint16, parked bool, early int) bool {
	ours, peerConn := socketPair(t)
	pipe := &records{Conn: peerConn}
	tr, conn, peer := secure(t, ours, pipe, version)
	pipe.holding = true
	mustWrite(t, peer, []byte("password")) // one record, of which login reads the first byte
	first := len(pipe.held)
	for i := range 4 {
		mustWrite(t, peer, bytes.Repeat([]byte{'a' + byte(i)}, 30))
	}
	early = min(first+early, len(pipe.held))
	mustWrite(t, peerConn, pipe.held[:early])
	mustRead(t, conn, 1)
	s, err := tr.Detach(conn)
	if err != nil {
		t.Fatal(err)
	}
	l := startLoop(t)
	r := newReadAll()
	if parked {
		s.Park()
	}
	attach(t, l, s, r)
	if parked {
		call(t, l, func() {
			if err := s.Unpark(l); err != nil {
				t.Error(err)
			}
		})
	}
	const wantLen = len("assword") + 4*30
	if early < len(pipe.held) {
		// What came early must not wait for more: the first record is whole.
		r.until(t, l, func() bool { return len(r.got) >= len("assword") })
		mustWrite(t, peerConn, pipe.held[early:])
	}
	r.until(t, l, func() bool { return len(r.got) >= wantLen || r.err != nil })
	call(t, l, func() {
		if r.err != nil || !bytes.HasPrefix(r.got, []byte("asswordaaa")) || len(r.got) != wantLen {
			t.Errorf("early %d: got %q, %v", early, r.got, r.err)
		}
	})
	return early == len(pipe.held)
}

// TestTLSEndWithBytes: bytes and close_notify arrive together and the handler
// believes a short read; the socket stays open. Half a connection is left: what
// is written still arrives.
func TestTLSEndWithBytes(t *testing.T) {
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			ours, peerConn := socketPair(t)
			pipe := &records{Conn: peerConn}
			tr, conn, peer := secure(t, ours, pipe, version)
			s, err := tr.Detach(conn)
			if err != nil {
				t.Fatal(err)
			}
			l := startLoop(t)
			end := make(chan error, 1)
			attach(t, l, s, &hooks{readable: func(s *Stream) {
				if _, err := s.Read(l.Scratch()); err != nil && err != ErrWouldBlock {
					s.Write([]byte("goodbye"))
					s.PauseRead()
					end <- err
				}
			}})
			pipe.holding = true
			mustWrite(t, peer, []byte("the end"))
			if err := peer.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if err := peerConn.SetDeadline(time.Time{}); err != nil {
				t.Fatal(err)
			}
			mustWrite(t, peerConn, pipe.held)
			if err := wait(t, end); err != io.EOF {
				t.Errorf("got %v, want EOF", err)
			}
			if got := mustRead(t, peer, 7); string(got) != "goodbye" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// TestTLSReadOutsideReadable reads several TLS streams inside one call, leaves
// bytes behind, and reads them later.
func TestTLSReadOutsideReadable(t *testing.T) {
	l := startLoop(t)
	const n = 3
	var streams [n]*Stream
	for i := range streams {
		s, peer := detachedTLS(t, tls.VersionTLS13)
		s.PauseRead()
		streams[i] = s
		attach(t, l, s, &hooks{})
		mustWrite(t, peer, bytes.Repeat([]byte{'a' + byte(i)}, 100))
		mustWrite(t, peer, bytes.Repeat([]byte{'A' + byte(i)}, 1000))
	}
	var got [n][]byte
	for range 50 {
		call(t, l, func() {
			for i, s := range streams {
				p := make([]byte, 30)
				m, err := s.Read(p)
				if err != nil && err != ErrWouldBlock {
					t.Error(i, err)
				}
				got[i] = append(got[i], p[:m]...)
			}
		})
	}
	for i := range got {
		want := append(bytes.Repeat([]byte{'a' + byte(i)}, 100), bytes.Repeat([]byte{'A' + byte(i)}, 1000)...)
		if !bytes.Equal(got[i], want) {
			t.Errorf("stream %d: got %q", i, got[i])
		}
	}
}

// TestTLSTruncated: an end without close_notify inside a record is an error, at
// the end of a record it is the end.
func TestTLSTruncated(t *testing.T) {
	for _, cut := range []int{0, 3, 8} {
		ours, peerConn := socketPair(t)
		pipe := &records{Conn: peerConn}
		tr, conn, peer := secure(t, ours, pipe, tls.VersionTLS13)
		s, err := tr.Detach(conn)
		if err != nil {
			t.Fatal(err)
		}
		l := startLoop(t)
		r := newReadAll()
		attach(t, l, s, r)
		pipe.holding = true
		mustWrite(t, peer, []byte("bytes"))
		mustWrite(t, peerConn, pipe.held[:cut])
		peerConn.Close()
		r.until(t, l, func() bool { return r.err != nil })
		want := io.ErrUnexpectedEOF
		if cut == 0 {
			want = io.EOF
		}
		if !errors.Is(r.err, want) {
			t.Errorf("cut at %d: got %v, want %v", cut, r.err, want)
		}
	}
}

// TestTLSBadRecord: a forged record breaks the connection, the peer is told.
func TestTLSBadRecord(t *testing.T) {
	ours, peerConn := socketPair(t)
	tr, conn, peer := secure(t, ours, peerConn, tls.VersionTLS13)
	s, err := tr.Detach(conn)
	if err != nil {
		t.Fatal(err)
	}
	l := startLoop(t)
	r := newReadAll()
	attach(t, l, s, r)
	mustWrite(t, peerConn, append([]byte{23, 3, 3, 0, 32}, make([]byte, 32)...))
	r.until(t, l, func() bool { return r.err != nil })
	if _, err := peer.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the peer got %v, want an alert", err)
	}
}
