package frontend

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
)

// records is TLS 1.3 after the handshake (RFC 8446, section 5), with one cipher
// suite and nothing but application data. crypto/tls allocates whenever it
// reads, and this does not.
type records struct {
	conn     net.Conn
	receive  sealing
	transmit sealing
	in       []byte // records that have arrived, the last one perhaps in part
	opened   int    // how long the first of them is, once it is decrypted
	text     []byte // what nobody has read of its content
	out      []byte
}

// sealing protects one direction.
type sealing struct {
	aead  cipher.AEAD
	iv    [12]byte
	nonce [12]byte
	seq   uint64
}

// maxRecord is the longest record, with its header.
const maxRecord = 5 + 1<<14 + 256

// Types of records.
const (
	alertRecord     = 21
	applicationData = 23
)

// errOtherSuite comes on processors that do not compute AES by themselves.
var errOtherSuite = errors.New("the TLS connection does not use AES-128")

// quietTLS does the handshake with crypto/tls, as a server if cert is not nil,
// and takes over after it.
func quietTLS(conn net.Conn, cert *tls.Certificate) (io.ReadWriter, error) {
	var log bytes.Buffer
	cfg := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		InsecureSkipVerify:     true,
		SessionTicketsDisabled: true, // they would be records, too
		KeyLogWriter:           &log,
	}
	c := tls.Client(byteByByte{conn}, cfg)
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
		c = tls.Server(byteByByte{conn}, cfg)
	}
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	if suite := c.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		return nil, errOtherSuite
	}
	client, err := sealingOf(log.Bytes(), "CLIENT_TRAFFIC_SECRET_0")
	if err != nil {
		return nil, err
	}
	server, err := sealingOf(log.Bytes(), "SERVER_TRAFFIC_SECRET_0")
	if err != nil {
		return nil, err
	}
	r := &records{conn: conn, receive: client, transmit: server, in: make([]byte, 0, 2*maxRecord), out: make([]byte, 0, maxRecord)}
	if cert == nil {
		r.receive, r.transmit = server, client
	}
	return r, nil
}

// byteByByte keeps crypto/tls from reading beyond the handshake.
type byteByByte struct{ net.Conn }

func (c byteByByte) Read(p []byte) (int, error) { return c.Conn.Read(p[:min(len(p), 1)]) }

// sealingOf derives the keys of a direction from its secret in an NSS key log:
// lines of label, client random and secret.
func sealingOf(log []byte, label string) (s sealing, err error) {
	for line := range bytes.Lines(log) {
		fields := bytes.Fields(line)
		if len(fields) != 3 || string(fields[0]) != label {
			continue
		}
		secret, err := hex.DecodeString(string(fields[2]))
		if err != nil {
			return s, err
		}
		key, err := expandLabel(secret, "key", 16)
		if err != nil {
			return s, err
		}
		iv, err := expandLabel(secret, "iv", len(s.iv))
		if err != nil {
			return s, err
		}
		copy(s.iv[:], iv)
		block, err := aes.NewCipher(key)
		if err != nil {
			return s, err
		}
		s.aead, err = cipher.NewGCM(block)
		return s, err
	}
	return s, errors.New("no " + label + " in the key log")
}

// expandLabel is HKDF-Expand-Label with an empty context (RFC 8446, 7.1).
func expandLabel(secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	info = append(info, byte(len(label)))
	info = append(info, label...)
	return hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
}

// next returns the nonce of the next record.
func (s *sealing) next() []byte {
	s.nonce = s.iv
	tail := s.nonce[4:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^s.seq)
	s.seq++
	return s.nonce[:]
}

// Read reads what is left of one record, or the next one.
func (r *records) Read(p []byte) (int, error) {
	for len(r.text) == 0 {
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.text)
	r.text = r.text[n:]
	return n, nil
}

// open decrypts the next record, in place of the last one.
func (r *records) open() error {
	r.in, r.opened = r.in[:copy(r.in, r.in[r.opened:])], 0
	if err := r.fill(5); err != nil {
		return err
	}
	n := 5 + int(binary.BigEndian.Uint16(r.in[3:]))
	if n > maxRecord {
		return io.ErrShortBuffer
	}
	if err := r.fill(n); err != nil {
		return err
	}
	text, err := r.receive.aead.Open(r.in[5:5], r.receive.next(), r.in[5:n], r.in[:5])
	if err != nil {
		return err
	}
	typ := text[len(text)-1]
	r.text, r.opened = text[:len(text)-1], n                      // neither side pads
	if typ == alertRecord && len(r.text) == 2 && r.text[1] == 0 { // close_notify
		return io.EOF
	}
	if typ != applicationData {
		return fmt.Errorf("TLS record of type %d: %x", typ, r.text)
	}
	return nil
}

// fill reads until at least n bytes are here.
func (r *records) fill(n int) error {
	for len(r.in) < n {
		m, err := r.conn.Read(r.in[len(r.in):cap(r.in)])
		if err != nil {
			return err
		}
		r.in = r.in[:len(r.in)+m]
	}
	return nil
}

// Write sends p, which must fit into one record.
func (r *records) Write(p []byte) (int, error) {
	n := len(p) + 1 + r.transmit.aead.Overhead()
	if 5+n > cap(r.out) {
		return 0, io.ErrShortBuffer
	}
	b := append(r.out[:0], applicationData, 3, 3, byte(n>>8), byte(n))
	b = append(append(b, p...), applicationData)
	b = r.transmit.aead.Seal(b[:5], r.transmit.next(), b[5:], b[:5])
	if _, err := r.conn.Write(b); err != nil {
		return 0, err
	}
	return len(p), nil
}
