package peer

import (
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT (RFC 5482, tcp(7)), which package syscall
// does not name.
const tcpUserTimeout = 0x12

// setUserTimeout has the system give up a connection whose data the other end
// has not acknowledged, or had no room for, for so long. Without it the system
// sends again for a quarter of an hour.
func setUserTimeout(nc net.Conn, d time.Duration) {
	raw := systemConn(nc)
	if raw == nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		// An old system that refuses has the deadlines of reads and writes still.
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds()))
	})
}
