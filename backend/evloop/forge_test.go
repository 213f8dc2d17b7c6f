package evloop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// forger is a TLS client behind its handshake that sends what crypto/tls never
// would: any type of record, padding, changes of keys. It shares no code with
// the package record.
type forger struct {
	net.Conn
	out, in traffic
	updates int // KeyUpdates that have come
}

// traffic is one direction, under TLS_AES_128_GCM_SHA256.
type traffic struct {
	secret, iv []byte
	aead       cipher.AEAD
	seq        uint64
}

func (h *traffic) expand(label string, n int) []byte {
	info := fmt.Sprintf("%c%c%c%s%s%c", 0, n, len("tls13 ")+len(label), "tls13 ", label, 0)
	b, err := hkdf.Expand(sha256.New, h.secret, info, n)
	if err != nil {
		panic(err)
	}
	return b
}

func (h *traffic) key(secret []byte) {
	h.secret, h.seq = secret, 0
	block, err := aes.NewCipher(h.expand("key", 16))
	if err != nil {
		panic(err)
	}
	if h.aead, err = cipher.NewGCM(block); err != nil {
		panic(err)
	}
	h.iv = h.expand("iv", 12)
}

func (h *traffic) update() { h.key(h.expand("traffic upd", 32)) }

func (h *traffic) nonce() []byte {
	n := binary.BigEndian.AppendUint64(make([]byte, 4), h.seq)
	for i := range n {
		n[i] ^= h.iv[i]
	}
	h.seq++
	return n
}

// forge makes the TLS connection between ours, the server's side, and a forger
// at peer.
func forge(t testing.TB, ours, peer net.Conn) (tr *Transport, conn TLSConn, f *forger) {
	t.Helper()
	var log bytes.Buffer
	config := clientTLS()
	config.KeyLogWriter = &log
	tr, conn, client := secureWith(t, ours, peer, serverTLS(tls.VersionTLS13), config)
	if suite := client.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skipf("crypto/tls prefers %s here", tls.CipherSuiteName(suite))
	}
	f = &forger{Conn: peer}
	for line := range strings.Lines(log.String()) {
		words := strings.Fields(line)
		secret, err := hex.DecodeString(words[2])
		if err != nil {
			t.Fatal(err)
		}
		switch words[0] {
		case "CLIENT_TRAFFIC_SECRET_0":
			f.out.key(secret)
		case "SERVER_TRAFFIC_SECRET_0":
			f.in.key(secret)
		}
	}
	return tr, conn, f
}

// forged returns a stream and the forger at its other end.
func forged(t testing.TB) (*Stream, *forger) {
	t.Helper()
	ours, peer := socketPair(t)
	tr, conn, f := forge(t, ours, peer)
	s, err := tr.Detach(conn)
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

// seal returns a record.
func (f *forger) seal(typ byte, content string) []byte {
	n := len(content) + 1 + 16
	head := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return f.out.aead.Seal(head, f.out.nonce(), append([]byte(content), typ), head)
}

func (f *forger) data(content string) []byte { return f.seal(23, content) }

func (f *forger) closeNotify() []byte { return f.seal(21, "\x01\x00") }

// update returns a KeyUpdate, and goes to the next key.
func (f *forger) update(requested bool) []byte {
	msg := "\x18\x00\x00\x01\x00"
	if requested {
		msg = "\x18\x00\x00\x01\x01"
	}
	rec := f.seal(22, msg)
	f.out.update()
	return rec
}

// Read returns what a record carries, and follows KeyUpdates. p must have room
// for it.
func (f *forger) Read(p []byte) (int, error) {
	if err := f.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return 0, err
	}
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(f.Conn, head); err != nil {
			return 0, err
		}
		body := make([]byte, binary.BigEndian.Uint16(head[3:]))
		if _, err := io.ReadFull(f.Conn, body); err != nil {
			return 0, err
		}
		b, err := f.in.aead.Open(nil, f.in.nonce(), body, head)
		if err != nil {
			return 0, err
		}
		switch typ, b := b[len(b)-1], b[:len(b)-1]; typ {
		case 21:
			if b[1] == 0 {
				return 0, io.EOF
			}
			return 0, tls.AlertError(b[1])
		case 22:
			if string(b) != "\x18\x00\x00\x01\x00" {
				return 0, fmt.Errorf("a handshake message %x", b)
			}
			f.updates++
			f.in.update()
		case 23:
			if len(b) > len(p) {
				return 0, errors.New("the buffer is too short")
			}
			return copy(p, b), nil
		default:
			return 0, fmt.Errorf("a record of type %d", typ)
		}
	}
}
