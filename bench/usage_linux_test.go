package main

import (
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
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

// A process that makes system calls spends most of its time in the kernel.
func TestKernelTime(t *testing.T) {
	in := func() time.Duration {
		t.Helper()
		d, err := kernelTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	var page [1 << 16]byte
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	start, all := in(), time.Duration(0)
	for before, err := cpuTime(os.Getpid()); all < 300*time.Millisecond; {
		for range 100 {
			// Not zero.Read: the race detector would look at each byte, and take longer.
			_, _, _ = unix.Syscall(unix.SYS_READ, zero.Fd(), uintptr(unsafe.Pointer(&page[0])), uintptr(len(page)))
		}
		now, err2 := cpuTime(os.Getpid())
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		all = now - before
	}
	if got := in() - start; got < all/4 || got > all+100*time.Millisecond {
		t.Errorf("%v of %v in the kernel", got, all)
	}
}

func TestParseKernelTime(t *testing.T) {
	got, err := parseKernelTime([]byte("7 (a) b) S 1 7 7 0 -1 4194304 130 0 0 0 31 250 0 0 20 0 1 0 9 8 7\n"))
	if err != nil || got != 2500*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "7 (a) S 1", "7 (a) S 1 7 7 0 -1 4194304 130 0 0 0 31 x 0 0"} {
		if got, err := parseKernelTime([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// What this process uses is in what all use.
func TestMachineTime(t *testing.T) {
	in := func() (own, all time.Duration) {
		t.Helper()
		own, err := cpuTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if all, err = machineTime(); err != nil {
			t.Fatal(err)
		}
		return own, all
	}
	start, allStart := in()
	now, all := in()
	for ; now-start < 300*time.Millisecond; now, all = in() {
		for range 1_000_000 {
			sink++
		}
	}
	if all-allStart < (now-start)/2 {
		t.Errorf("%v of %v", all-allStart, now-start)
	}
}

func TestParseMachineTime(t *testing.T) {
	got, err := parseMachineTime([]byte("cpu  100 20 300 4000 50 6 7 80 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n"))
	if err != nil || got != 4330*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7", "cpu 1 2 3 4 5 6 x"} {
		if got, err := parseMachineTime([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
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

// What is no longer in memory counts in the peak.
func TestPeakBytes(t *testing.T) {
	const size = 512 << 20 // more than the tests have otherwise
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Munmap(memory); err != nil {
		t.Fatal(err)
	}
	now, err := residentBytes(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if peak, err := peakBytes(os.Getpid()); err != nil || peak < size || now > peak-size/2 {
		t.Errorf("peak %d, now %d, %v", peak, now, err)
	}
}
