//go:build !linux

package backendtest

import "syscall"

// ChildAttr keeps a terminal's Ctrl-C from reaching the child before its
// owner stops it in order. Only Linux can tie a child's life to its parent's.
func ChildAttr(credential *syscall.Credential, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential, Setpgid: true}
}
