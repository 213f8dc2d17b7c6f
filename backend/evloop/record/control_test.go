package record

import (
	"crypto/tls"
	"fmt"
	"io"
	"strings"
	"testing"
)

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
