package protocol

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// roundTrip is the shortest that the system has seen on the connection within
// some minutes (tcp_info, tcp(7)); false: it has seen none, or this is no TCP.
func roundTrip(nc net.Conn) (time.Duration, bool) {
	c, ok := nc.(syscall.Conn)
	if !ok {
		return 0, false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	var info *unix.TCPInfo
	if e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil || err != nil {
		return 0, false
	}
	const none = 1<<32 - 1
	return time.Duration(info.Min_rtt) * time.Microsecond, info.Min_rtt != none
}
