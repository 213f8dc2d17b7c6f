//go:build !linux

package main

import (
	"errors"
	"fmt"
	"time"
)

var errLinuxOnly = fmt.Errorf("CPU time and memory are measured on Linux only: %w", errors.ErrUnsupported)

func cpuTime(int) (time.Duration, error) { return 0, errLinuxOnly }

func kernelTime(int) (time.Duration, error) { return 0, errLinuxOnly }

func machineTime() (time.Duration, error) { return 0, errLinuxOnly }

func residentBytes(int) (int64, error) { return 0, errLinuxOnly }

func peakBytes(int) (int64, error) { return 0, errLinuxOnly }

func describeMachine() Machine { return kernelOf() }
