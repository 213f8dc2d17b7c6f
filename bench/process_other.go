//go:build !linux

package main

import "syscall"

// childAttr keeps a terminal's Ctrl-C from a child, which is stopped in its
// turn. Only Linux can tie a child's life to its parent's.
func childAttr(credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential, Setpgid: true}
}
