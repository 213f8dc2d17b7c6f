package evloop

import (
	"time"

	"golang.org/x/sys/unix"
)

// yieldThread goes to the end of the queue for this processor. That may take as
// long as others want to run, so the Go scheduler is told.
func yieldThread() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// sleepThread is time.Sleep for much less than a millisecond, which the Go
// runtime rounds up to.
func sleepThread(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // a signal ends it early: so be it
}
