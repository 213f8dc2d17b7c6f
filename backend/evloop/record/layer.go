package record

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// HeaderLen is the length of a record's header.
	HeaderLen = 5
	// MaxPlaintext is the most that one record carries.
	MaxPlaintext = 1 << 14
	// MaxLen is the length of the longest record (RFC 8446 section 5.2).
	MaxLen = HeaderLen + MaxPlaintext + 256

	tagLen      = 16
	maxOverhead = HeaderLen + tagLen + 1 // the content type is encrypted too

	// maxRecords is how many records are sealed under one key. AES-GCM stays
	// safe for 2^24.5 of full length (RFC 8446 section 5.5).
	maxRecords = 1 << 24
)

// Content types (RFC 8446 section 5.1).
const (
	typeAlert           = 21
	typeHandshake       = 22
	typeApplicationData = 23
)

// Layer is a TLS connection behind its handshake. It is for one goroutine at a
// time.
type Layer struct {
	suite  *suite
	server bool
	in     half
	out    half

	hand    []byte // the start of a handshake message whose rest is in the next record
	useless int    // records that carried nothing, less those that did
	err     error  // nothing can be read any more
	alert   byte   // what the peer must be told of err; 0: nothing
	owed    bool   // the peer wants us to change our key
	closed  bool   // close_notify or an alert has been sent
}

// New returns the layer of a connection whose handshake was the last that s has
// seen, and which has the properties of c (Supported). server says which side
// we are, tickets how many records with session tickets we have sent: they are
// the first under the new keys.
func New(c tls.ConnectionState, s *Secrets, server bool, tickets int) (*Layer, error) {
	l := &Layer{suite: suiteByID(c.CipherSuite), server: server}
	in, out := s.server, s.client
	if server {
		in, out = s.client, s.server
	}
	if l.suite == nil || in == nil || out == nil || s.n != l.suite.hash.Size() {
		return nil, errors.New("no traffic secrets for this TLS connection")
	}
	if err := errors.Join(l.in.rekey(l.suite, in), l.out.rekey(l.suite, out)); err != nil {
		return nil, err
	}
	l.out.seq = uint64(tickets)
	return l, nil
}

// Format keeps keys out of logs.
func (l *Layer) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// Size returns the length of the record at the start of b, header included, or
// 0 when b is too short to tell. Open says what is wrong with it.
func Size(b []byte) int {
	if len(b) < HeaderLen {
		return 0
	}
	return HeaderLen + int(binary.BigEndian.Uint16(b[3:]))
}

// Room is how much space Open needs for a record of n bytes.
func Room(n int) int { return max(0, n-HeaderLen-tagLen) }

// Open takes one record and appends what it carries for the application to
// dst, which must have Room for it and not overlap rec. After an error nothing
// more can be read; io.EOF is the end that the peer has announced. Of any other
// error the peer must be told (SealAlert). rec may be shorter than Size says
// when that is more than MaxLen: no such record is worth waiting for.
func (l *Layer) Open(dst, rec []byte) ([]byte, error) {
	if l.err != nil {
		return dst, l.err
	}
	n := Size(rec)
	if n > MaxLen {
		return dst, l.fail(recordOverflow)
	}
	// Everything is encrypted now. The version is to be ignored, says the RFC,
	// but is known.
	if rec[0] != typeApplicationData || rec[1] != 3 || rec[2] != 3 {
		return dst, l.fail(unexpectedMessage)
	}
	opened, err := l.in.aead.Open(dst, l.in.next(), rec[HeaderLen:n], rec[:HeaderLen])
	if err != nil {
		return dst, l.fail(badRecordMAC)
	}
	if len(opened)-len(dst) > MaxPlaintext+1 { // padding counts
		return dst, l.fail(recordOverflow)
	}
	// The content type is the last byte that is not padding.
	end := len(opened)
	for end > len(dst) && opened[end-1] == 0 {
		end--
	}
	if end == len(dst) {
		return dst, l.fail(unexpectedMessage)
	}
	typ, content := opened[end-1], opened[len(dst):end-1]
	switch {
	case typ == typeApplicationData && len(l.hand) == 0:
		if len(content) == 0 {
			return dst, l.idle()
		}
		l.useless = max(0, l.useless-1)
		return opened[:end-1], nil
	case typ == typeAlert && len(l.hand) == 0:
		return dst, l.alerted(content)
	case typ == typeHandshake && len(content) > 0:
		return dst, l.handshake(content)
	}
	return dst, l.fail(unexpectedMessage)
}

// Seal appends p to dst, as records. Nothing is appended after SealClose or
// SealAlert.
func (l *Layer) Seal(dst, p []byte) []byte {
	for len(p) > 0 && !l.closed {
		if l.owed || l.out.seq >= maxRecords {
			dst = l.sealKeyUpdate(dst)
			continue
		}
		n := min(len(p), MaxPlaintext)
		dst = l.seal(dst, typeApplicationData, p[:n])
		p = p[n:]
	}
	return dst
}

// Closed reports whether nothing can be sealed any more.
func (l *Layer) Closed() bool { return l.closed }

// seal appends one record.
func (l *Layer) seal(dst []byte, typ byte, content []byte) []byte {
	start := len(dst)
	dst = slices.Grow(dst, len(content)+maxOverhead)
	dst = append(dst, typeApplicationData, 3, 3, 0, 0)
	binary.BigEndian.PutUint16(dst[start+3:], uint16(len(content)+1+tagLen))
	dst = append(dst, content...)
	dst = append(dst, typ)
	head, body := dst[start:start+HeaderLen], dst[start+HeaderLen:]
	sealed := l.out.aead.Seal(body[:0], l.out.next(), body, head) // in place: there is room
	return dst[:start+HeaderLen+len(sealed)]
}
