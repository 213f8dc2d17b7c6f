package main

import (
	"os"
	"testing"
	"time"
)

func TestParseKiB(t *testing.T) {
	const rollup = "00400000-7fff r-xp 00000000 00:00 0 [rollup]\nRss:                5056 kB\nPss:                2022 kB\nSwapPss: 1 kB\n"
	if got, err := parseKiB([]byte(rollup), "Rss:"); got != 5056<<10 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	for _, bad := range []string{"", "Rss: x kB\n", "Rss: 5\n", "XRss: 5 kB\n"} {
		if got, err := parseKiB([]byte(bad), "Rss:"); err == nil {
			t.Errorf("%q: %d", bad, got)
		}
	}
}

func TestParseCPUModel(t *testing.T) {
	const cpuinfo = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some CPU @ 2.00GHz\n\nprocessor\t: 1\nmodel name\t: Other\n"
	if got := parseCPUModel([]byte(cpuinfo)); got != "Some CPU @ 2.00GHz" {
		t.Errorf("%q", got)
	}
	if got := parseCPUModel([]byte("processor\t: 0\n")); got != "" {
		t.Errorf("without a name: %q", got)
	}
}

// The process's clock must agree with what the kernel bills it.
func TestCPUTime(t *testing.T) {
	start, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	billed, err := ownCPU()
	if err != nil {
		t.Fatal(err)
	}
	const work = 100 * time.Millisecond
	for spent := time.Duration(0); spent < work; {
		for i := range 100_000 {
			sink += i
		}
		now, err := ownCPU()
		if err != nil {
			t.Fatal(err)
		}
		spent = now - billed
	}
	end, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if got := end - start; got < work-20*time.Millisecond || got > 10*work {
		t.Errorf("%v of CPU time for %v of work", got, work)
	}
}

// sink keeps the compiler from leaving the work out.
var sink int

func TestCPUTimeOfNobody(t *testing.T) {
	if got, err := cpuTime(1 << 22); err == nil { // above any kernel's pid_max
		t.Errorf("%v", got)
	}
}

func TestResidentBytes(t *testing.T) {
	if got, err := residentBytes(os.Getpid()); err != nil || got < 1<<20 || got > 1<<36 {
		t.Errorf("%d, %v", got, err)
	}
}
