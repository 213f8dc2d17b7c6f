package backendtest

import "syscall"

// childAttr keeps a terminal's Ctrl-C from reaching the child before its
// owner stops it in order, and makes an immediate shutdown (SIGQUIT) of it
// should the thread that started it die.
func childAttr(credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential, Setpgid: true, Pdeathsig: syscall.SIGQUIT}
}
