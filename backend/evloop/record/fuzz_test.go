package record

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
)

// FuzzOpen puts arbitrary bytes into a series of good records: what comes out
// is what was sealed, up to some record, and nothing else.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{}, uint16(0), uint16(0))
	f.Add([]byte{1}, uint16(40), uint16(1))
	f.Add([]byte{23, 3, 3, 0xff, 0xff}, uint16(0), uint16(0))
	f.Add([]byte{23, 3, 3, 0, 0}, uint16(22), uint16(5))
	f.Add([]byte{}, uint16(0), uint16(22+6))
	f.Add([]byte{20, 3, 3, 0, 1, 1}, uint16(22+5), uint16(0))
	messages := []string{"hello", "a", strings.Repeat("long", 100), "the end"}
	f.Fuzz(func(t *testing.T, data []byte, at, cut uint16) {
		client, server := layers(t, ids[0])
		var recs []byte
		boundaries := []int{0} // in what was sealed
		for i, m := range messages {
			recs = client.Seal(recs, []byte(m))
			boundaries = append(boundaries, boundaries[i]+len(m))
		}
		from := int(at) % (len(recs) + 1)
		to := min(from+int(cut), len(recs))
		recs = append(append(append([]byte(nil), recs[:from]...), data...), recs[to:]...)

		var got []byte
		var err error
		for err == nil {
			n := Size(recs)
			if n == 0 || n > len(recs) && n <= MaxLen {
				break // the rest is waited for
			}
			rec := recs[:min(n, len(recs))]
			recs = recs[len(rec):]
			dst := append(make([]byte, 0, len(got)+Room(n)), got...)
			before := bytes.Clone(rec)
			got, err = server.Open(dst, rec)
			if !bytes.Equal(before, rec) {
				t.Error("a record was changed")
			}
			if len(got) > 0 && &got[0] != &dst[:1][0] {
				t.Error("there was not Room enough")
			}
		}
		ok := false
		for _, n := range boundaries {
			ok = ok || string(got) == strings.Join(messages, "")[:n]
		}
		if !ok {
			t.Fatalf("got %q", got)
		}
		if err == nil {
			return
		}
		if alertOf(err) == 0 {
			t.Fatalf("got %v, want an alert", err)
		}
		if _, told := client.Open(nil, server.SealAlert(nil)); alertOf(told) != alertOf(err) {
			t.Errorf("the peer got %v, want %v", told, err)
		}
	})
}

// FuzzRecords seals whatever there may be inside of records, and compares with
// a model what becomes of it.
func FuzzRecords(f *testing.F) {
	add := func(server bool, steps ...string) { f.Add([]byte(strings.Join(steps, "")), server) }
	step := func(op byte, padding byte, content string) string {
		return string([]byte{op, padding, byte(len(content))}) + content
	}
	data := step(opData, 0, "some bytes")
	add(true, data, data, step(opAlert, 0, "\x01\x00"), data)
	add(false, data, step(opTicket, 3, "0123456789"), step(opTicket, 0, ""), data, step(opKeyUpdate, 0, "\x01"), data)
	add(true, data, step(opTicket, 3, "0123456789"))
	add(true, step(opKeyUpdate, 0, "\x00"), data, step(opKeyUpdate, 9, "\x01"), data, step(opKeyUpdate, 0, "\x02"))
	add(true, step(opHandshake, 0, "\x18\x00"), step(opHandshake, 0, "\x00"), step(opHandshake, 0, "\x01\x01"), data)
	add(false, step(opHandshake, 0, "\x04\x00\x00\x05"), step(opHandshake, 0, "abcde\x18\x00\x00\x01\x00"), data)
	add(true, step(opHandshake, 0, "\x18\x00\x00\x01\x00\x18"))
	add(true, data, strings.Repeat(step(opData, 1, ""), 17))
	add(true, step(opAlert, 0, "\x01\x5a"), data, step(opAlert, 0, "\x02\x28"))
	add(true, step(opInner, 0, "bytes\x17"), step(opInner, 5, ""))
	add(true, step(opInner, 200, "\x17"), step(opLong, 0, "\x00"), step(opLong, 0, "\x01"))
	f.Fuzz(func(t *testing.T, script []byte, server bool) {
		peer, l := layers(t, ids[0])
		if !server {
			l, peer = peer, l
		}
		m := &model{server: server}
		var got []byte
		for m.end == nil {
			var inner []byte
			if inner, script = nextInner(script); inner == nil {
				break
			}
			rec := peer.sealInner(inner)
			if len(rec) > MaxLen {
				break // nobody can send it
			}
			if m.take(inner) {
				if err := peer.out.update(peer.suite); err != nil {
					t.Fatal(err)
				}
			}
			var err error
			got, err = l.Open(append(make([]byte, 0, len(got)+Room(len(rec))), got...), rec)
			switch {
			case m.end == nil && err != nil, m.end == io.EOF && err != io.EOF, alertOf(m.end) != alertOf(err):
				t.Fatalf("%.40x: got %v, want %v", inner, err, m.end)
			case !bytes.Equal(got, m.plain):
				t.Fatalf("%.40x: got %q, want %q", inner, got, m.plain)
			case l.in.seq != peer.out.seq && err == nil:
				t.Fatalf("%.40x: %d records under this key, want %d", inner, l.in.seq, peer.out.seq)
			}
			if most := maxTicket + MaxPlaintext; cap(l.hand) > 2*most || server && len(l.hand) > 4 {
				t.Fatalf("%d bytes are kept", cap(l.hand))
			}
		}
		// We are heard, under the key that is expected of us.
		if m.end == nil || m.end == io.EOF {
			recs := l.Seal(nil, []byte("and ours"))
			if updates := len(recs) > HeaderLen+8+1+tagLen; updates != m.owed {
				t.Errorf("a KeyUpdate %t, want %t", updates, m.owed)
			}
			mustOpen(t, peer, recs, "and ours")
		}
	})
}

// What the scripts of FuzzRecords consist of: an operation, padding, a length
// and as many bytes.
const (
	opData = iota
	opHandshake
	opAlert
	opKeyUpdate
	opTicket
	opLong  // much of what the first byte says
	opInner // the type is the last byte
	ops
)

// nextInner returns what is to be sealed next, nil at the end.
func nextInner(script []byte) (inner, rest []byte) {
	if len(script) < 3 || len(script)-3 < int(script[2]) {
		return nil, nil
	}
	op, padding, content, rest := script[0]%ops, int(script[1]), script[3:3+int(script[2])], script[3+int(script[2]):]
	n := len(content)
	switch op {
	case opData:
		inner = append(bytes.Clone(content), typeApplicationData)
	case opHandshake:
		inner = append(bytes.Clone(content), typeHandshake)
	case opAlert:
		inner = append(bytes.Clone(content), typeAlert)
	case opKeyUpdate:
		inner = append(append([]byte{keyUpdate, 0, 0, byte(n)}, content...), typeHandshake)
	case opTicket:
		inner = append(append([]byte{newSessionTicket, 0, 0, byte(n)}, content...), typeHandshake)
	case opLong:
		inner = bytes.Repeat([]byte{1}, MaxPlaintext-1+n)
		inner = append(inner, typeApplicationData)
	case opInner:
		inner = bytes.Clone(content)
	}
	return append(inner, make([]byte, padding)...), rest
}

// model is what RFC 8446 says of the records behind a handshake, and the
// bounds of this package.
type model struct {
	server  bool
	hand    string
	plain   []byte
	useless int
	owed    bool
	end     error
}

func (m *model) fail(alert byte) bool {
	m.end = tls.AlertError(alert)
	return false
}

func (m *model) nothing() {
	if m.useless++; m.useless > 16 {
		m.fail(10)
	}
}

// take takes the plaintext of a record, and reports whether the next one has a
// new key.
func (m *model) take(inner []byte) (updated bool) {
	content := bytes.TrimRight(inner, "\x00")
	if len(inner) > 16385 {
		return m.fail(22)
	}
	if len(content) == 0 {
		return m.fail(10)
	}
	typ, content := content[len(content)-1], content[:len(content)-1]
	if typ != 22 && m.hand != "" {
		return m.fail(10)
	}
	switch typ {
	case 21:
		switch {
		case len(content) != 2:
			m.fail(50)
		case content[1] == 0:
			m.end = io.EOF
		case content[1] == 90:
			m.nothing()
		default:
			m.fail(content[1])
		}
	case 22:
		if len(content) == 0 {
			return m.fail(10)
		}
		if m.nothing(); m.end == nil {
			m.hand += string(content)
			return m.messages()
		}
	case 23:
		m.plain = append(m.plain, content...)
		if len(content) == 0 {
			m.nothing()
		} else if m.useless > 0 {
			m.useless--
		}
	default:
		m.fail(10)
	}
	return false
}

func (m *model) messages() bool {
	for len(m.hand) >= 4 {
		n := 4 + int(m.hand[1])*65536 + int(m.hand[2])*256 + int(m.hand[3])
		switch {
		case m.hand[0] == 4 && !m.server:
			if n > 65536 {
				return m.fail(50)
			}
			if len(m.hand) < n {
				return false
			}
			m.hand = m.hand[n:]
		case m.hand[0] == 24 && n != 5:
			return m.fail(50)
		case m.hand[0] != 24:
			return m.fail(10)
		case len(m.hand) < 5:
			return false
		case len(m.hand) > 5:
			return m.fail(10)
		case m.hand[4] > 1:
			return m.fail(47)
		default:
			m.owed = m.owed || m.hand[4] == 1
			m.hand = ""
			return true
		}
	}
	return false
}

// TestModel: the model is not an echo: it knows a bad record from a good one.
func TestModel(t *testing.T) {
	m := &model{server: true}
	if m.take([]byte("hello\x17\x00\x00")); string(m.plain) != "hello" || m.end != nil {
		t.Errorf("got %q, %v", m.plain, m.end)
	}
	if !m.take([]byte("\x18\x00\x00\x01\x01\x16")) || !m.owed {
		t.Error("a KeyUpdate was overlooked")
	}
	if m.take([]byte("\x04\x00\x00\x00\x16")); !errors.Is(m.end, tls.AlertError(unexpectedMessage)) {
		t.Errorf("a ticket for a server: %v", m.end)
	}
}
