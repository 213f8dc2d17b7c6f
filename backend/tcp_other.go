//go:build !linux

package backend

func setUserTimeout(_, _ int) {}
