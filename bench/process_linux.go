package main

import "syscall"

// childAttr keeps a terminal's Ctrl-C from a child, which is stopped in its
// turn, and kills it should the thread that started it die.
func childAttr(credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential, Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
