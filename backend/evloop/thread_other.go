//go:build !linux

package evloop

import "time"

// What these save was measured on Linux only.

func yieldThread() {}

func sleepThread(time.Duration) {}
