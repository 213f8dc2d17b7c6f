package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// calmLook is how often tendMemory looks at what has been allocated.
	calmLook = 2 * time.Second
	// calmBytes is the most that a calm process allocates between two looks:
	// some ten logins. Transactions allocate nothing.
	calmBytes = 1 << 20
	// worthBytes is what must have been allocated for a collection to be worth
	// its time.
	worthBytes = 4 << 20
	// burstBytes is what may be allocated between two collections at least: some
	// 250 logins over TLS.
	burstBytes = 16 << 20
)

// tendMemory tells the Go collector when to run, until ctx ends. Left alone it
// waits until as much garbage has piled up as there is in use. That is right for
// a program that allocates all the time, while this one does at logins only:
//
//   - With few clients connected little is in use, and it would run for every 60
//     logins over TLS. Each time it takes processors from transactions, and
//     stops all threads twice, which lasts when the system lets one of them
//     wait. So it gets room for garbage.
//   - After a burst it would keep what that has left for as long as the clients
//     are idle. So it collects once when a burst is over, and returns the memory
//     to the system.
func tendMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return // whoever runs the process has other plans
	}
	tick := time.NewTicker(calmLook)
	defer tick.Stop()
	var c calm
	percent := 0
	for {
		m := readMemory()
		if p := collectorPercent(m.live); p != percent {
			percent = p
			debug.SetGCPercent(p)
		}
		if c.look(m.allocated) {
			debug.FreeOSMemory()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// memory is what the process does with its memory, in bytes.
type memory struct {
	allocated uint64 // since it began
	live      uint64 // what the last collection left; 0 before the first
}

func readMemory() memory {
	samples := [...]metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples[:])
	return memory{samples[0].Value.Uint64(), samples[1].Value.Uint64()}
}

// collectorPercent is how much garbage there may be for what is live, in percent
// of it (debug.SetGCPercent): burstBytes, or as much again if that is more.
func collectorPercent(live uint64) int {
	// The collector never runs before 4 MB times the percentage.
	const least = 4 << 20
	return max(100, int(100*burstBytes/max(live, least)))
}

// calm notices that a burst of allocations is over.
type calm struct {
	last  uint64 // what look saw last
	freed uint64 // … when it said yes last
}

// look takes the bytes allocated so far and reports whether it is time to
// collect.
func (c *calm) look(bytes uint64) bool {
	quiet := bytes-c.last <= calmBytes
	c.last = bytes
	if !quiet || bytes-c.freed < worthBytes {
		return false
	}
	c.freed = bytes
	return true
}
