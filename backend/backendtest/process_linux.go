package backendtest

import "syscall"

// ChildAttr keeps a terminal's Ctrl-C from reaching the child before its
// owner stops it in order, and sends it orphaned should the thread that started
// it die.
func ChildAttr(credential *syscall.Credential, orphaned syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential, Setpgid: true, Pdeathsig: orphaned}
}
