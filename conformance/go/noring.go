// A program that runs without io_uring, as in a container whose seccomp profile has no place for it.
package main

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// withoutRing is the first argument of this program when it is to become another, which gets no ring.
const withoutRing = "-without-io-uring"

const (
	prSetNoNewPrivs, prSetSeccomp = 38, 22
	seccompModeFilter             = 2
	ioUringSetup                  = 425
	seccompAllow, seccompErrno    = 0x7fff0000, 0x00050000
)

// becomeWithoutRing replaces this program; io_uring_setup(2) answers EPERM from then on.
func becomeWithoutRing(command []string) {
	runtime.LockOSThread()
	const load, jumpIfEqual, ret = 0x20, 0x15, 0x06
	filter := []syscall.SockFilter{
		{Code: load}, // the number of the call is the first field
		{Code: jumpIfEqual, Jf: 1, K: ioUringSetup},
		{Code: ret, K: seccompErrno | uint32(syscall.EPERM)},
		{Code: ret, K: seccompAllow},
	}
	program := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	prctl(prSetNoNewPrivs, 1, 0)
	prctl(prSetSeccomp, seccompModeFilter, uintptr(unsafe.Pointer(&program)))
	must(syscall.Exec(command[0], command, os.Environ()))
}

func prctl(option, value, pointer uintptr) {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, option, value, pointer, 0, 0, 0); errno != 0 {
		panic(errno)
	}
}
