package hub

import (
	"context"
	"io"
	"slices"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/leading"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// otherLogs are the logs of other nodes, from which replicas fetch what they
// lack.
type otherLogs struct{ h *Hub }

// Call implements replica.Source.
func (o otherLogs) Call(ctx context.Context, node int32, method string, body []byte) ([]byte, error) {
	return o.h.peers.Call(ctx, node, method, body)
}

// Open implements replica.Source.
func (o otherLogs) Open(ctx context.Context, node int32, method string, body []byte) (io.ReadCloser, error) {
	return o.h.peers.Open(ctx, node, method, body)
}

// Holders implements replica.Source: who is known to lead, then who should have
// a replica.
func (o otherLogs) Holders(id storage.LogID) []int32 {
	h := o.h
	var nodes []int32
	add := func(n int32) {
		if n > 0 && n != h.id.ID && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	if id.Topic == catalog.MetaGroup && id.ID == (record.TopicID{}) {
		add(leading.OfCatalog(h.leaders))
		for _, f := range h.id.Founders {
			add(f.ID)
		}
		for _, n := range h.meta.State().Nodes() {
			add(n.ID)
		}
		return nodes
	}
	if c, ok := h.leaders.Leader(id.ID, id.Partition); ok {
		add(c.Node)
	}
	if t, ok := h.meta.State().TopicByID(id.ID); ok && int(id.Partition) < len(t.Partitions) {
		for _, n := range t.Partitions[id.Partition].Replicas {
			add(n)
		}
	}
	return nodes
}
