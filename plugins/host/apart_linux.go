package host

import (
	"os/exec"
	"syscall"
)

// apart puts the process into a group of its own, and has the kernel kill it
// when the thread that starts it is gone.
func apart(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
