//go:build !linux

package main

func deferAccept(_, _ int) {}
