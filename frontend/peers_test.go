package frontend

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// keyed is somebody with a cancel key.
type keyed struct {
	id uint64
	n  int
}

func (k *keyed) keyTraits() (uint64, int) { return k.id, k.n }
func (*keyed) interrupt() error           { return nil }

// TestPeerKeys pins the form that PgBouncer gives to keys.
func TestPeerKeys(t *testing.T) {
	const peer = 0x2a1b
	var k cancelKeys
	k.init(peer)
	if n := k.secretLength(&Login{Protocol: protocol32}); n != shortSecret {
		t.Errorf("a secret of %d bytes, which PgBouncer would not forward", n)
	}
	for id := range 100 {
		o := &keyed{uint64(id), shortSecret}
		pid := k.add(o)
		secret := k.secretOf(pid, o)
		key := append(binary.BigEndian.AppendUint32(nil, pid), secret...)
		if len(key) != 8 || key[0]&0x80 != 0 || key[1] != 0x1b || key[2] != 0x2a || key[7]&3 != 3 {
			t.Fatalf("key %x", key)
		}
		if peerOf(pid) != peer {
			t.Fatalf("%x is of peer %x", pid, peerOf(pid))
		}
		for hops := range byte(4) { // as many as are left
			secret[3] = secret[3]&^3 | hops
			before := bytes.Clone(secret)
			if k.find(pid, secret) != o {
				t.Errorf("not found with %d hops left", hops)
			}
			if !bytes.Equal(secret, before) {
				t.Errorf("the key was changed")
			}
		}
		secret[3] ^= 4
		if k.find(pid, secret) != nil {
			t.Error("found with a wrong secret")
		}
	}
}

// TestPeerKeysOfMany has more clients than there are numbers with one peer_id.
func TestPeerKeysOfMany(t *testing.T) {
	var k cancelKeys
	k.init(1)
	const clients = 40_000
	owners := make([]*keyed, clients)
	pids := make([]uint32, clients)
	for i := range owners {
		owners[i] = &keyed{uint64(i), shortSecret}
		pids[i] = k.add(owners[i])
	}
	for i := range owners { // each goes in turn, and takes nobody along
		for _, j := range []int{i, (i + clients) / 2, clients - 1} {
			if k.find(pids[j], k.secretOf(pids[j], owners[j])) != owners[j] {
				t.Fatalf("client %d is not found", j)
			}
		}
		k.remove(pids[i], owners[i])
		if k.find(pids[i], k.secretOf(pids[i], owners[i])) != nil {
			t.Fatalf("client %d is found after its end", i)
		}
	}
	if len(k.byPID)+len(k.more) > 0 {
		t.Errorf("%d and %d are left", len(k.byPID), len(k.more))
	}
}
