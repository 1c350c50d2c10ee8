//go:build unix && !linux

package host

import (
	"os/exec"
	"syscall"
)

// apart puts the process into a group of its own; it ends when its standard
// input does.
func apart(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
