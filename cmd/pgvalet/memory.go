package main

import (
	"context"
	"os"
	"runtime"
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
	// burstBytes is how much may be allocated, roughly, from one collection to the
	// next: some 200 logins over TLS.
	burstBytes = 16 << 20
)

// tendMemory tells the Go collector when to run, until ctx ends. Left alone it
// waits until as much garbage has piled up as there is in use. That is right for
// a program that allocates all the time, while this one does at logins only:
//
//   - With few clients connected little is in use, and it would run for every 60
//     logins over TLS. Each time it takes processors from transactions, and
//     stops all threads twice, which lasts when the system lets one of them
//     wait. So garbage gets room.
//   - After a burst it would keep what that has left for as long as the clients
//     are idle. So it collects once when a burst is over, and returns the memory
//     to the system.
func tendMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return // whoever runs the process has other plans
	}
	makeRoom(ctx)
	tick := time.NewTicker(calmLook)
	defer tick.Stop()
	var c calm
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if c.look(metric("/gc/heap/allocs:bytes")) {
				debug.FreeOSMemory()
			}
		}
	}
}

// makeRoom sets how much garbage there may be, now and after each collection until
// ctx ends: a percentage from an earlier time would multiply what a burst of logins
// has brought into use since.
func makeRoom(ctx context.Context) {
	inUse := metric("/gc/heap/live:bytes") + metric("/gc/scan/stack:bytes") + metric("/gc/scan/globals:bytes")
	debug.SetGCPercent(collectorPercent(inUse))
	collected := new(struct{ *byte }) // a pointer, lest it share its memory with others
	runtime.AddCleanup(collected, func(ctx context.Context) {
		if ctx.Err() == nil {
			makeRoom(ctx)
		}
	}, ctx)
}

// collectorPercent is how much garbage there may be for what the last collection
// left, in percent of it (debug.SetGCPercent): burstBytes, or as much again if that is
// more.
func collectorPercent(inUse uint64) int {
	// The collector does not run before there are 4 MB times the percentage, in use
	// or not.
	const least = 4 << 20
	return max(100, int(100*burstBytes/max(inUse, least)))
}

// metric returns one of the runtime's metrics that are numbers.
func metric(name string) uint64 {
	sample := [...]metrics.Sample{{Name: name}}
	metrics.Read(sample[:])
	return sample[0].Value.Uint64()
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
