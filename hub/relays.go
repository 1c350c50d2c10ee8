package hub

import (
	"context"
	"net/http"

	"github.com/entrepot-hub/entrepot/hub/registry"
	"github.com/entrepot-hub/entrepot/hub/relay"
)

// The HTTP servers of a node whose requests are passed on: the first byte of
// such a call.
const (
	relayRegistry byte = 'r'
	relayConnect  byte = 'c'
	relayAdmin    byte = 'a'
)

// relays has requests answered by the nodes whose business they are.
func (h *Hub) relays() *relay.Router {
	return relay.NewRouter(func(node int32) bool { return node != h.id.ID && h.nodes.Up(node) },
		func(ctx context.Context, node int32, request []byte) ([]byte, error) {
			return h.peers.Call(ctx, node, callRelay, request)
		})
}

// schemaWriter is the node that writes schemas: the leader of their topic, and
// of the catalog as long as there is none (docs/adr/0005-one-writer-for-schemas.md).
// Every node reads by itself.
func (h *Hub) schemaWriter(r *http.Request) int32 {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return 0
	}
	if _, there := h.meta.State().Topic(registry.Topic); there {
		leader, _ := partitions{h}.Leader(registry.Topic, 0)
		return max(leader, 0)
	}
	return h.meta.Leader()
}
