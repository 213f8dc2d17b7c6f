//go:build !linux

package backendtest

import "syscall"

// childAttr keeps a terminal's Ctrl-C from reaching the child before its
// owner stops it in order. Only Linux can tie a child's life to its parent's.
func childAttr(credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential, Setpgid: true}
}
