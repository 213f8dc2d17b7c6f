package record

import (
	"crypto/tls"
	"fmt"
	"io"
)

// Alerts (RFC 8446 section 6).
const (
	closeNotify       = 0
	unexpectedMessage = 10
	badRecordMAC      = 20
	recordOverflow    = 22
	illegalParameter  = 47
	decodeError       = 50
	internalError     = 80
	userCanceled      = 90
)

// Handshake messages that may come after the handshake (RFC 8446 section 4.6).
const (
	newSessionTicket = 4
	keyUpdate        = 24
)

const (
	// maxUseless bounds how many more records carry nothing for the
	// application than carry something: they cost us more than the peer.
	maxUseless = 16
	// maxTicket bounds a message with a session ticket.
	maxTicket = 1 << 16
)

// idle counts a record that carried nothing.
func (l *Layer) idle() error {
	if l.useless++; l.useless > maxUseless {
		return l.fail(unexpectedMessage)
	}
	return nil
}

// alerted takes an alert of the peer. Its level means nothing any more.
func (l *Layer) alerted(b []byte) error {
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
		// Judge a message before it is whole: it takes memory until then.
		typ, n := l.hand[0], 4+int(l.hand[1])<<16+int(l.hand[2])<<8+int(l.hand[3])
		ticket := typ == newSessionTicket && !l.server
		switch {
		case !ticket && typ != keyUpdate:
			return l.fail(unexpectedMessage)
		case ticket && n > maxTicket, !ticket && n != len(keyUpdateMessage):
			return l.fail(decodeError)
		case len(l.hand) < n:
			return nil
		case ticket: // we have no use for it
			l.hand = l.hand[n:]
		case len(l.hand) > n: // what follows is under the old key
			return l.fail(unexpectedMessage)
		default:
			return l.keyUpdated()
		}
	}
	if len(l.hand) == 0 {
		l.hand = nil
	}
	return nil
}

// keyUpdateMessage is a KeyUpdate that asks for none in return.
var keyUpdateMessage = [...]byte{keyUpdate, 0, 0, 1, 0}

// keyUpdated goes to the peer's new key: its KeyUpdate is in hand (RFC 8446
// section 4.6.3). The KeyUpdate that it may ask for goes out with the next
// bytes of the application: one is enough however many were asked for, and
// a peer that reads nothing cannot pile them up here.
func (l *Layer) keyUpdated() error {
	switch l.hand[4] {
	case 0:
	case 1:
		l.owed = true
	default:
		return l.fail(illegalParameter)
	}
	l.hand = nil
	if l.in.update(l.suite) != nil {
		return l.fail(internalError)
	}
	return nil
}

// sealKeyUpdate goes to our next key.
func (l *Layer) sealKeyUpdate(dst []byte) []byte {
	l.owed = false
	dst = l.seal(dst, typeHandshake, keyUpdateMessage[:])
	if l.out.update(l.suite) != nil {
		l.closed = true // the old key is worn
		_ = l.fail(internalError)
	}
	return dst
}

// fail ends the connection.
func (l *Layer) fail(alert byte) error {
	l.err = fmt.Errorf("local error: %w", tls.AlertError(alert))
	l.alert = alert
	l.hand = nil
	return l.err
}

// SealAlert appends the alert that says what Open found wrong with the peer's
// records, if it did, the first time; nothing can be sealed after it.
func (l *Layer) SealAlert(dst []byte) []byte {
	const fatal = 2
	if l.alert == 0 || l.closed {
		return dst
	}
	l.closed = true
	return l.seal(dst, typeAlert, []byte{fatal, l.alert})
}

// SealClose appends close_notify, the first time; nothing can be sealed after
// it.
func (l *Layer) SealClose(dst []byte) []byte {
	const warning = 1
	if l.closed {
		return dst
	}
	l.closed = true
	return l.seal(dst, typeAlert, []byte{warning, closeNotify})
}
