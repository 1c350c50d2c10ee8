//go:build !linux

package peer

import (
	"net"
	"time"
)

// setUserTimeout is for Linux; elsewhere the deadlines of reads and writes
// have to do.
func setUserTimeout(net.Conn, time.Duration) {}
