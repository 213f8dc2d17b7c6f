package pool

import (
	"testing"

	"github.com/pgvalet/pgvalet/backend"
)

// TestDiscardClosed: a server of one client that has been closed before the
// client is found to be gone is counted out once.
func TestDiscardClosed(t *testing.T) {
	ps := newPools(t, "", "")
	p := appPool(t, ps)
	loop := ps.loops[0]
	l, _, err := p.Dedicate(t.Context(), Dedication{Loop: loop, Kind: backend.LogicalReplication})
	if err != nil {
		t.Fatal(err)
	}
	loop.Call(func() { l.Destroy("closed by its loop") })
	l.Discard("client connection lost")
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closing != 0 || len(p.leases) != 0 {
		t.Errorf("%d servers, of which %d are about to be closed", len(p.leases), p.closing)
	}
}
