package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// processorHalves splits the processors that we may use in two. ok is false where
// there is only one.
func processorHalves() (first, second, all unix.CPUSet, ok bool) {
	if unix.SchedGetaffinity(0, &all) != nil || all.Count() < 2 {
		return first, second, all, false
	}
	for cpu, seen := 0, 0; seen < all.Count(); cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if seen < all.Count()/2 {
			first.Set(cpu)
		} else {
			second.Set(cpu)
		}
		seen++
	}
	return first, second, all, true
}

// place keeps all threads of a process, and those that they will start, on some
// processors.
func place(pid int, on *unix.CPUSet) error {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	placed := make(map[int]bool)
	for again := true; again; { // a thread may have been started meanwhile
		again = false
		threads, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil || placed[id] {
				continue
			}
			if err := unix.SchedSetaffinity(id, on); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("place thread %d: %w", id, err)
			}
			placed[id], again = true, true
		}
	}
	return nil
}

// canPlaceApart reports whether placeApart can do its work here.
func canPlaceApart() bool {
	_, _, _, ok := processorHalves()
	return ok
}

// placeApart gives load half of the processors and pooler the other one. PostgreSQL
// uses all. undo lets the pooler go anywhere again.
func placeApart(load, pooler int) (undo func() error, err error) {
	first, second, all, _ := processorHalves()
	if err := errors.Join(place(load, &first), place(pooler, &second)); err != nil {
		return nil, err
	}
	return func() error { return place(pooler, &all) }, nil
}
