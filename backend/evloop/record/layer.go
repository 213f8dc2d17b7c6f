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
)

// Content types (RFC 8446 section 5.1).
const (
	typeAlert           = 21
	typeHandshake       = 22
	typeApplicationData = 23
)

// Handshake messages that may come after the handshake (RFC 8446 section 4.6).
const (
	newSessionTicket = 4
	keyUpdate        = 24
)

// Alerts (RFC 8446 section 6).
const (
	closeNotify       = 0
	unexpectedMessage = 10
	badRecordMAC      = 20
	recordOverflow    = 22
	decodeError       = 50
	userCanceled      = 90
)

const (
	// maxUseless bounds the records in a row that carry nothing for the
	// application, as crypto/tls does.
	maxUseless = 16
	// maxHandshake bounds a message after the handshake: a session ticket.
	maxHandshake = 1 << 16
)

// Layer is a TLS connection behind its handshake. It is for one goroutine at a
// time.
type Layer struct {
	suite  *suite
	server bool
	in     half
	out    half

	hand    []byte // the start of a handshake message whose rest is in the next record
	useless int    // records in a row that carried nothing
	reply   []byte // what the peer must be told, as records
	err     error  // nothing can be read any more
	closed  bool   // close_notify or an alert has been sent
}

// New returns the layer of a connection whose handshake was the last that s has
// seen, and which has the properties of c (Supported). server says which side
// we are, tickets how many session tickets we have sent: they are the first
// records under the new keys.
func New(c tls.ConnectionState, s *Secrets, server bool, tickets int) (*Layer, error) {
	l := &Layer{suite: suiteByID(c.CipherSuite), server: server}
	in, out := s.server, s.client
	if server {
		in, out = s.client, s.server
	}
	if l.suite == nil || len(in) != l.suite.hash.Size() || len(out) != l.suite.hash.Size() {
		return nil, errors.New("no traffic secrets for this TLS connection")
	}
	if err := errors.Join(l.in.rekey(l.suite, in), l.out.rekey(l.suite, out)); err != nil {
		return nil, err
	}
	l.out.seq = uint64(tickets)
	return l, nil
}

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
// more can be read; io.EOF is the end that the peer has announced. Reply may
// have something to send in either case. rec may be shorter than Size says when
// that is more than MaxLen: no such record is worth waiting for.
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
	if rec[0] != typeApplicationData || rec[1] != 3 || rec[2] != 3 || n < maxOverhead {
		return dst, l.fail(unexpectedMessage)
	}
	opened, err := l.in.aead.Open(dst, l.in.next(), rec[HeaderLen:n], rec[:HeaderLen])
	if err != nil {
		return dst, l.fail(badRecordMAC)
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
	case len(content) > MaxPlaintext:
		return dst, l.fail(recordOverflow)
	case typ == typeApplicationData && len(l.hand) == 0:
		if len(content) == 0 {
			return dst, l.idle()
		}
		l.useless = 0
		return opened[:end-1], nil
	case typ == typeAlert && len(l.hand) == 0:
		return dst, l.alert(content)
	case typ == typeHandshake && len(content) > 0:
		return dst, l.handshake(content)
	}
	return dst, l.fail(unexpectedMessage)
}

// idle counts a record that carried nothing.
func (l *Layer) idle() error {
	if l.useless++; l.useless > maxUseless {
		return l.fail(unexpectedMessage)
	}
	return nil
}

// alert takes an alert of the peer.
func (l *Layer) alert(b []byte) error {
	if len(b) != 2 {
		return l.fail(decodeError)
	}
	switch b[1] {
	case closeNotify:
		l.err = io.EOF
	case userCanceled: // close_notify follows
		return l.idle()
	default:
		l.err = fmt.Errorf("remote error: %w", tls.AlertError(b[1]))
	}
	return l.err
}

// handshake takes messages that follow the handshake.
func (l *Layer) handshake(b []byte) error {
	if err := l.idle(); err != nil {
		return err
	}
	l.hand = append(l.hand, b...)
	for len(l.hand) >= 4 {
		n := 4 + int(l.hand[1])<<16 + int(l.hand[2])<<8 + int(l.hand[3])
		if n > maxHandshake {
			return l.fail(decodeError)
		}
		if len(l.hand) < n {
			return nil
		}
		msg := l.hand[:n]
		l.hand = l.hand[n:]
		switch {
		case msg[0] == newSessionTicket && !l.server: // we have no use for it
		case msg[0] == keyUpdate:
			if err := l.keyUpdate(msg[4:]); err != nil {
				return err
			}
		default:
			return l.fail(unexpectedMessage)
		}
	}
	if len(l.hand) == 0 {
		l.hand = nil
	}
	return nil
}

// keyUpdate goes to new keys (RFC 8446 section 4.6.3).
func (l *Layer) keyUpdate(body []byte) error {
	if len(body) != 1 || body[0] > 1 {
		return l.fail(decodeError)
	}
	if len(l.hand) > 0 { // under the old key
		return l.fail(unexpectedMessage)
	}
	if err := l.in.update(l.suite); err != nil {
		l.err = err
		return err
	}
	if body[0] == 0 || l.closed {
		return nil
	}
	l.reply = l.seal(l.reply, typeHandshake, []byte{keyUpdate, 0, 0, 1, 0})
	if err := l.out.update(l.suite); err != nil {
		l.err = err
		return err
	}
	return nil
}

// fail ends the connection and has the peer told why.
func (l *Layer) fail(alert byte) error {
	l.err = fmt.Errorf("local error: %w", tls.AlertError(alert))
	if !l.closed {
		l.closed = true
		const fatal = 2
		l.reply = l.seal(l.reply, typeAlert, []byte{fatal, alert})
	}
	return l.err
}

// Reply returns records that must be sent before anything that is sealed later,
// or nil. They are the caller's.
func (l *Layer) Reply() []byte {
	b := l.reply
	l.reply = nil
	return b
}

// Seal appends p to dst, as records.
func (l *Layer) Seal(dst, p []byte) []byte {
	for len(p) > 0 && !l.closed {
		n := min(len(p), MaxPlaintext)
		dst = l.seal(dst, typeApplicationData, p[:n])
		p = p[n:]
	}
	return dst
}

// SealClose appends close_notify, the first time; nothing can be sealed after
// it.
func (l *Layer) SealClose(dst []byte) []byte {
	if l.closed {
		return dst
	}
	l.closed = true
	const warning = 1
	return l.seal(dst, typeAlert, []byte{warning, closeNotify})
}

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
