package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// The versions of the peer protocol that this code speaks. Two nodes speak the
// highest that both know.
const (
	minVersion = 1
	maxVersion = 1
)

// Config of the connections. Take Default and change what is different.
type Config struct {
	// MinVersion and MaxVersion are the versions that this node speaks.
	MinVersion, MaxVersion uint16

	// MaxFrame bounds one message, body or answer, in bytes. It must be the
	// same at all nodes, or the larger ones do not arrive. What the
	// unregistered send is bounded by 1 MiB, in both directions.
	MaxFrame int

	// Queue bounds what is sent in a class to one node and not yet written, in
	// bytes. One frame is always taken.
	Queue [Classes]int

	// OwnSums are the classes whose messages carry sums of their own, which the
	// handler verifies: they are not summed a second time on their way.
	OwnSums [Classes]bool

	// KeepAlive is the time between keep-alives of heartbeat connections;
	// others have some in the time of Stalled.
	KeepAlive time.Duration
	// Dead is how long a heartbeat connection may be silent, or take nothing,
	// until the other node is taken for dead; Stalled is the same for another
	// class, of which only its own connection is cut.
	Dead, Stalled time.Duration
	// DialTimeout bounds a TCP connect and HandshakeTimeout what follows it.
	DialTimeout, HandshakeTimeout time.Duration

	// Window is what a sender of a stream may be ahead of its reader, in bytes.
	Window int

	// ServerTLS and ClientTLS make all connections TLS; both or neither. For
	// mutual authentication the server's asks for certificates. ClientTLS is
	// asked for each connection, with the host that is dialed.
	ServerTLS *tls.Config
	ClientTLS func(host string) *tls.Config

	Dial   func(ctx context.Context, addr string) (net.Conn, error) // nil: TCP
	Logger *slog.Logger                                             // nil: none
}

// Default is for nodes on a local network.
func Default() Config {
	return Config{
		MinVersion: minVersion, MaxVersion: maxVersion,
		MaxFrame:  64 << 20,
		Queue:     [Classes]int{Heartbeat: 1 << 20, Append: 32 << 20, Bulk: 8 << 20, Control: 8 << 20},
		KeepAlive: 200 * time.Millisecond, Dead: time.Second, Stalled: 10 * time.Second,
		DialTimeout: 500 * time.Millisecond, HandshakeTimeout: 2 * time.Second,
		Window: 1 << 20,
	}
}

// Validate finds what is wrong without touching the network.
func (c Config) Validate() error {
	var errs []error
	if c.MinVersion == 0 || c.MinVersion > c.MaxVersion {
		errs = append(errs, fmt.Errorf("versions %d to %d: want 1 ≤ min ≤ max", c.MinVersion, c.MaxVersion))
	}
	if c.MaxFrame < 1<<10 || c.MaxFrame > 1<<30 {
		errs = append(errs, fmt.Errorf("max frame %d: want 1 KiB to 1 GiB", c.MaxFrame))
	}
	for class, n := range c.Queue {
		if n <= 0 {
			errs = append(errs, fmt.Errorf("queue of %v is %d bytes: want more than 0", Class(class), n))
		}
	}
	if c.KeepAlive <= 0 || c.Dead < 2*c.KeepAlive || c.Stalled < c.Dead {
		errs = append(errs, fmt.Errorf("keep-alive %v, dead %v, stalled %v: want 0 < 2 keep-alives ≤ dead ≤ stalled", c.KeepAlive, c.Dead, c.Stalled))
	}
	if c.DialTimeout <= 0 || c.HandshakeTimeout <= 0 {
		errs = append(errs, fmt.Errorf("dial timeout %v, handshake timeout %v: want more than 0", c.DialTimeout, c.HandshakeTimeout))
	}
	if c.Window < 1<<10 || c.Window > 1<<30 {
		errs = append(errs, fmt.Errorf("window %d: want 1 KiB to 1 GiB", c.Window))
	}
	if (c.ServerTLS == nil) != (c.ClientTLS == nil) {
		errs = append(errs, errors.New("TLS wants a configuration for both ends"))
	}
	return errors.Join(errs...)
}

// keepAlive is the time between keep-alives of a class.
func (c Config) keepAlive(class Class) time.Duration {
	if class == Heartbeat {
		return c.KeepAlive
	}
	return c.Stalled / 8
}

// timeout is how long a connection of a class may be silent.
func (c Config) timeout(class Class) time.Duration {
	if class == Heartbeat {
		return c.Dead
	}
	return c.Stalled
}
