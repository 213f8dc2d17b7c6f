package main

import (
	"context"
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

func TestAllocated(t *testing.T) {
	before := allocated()
	b := make([]byte, 1<<20)
	if after := allocated(); after < before+uint64(len(b)) {
		t.Errorf("%d, and %d after a megabyte", before, after)
	}
}

func TestGiveBackMemoryEnds(t *testing.T) {
	t.Setenv("GOGC", "")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	giveBackMemory(ctx)
	t.Setenv("GOGC", "50")
	giveBackMemory(context.Background())
}
