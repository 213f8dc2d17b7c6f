package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestCalm(t *testing.T) {
	var c calm
	for i, step := range []struct {
		allocated uint64
		want      bool
	}{
		{3 << 20, false},              // start-up
		{3<<20 + 100, false},          // too little
		{50 << 20, false},             // a burst
		{90 << 20, false},             // goes on
		{90<<20 + calmBytes, true},    // is over
		{90<<20 + 2*calmBytes, false}, // done already
		{90<<20 + 3*calmBytes, false}, // a trickle
		{90<<20 + 4*calmBytes, false}, // …
		{90<<20 + 5*calmBytes, true},  // adds up
		{200 << 20, false},            // the next burst
		{200<<20 + calmBytes/2, true}, // is over
	} {
		if got := c.look(step.allocated); got != step.want {
			t.Errorf("look %d: %t", i, got)
		}
	}
}

func TestCollectorPercent(t *testing.T) {
	for inUse, want := range map[uint64]int{0: 400, 1 << 20: 400, 4 << 20: 400, 8 << 20: 200, 16 << 20: 100, 1 << 40: 100} {
		if got := collectorPercent(inUse); got != want {
			t.Errorf("%d bytes in use: %d", inUse, got)
		}
	}
}

// What comes into use counts from the next collection on, and not later.
func TestMakeRoom(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(77))
	makeRoom(t.Context())
	becomes := func(what string, ok func(percent uint64) bool) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for !ok(metric("/gc/gogc:percent")) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d percent", what, metric("/gc/gogc:percent"))
			}
			runtime.Gosched()
		}
	}
	becomes("at the start", func(percent uint64) bool { return percent != 77 })
	b := make([]byte, 64<<20)
	runtime.GC()
	becomes("with 64 MB in use", func(percent uint64) bool { return percent == 100 })
	runtime.KeepAlive(b)
	runtime.GC()
	becomes("without them", func(percent uint64) bool { return percent > 100 })
}

func TestTendMemory(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(77))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, gogc := range []string{"50", ""} {
		t.Setenv("GOGC", gogc)
		tendMemory(ctx)
		if got := metric("/gc/gogc:percent"); (got != 77) != (gogc == "") {
			t.Errorf("GOGC=%q: %d percent", gogc, got)
		}
	}
}
