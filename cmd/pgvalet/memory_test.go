package main

import (
	"runtime/debug"
	"testing"
)

func TestLimitGarbage(t *testing.T) {
	const before = 80
	for env, want := range map[string]int{"": garbagePercent, "80": before, "off": before} {
		old := debug.SetGCPercent(before)
		t.Setenv("GOGC", env)
		limitGarbage()
		if got := debug.SetGCPercent(old); got != want {
			t.Errorf("GOGC=%q: %d %%, want %d", env, got, want)
		}
	}
}
