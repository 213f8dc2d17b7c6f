package record

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
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
