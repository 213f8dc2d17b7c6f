package main

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPlaceApart looks at where two processes may run while they are kept apart, and
// after.
func TestPlaceApart(t *testing.T) {
	if !canPlaceApart() {
		t.Skip("there is one processor only")
	}
	first, second, all, _ := processorHalves()
	start := func() int {
		proc, err := startProcess(exec.Command("sleep", "1000"), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = proc.Stop(stopPatience) })
		return proc.PID()
	}
	where := func(pid int) (set unix.CPUSet) {
		if err := unix.SchedGetaffinity(pid, &set); err != nil {
			t.Fatal(err)
		}
		return set
	}
	load, pooler := start(), start()
	undo, err := placeApart(load, pooler)
	if err != nil {
		t.Fatal(err)
	}
	if where(load) != first || where(pooler) != second || first == second {
		t.Errorf("the load runs on %v and the pooler on %v", where(load), where(pooler))
	}
	if err := undo(); err != nil {
		t.Fatal(err)
	}
	if where(pooler) != all {
		t.Errorf("the pooler is kept on %v", where(pooler))
	}
}
