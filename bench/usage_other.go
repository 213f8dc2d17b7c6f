//go:build !linux

package main

import (
	"errors"
	"time"
)

var errLinuxOnly = errors.New("CPU time and memory of another process are measured on Linux only")

func cpuTime(int) (time.Duration, error) { return 0, errLinuxOnly }

func kernelTime(int) (time.Duration, error) { return 0, errLinuxOnly }

func residentBytes(int) (int64, error) { return 0, errLinuxOnly }

func describeMachine() Machine { return kernelOf() }
