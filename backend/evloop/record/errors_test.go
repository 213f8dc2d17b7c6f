package record

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"
)

// TestOpenErrors: what a peer may not send ends the connection, and it is told.
func TestOpenErrors(t *testing.T) {
	sealed := func(typ byte, content ...byte) func(*Layer) []byte {
		return func(l *Layer) []byte { return l.seal(nil, typ, content) }
	}
	several := func(recs ...func(*Layer) []byte) func(*Layer) []byte {
		return func(l *Layer) (b []byte) {
			for _, rec := range recs {
				b = append(b, rec(l)...)
			}
			return b
		}
	}
	times := func(n int, rec func(*Layer) []byte) func(*Layer) []byte {
		return several(slices.Repeat([]func(*Layer) []byte{rec}, n)...)
	}
	changed := func(at int, by byte) func(*Layer) []byte {
		return func(l *Layer) []byte {
			rec := l.Seal(nil, []byte("hello"))
			rec[(at+len(rec))%len(rec)] ^= by
			return rec
		}
	}
	raw := func(b ...byte) func(*Layer) []byte { return func(*Layer) []byte { return b } }
	const (
		handshake = typeHandshake
		alert     = typeAlert
		data      = typeApplicationData
	)
	tests := []struct {
		name string
		recs func(*Layer) []byte
		want tls.AlertError
	}{
		{"header only", raw(23, 3, 3, 0, 0), badRecordMAC},
		{"shorter than a tag", raw(append([]byte{23, 3, 3, 0, 15}, make([]byte, 15)...)...), badRecordMAC},
		{"no content at all", func(l *Layer) []byte { return l.sealInner(nil) }, unexpectedMessage},
		{"no content type", func(l *Layer) []byte { return l.sealInner(make([]byte, 100)) }, unexpectedMessage},
		{"tag", changed(-1, 1), badRecordMAC},
		{"ciphertext", changed(HeaderLen, 0x80), badRecordMAC},
		{"plain type", changed(0, 1), unexpectedMessage},
		{"plain change_cipher_spec", raw(20, 3, 3, 0, 1, 1), unexpectedMessage},
		{"plain alert", raw(21, 3, 3, 0, 2, 1, 0), unexpectedMessage},
		{"version", changed(2, 2), unexpectedMessage},
		{"replayed", func(l *Layer) []byte { rec := l.Seal(nil, []byte("x")); return append(rec, rec...) }, badRecordMAC},
		{"left out", func(l *Layer) []byte { l.Seal(nil, []byte("x")); return l.Seal(nil, []byte("y")) }, badRecordMAC},
		{"its own", func(l *Layer) []byte { // sent back to where it came from
			l.out, l.in = l.in, l.out
			return l.Seal(nil, []byte("x"))
		}, badRecordMAC},
		{"too long", raw(23, 3, 3, 0x41, 0x01), recordOverflow},
		{"as long as can be", raw(23, 3, 3, 0xff, 0xff), recordOverflow},
		{"too much content", func(l *Layer) []byte { return l.sealPadded(data, make([]byte, MaxPlaintext+1), 0) }, recordOverflow},
		{"too much padding", func(l *Layer) []byte { return l.sealPadded(data, make([]byte, MaxPlaintext), 1) }, recordOverflow},
		{"inner change_cipher_spec", sealed(20, 1), unexpectedMessage},
		{"unknown type", sealed(99, 1), unexpectedMessage},
		{"empty handshake", sealed(handshake), unexpectedMessage},
		{"empty alert", sealed(alert), decodeError},
		{"half an alert", sealed(alert, 2), decodeError},
		{"two alerts", sealed(alert, 1, 0, 1, 0), decodeError},
		{"bytes inside a handshake message", several(sealed(handshake, newSessionTicket), sealed(data, 'x')), unexpectedMessage},
		{"nothing inside a handshake message", several(sealed(handshake, newSessionTicket), sealed(data)), unexpectedMessage},
		{"an alert inside a handshake message", several(sealed(handshake, newSessionTicket), sealed(alert, 1, 0)), unexpectedMessage},
		{"ClientHello", sealed(handshake, 1, 0, 0, 0), unexpectedMessage},
		{"CertificateRequest", sealed(handshake, 13, 0, 0, 1, 0), unexpectedMessage},
		{"KeyUpdate without a body", sealed(handshake, keyUpdate, 0, 0, 0), decodeError},
		{"KeyUpdate with a long body", sealed(handshake, keyUpdate, 0, 0, 2, 0, 0), decodeError},
		{"KeyUpdate with a wrong body", sealed(handshake, keyUpdate, 0, 0, 1, 2), illegalParameter},
		{"KeyUpdate in front of something", sealed(handshake, keyUpdate, 0, 0, 1, 0, 4), unexpectedMessage},
		{"two KeyUpdates", sealed(handshake, keyUpdate, 0, 0, 1, 0, keyUpdate, 0, 0, 1, 0), unexpectedMessage},
		{"the old key after KeyUpdate", several(sealed(handshake, keyUpdate, 0, 0, 1, 0), sealed(data, 'x')), badRecordMAC},
		{"empty records", times(maxUseless+1, sealed(data)), unexpectedMessage},
		{"empty padded records", times(maxUseless+1, func(l *Layer) []byte { return l.sealPadded(data, nil, 100) }), unexpectedMessage},
		{"user_canceled", times(maxUseless+1, sealed(alert, 1, userCanceled)), unexpectedMessage},
		{"more empty records than others", times(maxUseless, several(sealed(data, 'x'), sealed(data), sealed(data))), unexpectedMessage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client, server := layers(t, ids[0])
			testOpenError(t, client, server, tt.recs(client), tt.want)
			server, client = layers(t, ids[1])
			testOpenError(t, client, server, tt.recs(client), tt.want)
		})
	}
	t.Run("a ticket for a server", func(t *testing.T) {
		client, server := layers(t, ids[0])
		testOpenError(t, client, server, client.seal(nil, handshake, []byte{newSessionTicket, 0, 0, 9}), unexpectedMessage)
	})
	t.Run("a ticket that is too long", func(t *testing.T) {
		client, server := layers(t, ids[0])
		testOpenError(t, server, client, server.seal(nil, handshake, []byte{newSessionTicket, 0, 0xff, 0xfd}), decodeError)
	})
}

// testOpenError has the records of peer opened by l: the last of them must fail
// with want.
func testOpenError(t *testing.T, peer, l *Layer, recs []byte, want tls.AlertError) {
	t.Helper()
	var err error
	for len(recs) > 0 {
		if err != nil {
			t.Fatalf("%v, and %d bytes follow", err, len(recs))
		}
		n := min(Size(recs), len(recs))
		_, err = l.Open(nil, recs[:n])
		recs = recs[n:]
	}
	if alertOf(err) != want || !strings.HasPrefix(err.Error(), "local error") {
		t.Fatalf("got %v, want %v", err, want)
	}
	if _, again := l.Open(nil, peer.Seal(nil, []byte("x"))); again != err {
		t.Errorf("the next record: %v", again)
	}
	if l.hand != nil {
		t.Errorf("%d bytes are kept", len(l.hand))
	}
	// The case "its own" has changed the peer's keys.
	alert := l.SealAlert(nil)
	peer.in = l.out
	peer.in.seq = 0
	if _, err := peer.Open(nil, alert); alertOf(err) != want || !strings.HasPrefix(err.Error(), "remote error") {
		t.Errorf("the peer got %v", err)
	}
	if peer.SealAlert(nil) != nil {
		t.Error("an alert in answer to an alert")
	}
	if more := l.SealClose(l.SealAlert(l.Seal(nil, []byte("x")))); len(more) > 0 {
		t.Errorf("%d bytes after an alert", len(more))
	}
}
