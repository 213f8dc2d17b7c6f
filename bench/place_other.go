//go:build !linux

package main

// canPlaceApart reports whether placeApart can do its work here.
func canPlaceApart() bool { return false }

func placeApart(int, int) (undo func() error, err error) { return nil, errLinuxOnly }
