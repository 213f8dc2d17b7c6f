package record

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestKnownAnswers: the application's keys and records of RFC 8448 section 3.
func TestKnownAnswers(t *testing.T) {
	secrets := &Secrets{}
	for label, secret := range map[string]string{
		"CLIENT_TRAFFIC_SECRET_0":         "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5",
		"SERVER_TRAFFIC_SECRET_0":         "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643",
		"CLIENT_HANDSHAKE_TRAFFIC_SECRET": "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21",
	} {
		line := fmt.Sprintf("%s %064x %s\n", label, 1, secret)
		if n, err := secrets.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	state := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	client, err := New(state, secrets, false, 0)
	if err != nil {
		t.Fatal(err)
	}
	server, err := New(state, secrets, true, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []struct {
		name    string
		half    *half
		key, iv string
	}{
		{"client", &client.out, "17422dda596ed5d9acd890e3c63f5051", "5b78923dee08579033e523d9"},
		{"server", &server.out, "9f02283b6c9c07efc26bb9f2ac92e356", "cf782b88dd83549aadf1e984"},
	} {
		key, err := expandLabel(&aes128, h.half.secret, "key", 16)
		if err != nil || hex.EncodeToString(key) != h.key {
			t.Errorf("%s: key %x, %v", h.name, key, err)
		}
		if iv := hex.EncodeToString(h.half.iv[:]); iv != h.iv {
			t.Errorf("%s: iv %s", h.name, iv)
		}
	}
	payload := make([]byte, 50)
	for i := range payload {
		payload[i] = byte(i)
	}
	if got, want := client.Seal(nil, payload), unhex(t, `17030300 43a23f70 54b62c94 d0affafe 8228ba55 cbefacea 42f914aa 66bcab3f
		2b9819a8 a5b46b39 5bd54a9a 20441e2b 62974e1f 5a6292a2 977014bd 1e3deae6 3aeebb21 694915e4`); !bytes.Equal(got, want) {
		t.Errorf("client: record %x", got)
	}
	// The server's first record was a session ticket.
	if got, want := server.Seal(nil, payload), unhex(t, `17030300 432e937e 11ef4ac7 40e538ad 36005fc4 a46932fc 3225d05f 82aa1b36
		e30efaf9 7d90e6df fc602dcb 501a59a8 fcc49c4b f2e5f0a2 1c0047c2 abf33254 0dd032e1 67c2955d`); !bytes.Equal(got, want) {
		t.Errorf("server: record %x", got)
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSecrets: what is not as expected gives an error without the secret in it.
func TestSecrets(t *testing.T) {
	var s Secrets
	for _, digits := range []string{"topsecretx", strings.Repeat("ab", 49), "abc"} {
		line := "CLIENT_TRAFFIC_SECRET_0 00 " + digits + "\n"
		if _, err := s.Write([]byte(line)); err == nil || strings.Contains(err.Error(), digits) {
			t.Errorf("%s: got %v", digits, err)
		}
	}
	state := tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	if _, err := New(state, &s, true, 0); err == nil {
		t.Error("a layer without secrets")
	}
	s = Secrets{client: new(secret), server: new(secret), n: 48}
	if _, err := New(state, &s, true, 0); err == nil {
		t.Error("a layer with secrets of another suite")
	}
	state.CipherSuite = tls.TLS_CHACHA20_POLY1305_SHA256
	if _, err := New(state, &s, true, 0); err == nil || Supported(state) {
		t.Error("ChaCha20 is not supported")
	}
}

// TestRedacted: whatever is printed has no secret in it.
func TestRedacted(t *testing.T) {
	secrets := &Secrets{client: new(secret), server: new(secret), n: 32}
	for i := range secrets.client {
		secrets.client[i], secrets.server[i] = 0xa5, 0xa5
	}
	l, err := New(tls.ConnectionState{CipherSuite: ids[0]}, secrets, true, 0)
	if err != nil {
		t.Fatal(err)
	}
	outer := struct {
		S, s *Secrets
		L, l *Layer
	}{secrets, secrets, l, l}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		for _, v := range []any{secrets, l, outer, &outer} {
			got := fmt.Sprintf(verb, v)
			for _, secret := range []string{"165 165", "a5a5", "0xa5, 0xa5", "\xa5\xa5", `\xa5\xa5`} {
				if strings.Contains(got, secret) {
					t.Errorf("%s of %T: %s", verb, v, got)
				}
			}
		}
	}
}

var sizes = []int{0, 1, 2, 100, MaxPlaintext - 1, MaxPlaintext, MaxPlaintext + 1, 100000}

// TestRoundTrip is against crypto/tls, in both roles, with both suites.
func TestRoundTrip(t *testing.T) {
	for _, id := range ids {
		for _, server := range []bool{false, true} {
			for _, tickets := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/server=%t/tickets=%t", tls.CipherSuiteName(id), server, tickets), func(t *testing.T) {
					onlySuite(t, id)
					ours, peer := connect(t, server, tickets)
					if ours.state.CipherSuite != id {
						t.Fatalf("the suite is %x", ours.state.CipherSuite)
					}
					testRoundTrip(t, ours, peer)
				})
			}
		}
	}
}

func testRoundTrip(t *testing.T, ours *conn, peer *tls.Conn) {
	var noise [32]byte
	data := make([]byte, sizes[len(sizes)-1])
	_, _ = rand.NewChaCha8(noise).Read(data)
	for _, n := range sizes {
		sent := make(chan error, 1)
		go func() {
			_, err := ours.Conn.Write(ours.Seal([]byte("prefix"), data[:n])[len("prefix"):])
			sent <- err
		}()
		got := make([]byte, n)
		if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, data[:n]) {
			t.Fatalf("crypto/tls read other %d bytes, %v", n, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := peer.Write(data[:n])
			sent <- err
		}()
		if got, err := ours.read(n); err != nil || !bytes.Equal(got, data[:n]) {
			t.Fatalf("we read %d of %d bytes, or others: %v", len(got), n, err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	// Half a connection is left after close_notify.
	if err := peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := ours.read(1); err != io.EOF || len(got) > 0 {
		t.Fatalf("got %q, %v; want EOF", got, err)
	}
	out := ours.SealAlert(nil) // an end is no reason for one
	out = ours.SealClose(ours.Seal(out, []byte("goodbye")))
	if more := ours.SealClose(ours.Seal(nil, []byte("more"))); len(more) > 0 || !ours.Closed() {
		t.Errorf("%d bytes after close_notify", len(more))
	}
	if _, err := ours.Conn.Write(out); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(peer); err != nil || string(got) != "goodbye" {
		t.Errorf("crypto/tls read %q, %v", got, err)
	}
}

// TestKeyUpdate: crypto/tls follows ours, in both roles, with both suites. (It
// never makes one by itself.)
func TestKeyUpdate(t *testing.T) {
	for _, id := range ids {
		for _, server := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/server=%t", tls.CipherSuiteName(id), server), func(t *testing.T) {
				onlySuite(t, id)
				ours, peer := connect(t, server, true)
				for i := range 3 {
					ours.owed = true
					out := ours.Seal(nil, []byte("new key"))
					if ours.out.seq != 1 {
						t.Fatalf("%d records under the new key, want 1", ours.out.seq)
					}
					// And one that asks crypto/tls for the same.
					out = append(out, ours.seal(nil, typeHandshake, []byte{keyUpdate, 0, 0, 1, 1})...)
					if err := ours.out.update(ours.suite); err != nil {
						t.Fatal(err)
					}
					out = ours.Seal(out, []byte("!"))
					if _, err := ours.Conn.Write(out); err != nil {
						t.Fatal(err)
					}
					got := make([]byte, len("new key!"))
					if _, err := io.ReadFull(peer, got); err != nil || string(got) != "new key!" {
						t.Fatalf("%d: crypto/tls read %q, %v", i, got, err)
					}
					if _, err := peer.Write([]byte("mine too")); err != nil {
						t.Fatal(err)
					}
					if got, err := ours.read(8); err != nil || string(got) != "mine too" || ours.in.seq != 1 {
						t.Fatalf("%d: got %q, %v, %d records under the new key", i, got, err, ours.in.seq)
					}
				}
			})
		}
	}
}

// TestKeyUpdateOwed: a KeyUpdate that was asked for comes before the next bytes
// of the application, once, however often it was asked for.
func TestKeyUpdateOwed(t *testing.T) {
	client, server := layers(t, ids[0])
	ask := func() {
		t.Helper()
		mustOpen(t, server, client.seal(nil, typeHandshake, []byte{keyUpdate, 0, 0, 1, 1}), "")
		if err := client.out.update(client.suite); err != nil {
			t.Fatal(err)
		}
	}
	early := server.Seal(nil, []byte("sealed before, "))
	for range maxUseless {
		ask()
	}
	if len(server.hand) > 0 || server.SealAlert(nil) != nil {
		t.Error("something is kept, or said")
	}
	mustOpen(t, client, early, "sealed before, ")
	recs := server.Seal(nil, []byte("sealed after"))
	if n := Size(recs); n != HeaderLen+len(keyUpdateMessage)+1+tagLen {
		t.Errorf("a record of %d bytes comes first", n)
	}
	mustOpen(t, client, recs, "sealed after")
	if client.in.seq != 1 || server.out.seq != 1 || client.owed {
		t.Errorf("%d and %d records under the new key, want 1", client.in.seq, server.out.seq)
	}
	mustOpen(t, server, client.Seal(nil, []byte("under the newest key")), "under the newest key")
	ask()
	if recs := server.SealClose(nil); len(recs) != HeaderLen+2+1+tagLen {
		t.Error("a KeyUpdate before close_notify, which nobody needs")
	}
}

// TestKeyWorn: no key seals more than maxRecords.
func TestKeyWorn(t *testing.T) {
	for _, id := range ids {
		client, server := layers(t, id)
		client.out.seq, server.in.seq = maxRecords-2, maxRecords-2
		var recs []byte
		for i := range 4 {
			recs = client.Seal(recs, []byte{byte('a' + i)})
		}
		if client.out.seq != 2 {
			t.Errorf("%d records under the new key, want 2", client.out.seq)
		}
		mustOpen(t, server, recs, "abcd")
		mustOpen(t, client, server.Seal(nil, []byte("no need here")), "no need here")
		if server.out.seq != 1 {
			t.Error("the other direction has a new key, too")
		}
	}
	// A long write goes over the limit in the middle.
	client, server := layers(t, ids[0])
	client.out.seq, server.in.seq = maxRecords-1, maxRecords-1
	long := strings.Repeat("x", 3*MaxPlaintext)
	mustOpen(t, server, client.Seal(nil, []byte(long)), long)
	if client.out.seq != 2 {
		t.Errorf("%d records under the new key, want 2", client.out.seq)
	}
}

// TestNonces: no nonce is used twice, and none that crypto/tls has used.
func TestNonces(t *testing.T) {
	h := half{iv: [12]byte{4: 0xff, 11: 0x0f}}
	seen := make(map[string]bool)
	for _, seq := range []uint64{0, 254, 1 << 32, 1<<40 - 1} {
		h.seq = seq
		for range 4 {
			n := string(h.next())
			if seen[n] {
				t.Errorf("nonce %x for a second time, with %d", n, h.seq)
			}
			seen[n] = true
		}
	}
	h.seq = 0x0102030405060708
	if got := hex.EncodeToString(h.next()); got != "00000000fe02030405060707" {
		t.Errorf("got %s", got)
	}
}

// TestTickets: a client throws session tickets away, whole and in pieces,
// alone and together.
func TestTickets(t *testing.T) {
	client, server := layers(t, ids[0])
	ticket := func(n int) []byte {
		return append([]byte{newSessionTicket, byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n)...)
	}
	three := append(append(ticket(10), ticket(0)...), ticket(300)...)
	mustOpen(t, client, server.seal(nil, typeHandshake, three), "")
	for i := range 10 {
		recs := server.seal(nil, typeHandshake, three[:i+1])
		recs = server.seal(recs, typeHandshake, three[i+1:])
		recs = server.Seal(recs, []byte("a"))
		recs = server.Seal(recs, []byte("b"))
		mustOpen(t, client, recs, "ab")
		if client.hand != nil {
			t.Fatalf("cut at %d: %d bytes are kept", i, len(client.hand))
		}
	}
	// The longest.
	long := ticket(maxTicket - 4)
	var recs []byte
	for len(long) > 0 {
		n := min(len(long), MaxPlaintext)
		recs = server.seal(recs, typeHandshake, long[:n])
		long = long[n:]
	}
	mustOpen(t, client, recs, "")
	// One in front of a KeyUpdate.
	mustOpen(t, client, server.seal(nil, typeHandshake, append(ticket(5), keyUpdateMessage[:]...)), "")
	if client.in.seq != 0 {
		t.Error("the KeyUpdate was overlooked")
	}
}

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

// TestAlerts: those of the peer.
func TestAlerts(t *testing.T) {
	client, server := layers(t, ids[0])
	rec := server.seal(nil, typeAlert, []byte{1, userCanceled})
	rec = server.seal(rec, typeAlert, []byte{2, 49})
	if _, err := openAll(client, rec); alertOf(err) != 49 || !strings.HasPrefix(err.Error(), "remote error") {
		t.Errorf("got %v", err)
	}
	client, server = layers(t, ids[0])
	rec = server.seal(nil, typeAlert, []byte{2, closeNotify}) // the level means nothing
	rec = server.Seal(rec, []byte("more"))
	if got, err := openAll(client, rec); err != io.EOF || len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := client.Open(nil, []byte("anything, even")); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	// crypto/tls understands ours.
	ours, peer := connect(t, true, false)
	if _, err := ours.Open(nil, []byte{23, 3, 3, 0xff, 0}); alertOf(err) != recordOverflow {
		t.Fatal(err)
	}
	if _, err := ours.Conn.Write(ours.SealAlert(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := peer.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "record overflow") {
		t.Errorf("crypto/tls got %v", err)
	}
}

// TestPadding: it is cut off, and none is taken for the other.
func TestPadding(t *testing.T) {
	client, server := layers(t, ids[0])
	for _, padding := range []int{0, 1, 255, 5000, MaxPlaintext - 3} {
		for _, content := range []string{"abc", "a\x00\x00", "\x00\x00\x00"} {
			mustOpen(t, server, client.sealPadded(typeApplicationData, []byte(content), padding), content)
		}
	}
	mustOpen(t, server, client.sealPadded(typeHandshake, keyUpdateMessage[:], 77), "")
	if server.in.seq != 0 {
		t.Error("a padded KeyUpdate was overlooked")
	}
}

// TestUseless: records that carry nothing are tolerated as long as others come
// as often.
func TestUseless(t *testing.T) {
	client, server := layers(t, ids[0])
	var recs []byte
	for range 100 * maxUseless {
		recs = client.seal(recs, typeApplicationData, nil)
		recs = client.Seal(recs, []byte("x"))
	}
	mustOpen(t, server, recs, strings.Repeat("x", 100*maxUseless))
}

// TestServerKeepsNothing: a client that begins a long handshake message makes
// a server keep at most a few bytes of it.
func TestServerKeepsNothing(t *testing.T) {
	for _, begin := range [][]byte{{newSessionTicket, 0, 0xff, 0}, {keyUpdate, 0, 0xff, 0}, {0, 0, 0xff, 0}} {
		client, server := layers(t, ids[0])
		if _, err := openAll(server, client.seal(nil, typeHandshake, begin)); err == nil {
			t.Errorf("%v is waited for", begin)
		}
	}
}

// TestNoAllocations: sealing and opening allocate nothing.
func TestNoAllocations(t *testing.T) {
	client, server := layers(t, ids[0])
	msg, rec, plain := make([]byte, 1000), make([]byte, 0, MaxLen), make([]byte, 0, MaxLen)
	if n := testing.AllocsPerRun(100, func() {
		rec = client.Seal(rec[:0], msg)
		if _, err := server.Open(plain, rec); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
