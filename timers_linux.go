package main

import (
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Go's runtime sleeps for 3 to 20 µs at a time to see whether a thread is needed, and
// Linux makes about 70 of them: a node that hands records from goroutine to goroutine
// spent a fifth to two fifths of its processor time on that (docs/adr/0019-timers.md).
const (
	usualSlack = 50 * time.Microsecond  // Linux's own
	slack      = 500 * time.Microsecond // what a sleep may be longer than asked for
)

// loosenTimers lets every thread's timers be late by slack, so that those sleeps are
// longer and fewer. The runtime has threads before main begins, and a thread has this from
// the one that made it: so the program is begun anew, under the same process ID, with
// nothing done yet. Whoever has set another slack (TimerSlackNSec of systemd) keeps
// it. It returns if there is nothing to do or it cannot be done; all works without.
func loosenTimers() {
	runtime.LockOSThread() // both calls are about a thread
	defer runtime.UnlockOSThread()
	if now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err != nil || time.Duration(now) != usualSlack {
		return
	}
	program, err := os.Executable()
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0) != nil {
		return
	}
	_ = syscall.Exec(program, os.Args, os.Environ())
}
