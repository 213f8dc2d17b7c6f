package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the CPU time, user and system, that a process has used in
// all its threads, those that have ended included.
//
// It reads the process's CPU clock (clock_getcpuclockid(3)), which counts
// nanoseconds. /proc/PID/stat has the same sum in ticks of 10 ms, and
// /proc/PID/task/*/schedstat forgets threads that have ended.
func cpuTime(pid int) (time.Duration, error) {
	const schedClock = 2 // CPUCLOCK_SCHED of the whole process
	var spent unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|schedClock), &spent); err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return time.Duration(spent.Nano()), nil
}

// tick is the unit of times in /proc: USER_HZ is 100 wherever Linux runs.
const tick = time.Second / 100

// kernelTime returns how much of a process's CPU time was spent in the kernel, in
// steps of 10 ms. Most kernels only look, at each tick of the clock, at what the
// processor is doing: a share of seconds is good to a hundredth, one of less is not.
func kernelTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseKernelTime(text)
}

// parseKernelTime returns stime, the 15th word of /proc/PID/stat. The second is a
// name in parentheses that may have anything in it.
func parseKernelTime(stat []byte) (time.Duration, error) {
	words := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(words) < 13 {
		return 0, fmt.Errorf("stat of a process: %q", stat)
	}
	ticks, err := strconv.ParseInt(string(words[12]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("stat of a process: %w", err)
	}
	return time.Duration(ticks) * tick, nil
}

// machineTime returns the CPU time that everything has used since the machine
// started, in steps of 10 ms, counted as in kernelTime.
func machineTime() (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseMachineTime(text)
}

// parseMachineTime adds up the first line of /proc/stat: user, nice, system,
// [idle, iowait,] irq, softirq. What comes behind was used by other machines, or
// is in user already (proc_stat(5)).
func parseMachineTime(stat []byte) (time.Duration, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	words := bytes.Fields(line)
	if len(words) < 8 || string(words[0]) != "cpu" {
		return 0, fmt.Errorf("/proc/stat: %q", line)
	}
	var busy time.Duration
	for i, word := range words[1:8] {
		const idle, iowait = 3, 4
		ticks, err := strconv.ParseInt(string(word), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != idle && i != iowait {
			busy += time.Duration(ticks) * tick
		}
	}
	return busy, nil
}

// residentBytes returns how much of a process is in memory (Rss in
// /proc/PID/smaps_rollup, which is exact, where statm may lag behind).
func residentBytes(pid int) (int64, error) {
	return readKiB(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Rss:")
}

// peakBytes returns the most that has been in memory of a process since it started.
func peakBytes(pid int) (int64, error) {
	return readKiB(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:")
}

// readKiB is parseKiB of the file at path.
func readKiB(path, name string) (int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return parseKiB(text, name)
}

// parseKiB returns, in bytes, the value of the line "name  number kB" in a
// file of /proc.
func parseKiB(text []byte, name string) (int64, error) {
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		if len(fields) == 3 && string(fields[0]) == name && string(fields[2]) == "kB" {
			n, err := strconv.ParseInt(string(fields[1]), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s %w", name, err)
			}
			return n << 10, nil
		}
	}
	return 0, fmt.Errorf("no line %q", name)
}

func describeMachine() Machine {
	m := kernelOf()
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		m.CPU = parseCPUModel(text)
	}
	if n, err := readKiB("/proc/meminfo", "MemTotal:"); err == nil {
		m.MemoryMiB = n >> 20
	}
	return m
}

// parseCPUModel returns the first processor's name in /proc/cpuinfo; some
// architectures have none.
func parseCPUModel(text []byte) string {
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if string(bytes.TrimSpace(name)) == "model name" {
			return string(bytes.TrimSpace(value))
		}
	}
	return ""
}
