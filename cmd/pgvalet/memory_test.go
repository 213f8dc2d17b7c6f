package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
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

func TestReadMemory(t *testing.T) {
	before := readMemory()
	b := make([]byte, 1<<20)
	runtime.GC()
	after := readMemory()
	if after.allocated < before.allocated+uint64(len(b)) {
		t.Errorf("%d, and %d after a megabyte", before.allocated, after.allocated)
	}
	if after.live < uint64(len(b)) || after.live > after.allocated {
		t.Errorf("%d live with a megabyte in use", after.live)
	}
	runtime.KeepAlive(b)
}

func TestCollectorPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 4 << 20: 400, 8 << 20: 200, 16 << 20: 100, 1 << 40: 100} {
		if got := collectorPercent(live); got != want {
			t.Errorf("%d bytes live: %d", live, got)
		}
	}
}

func TestTendMemory(t *testing.T) {
	start := debug.SetGCPercent(100)
	defer debug.SetGCPercent(start)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for gogc, want := range map[string]int{"": collectorPercent(readMemory().live), "50": 100} {
		t.Setenv("GOGC", gogc)
		tendMemory(ended)
		if got := debug.SetGCPercent(100); got != want {
			t.Errorf("GOGC=%q: %d percent, want %d", gogc, got, want)
		}
	}
}
