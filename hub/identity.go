package hub

import (
	"context"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// openIdentity finds out who this node is. A directory without an identity is
// that of a site of one node from before there were identities, if it has a
// catalog; otherwise this node begins a site, alone or with others.
func (h *Hub) openIdentity(context.Context) error {
	id, ok, err := identity.Read(vfs.OS(), h.dir())
	if err == nil && ok {
		err = id.Matches(h.cfg.Node.Site, h.cfg.Node.ID)
	}
	if err != nil {
		return fmt.Errorf("node.data_dir %s: %w", h.cfg.Node.DataDir, err)
	}
	self := []identity.Founder{{ID: 1, Name: h.cfg.Node.ID, Peer: h.Peer()}}
	switch {
	case ok:
		h.id = id
	case slices.ContainsFunc(h.store.Logs(), isMeta):
		// It is written down once the catalog has said that the name is right.
		h.id = identity.New(oldClusterID(h.cfg), h.cfg.Node.Site, h.cfg.Node.ID, 1, self)
	case h.cfg.Cluster.BootstrapExpect == 1:
		self[0].Nonce = identity.NewNonce()
		id := identity.New(identity.NewCluster(), h.cfg.Node.Site, h.cfg.Node.ID, 1, self)
		id.Nonce = self[0].Nonce
		return h.settle(id)
	default:
		if err := h.openBeginning(); err != nil {
			return fmt.Errorf("node.data_dir %s: %w", h.cfg.Node.DataDir, err)
		}
	}
	return nil
}

// settle makes this node somebody for ever.
func (h *Hub) settle(id identity.Node) error {
	if err := identity.Write(vfs.OS(), h.dir(), id); err != nil {
		return fmt.Errorf("node.data_dir %s: %w", h.cfg.Node.DataDir, err)
	}
	h.id = id
	return nil
}

// member is this node in Raft groups.
func (h *Hub) member() uint64 { return replica.MemberID(h.id.ID, h.id.Incarnation) }

// isSomebody reports whether the node has its identity.
func (h *Hub) isSomebody() bool { return h.id.ID != 0 }

func isMeta(id storage.LogID) bool { return id.Topic == catalog.MetaGroup }
