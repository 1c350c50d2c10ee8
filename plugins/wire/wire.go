// Package wire is the contract between a hub and a connector in a process of
// its own: the messages of plugin.proto, the service that carries them, and
// what both sides need to bring them to the types of package connectors and
// back. It knows neither processes (plugins/host) nor how a connector is
// called (plugins/sdk).
//
// Goroutines: none.
package wire

import "github.com/hashicorp/go-plugin"

// Version is the newest version of the protocol, Versions all that a side may
// still speak. Both sides choose the highest that they have in common.
const Version = 1

// Versions lists the protocol versions of this package.
func Versions() []int { return []int{Version} }

// Handshake is what a plugin's process is started with, so that it knows that a
// hub has started it and not a person.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{ProtocolVersion: Version, MagicCookieKey: "ENTREPOT_PLUGIN", MagicCookieValue: "entrepot-connector"}
}

// ServiceName is under which the plugin's service is found after the handshake.
const ServiceName = "connectors"

const (
	// MaxMessage bounds one message on the wire, in bytes.
	MaxMessage = 64 << 20
	// ChunkBytes is how large a part of a batch grows before the next begins.
	ChunkBytes = 256 << 10
	// Window is how many bytes of messages may be under way to a side that has
	// not taken them yet.
	Window = 4 << 20
	// MessageCost is what a message counts for beside its bytes.
	MessageCost = 64
)
