//go:build !race

// The race detector allocates on its own account, and makes sync.Pool forget.

package frontend

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// TestTransactionAllocations holds that a transaction in steady state allocates
// nothing of our own, so that a low GC percent costs nothing either.
func TestTransactionAllocations(t *testing.T) {
	const (
		warmUp     = 500  // transactions of each client
		background = 0.05 // per transaction, for what runs by the clock
	)
	for _, test := range []struct {
		name         string
		overTLS      bool
		clients      int
		lines        string
		transactions int     // of all clients
		most         float64 // allocations per transaction
	}{
		{"plain", false, 1, "", 10_000, 0},
		{"plain, two loops", false, 2, "event_loops = 2\ndefault_pool_size = 2", 2000, 0},
		{"plain, waiting", false, 4, "", 10_000, 0},
		{"plain, two loops, waiting", false, 4, "event_loops = 2\ndefault_pool_size = 2", 2000, 0},
		{"tls", true, 1, "", 10_000, 0},
	} {
		r := quietRig(t, test.overTLS, test.lines)
		for _, tx := range quietTransactions(t) {
			t.Run(fmt.Sprintf("%s/%s", test.name, tx.name), func(t *testing.T) {
				clients := make([]*quietClient, test.clients)
				for i := range clients {
					clients[i] = r.quiet(t, test.overTLS)
					if err := clients[i].prepare(tx); err != nil {
						t.Fatal(err)
					}
				}
				run := func(n int) {
					var running sync.WaitGroup
					for _, c := range clients {
						running.Go(func() {
							for range n {
								if err := c.transaction(tx.run); err != nil {
									t.Error(err)
									return
								}
							}
						})
					}
					running.Wait()
				}
				run(warmUp)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				run(test.transactions / test.clients)
				runtime.ReadMemStats(&after)
				got := float64(after.Mallocs-before.Mallocs) / float64(test.transactions)
				t.Logf("%.4f allocations of %.1f bytes per transaction", got, float64(after.TotalAlloc-before.TotalAlloc)/float64(test.transactions))
				if got > test.most+background {
					t.Errorf("%.3f allocations per transaction, want %v", got, test.most)
				}
			})
		}
	}
}
