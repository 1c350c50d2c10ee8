package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/entry"
	"github.com/entrepot-hub/entrepot/hub/finding"
	"github.com/entrepot-hub/entrepot/hub/meta"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/placing"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/hub/status"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/stream"
)

// openEntry finds out who this node is, or is to be.
func (h *Hub) openEntry(context.Context) (err error) {
	h.entry, err = entry.Open(entry.Config{
		Site: h.cfg.Node.Site, SiteID: h.cfg.siteID(), Name: h.cfg.Node.ID, Zone: h.cfg.Node.Zone, Peer: h.Peer(), Dir: h.dir(),
		Expect:     h.cfg.Cluster.BootstrapExpect,
		HasCatalog: slices.ContainsFunc(h.store.Logs(), func(id storage.LogID) bool { return id.Topic == catalog.MetaGroup }),
		Logger:     h.log,
	})
	if err == nil {
		h.id, _ = h.entry.Identity()
	}
	return err
}

// becomeSomebody has the node begin a site or join one, unless it is of one.
func (h *Hub) becomeSomebody(ctx context.Context) error {
	if h.isSomebody() {
		return nil
	}
	if err := h.entry.Become(ctx, strangers{h.finder, h.peers}, h.addresses(), h.notReady); err != nil {
		return err
	}
	h.id, _ = h.entry.Identity()
	if err := errors.Join(h.peers.SetSelf(h.peerIdentity()), h.mesh.SetCluster(h.id.Cluster)); err != nil {
		return err
	}
	return h.join(ctx)
}

// strangers are the other nodes for one that belongs to no site yet.
type strangers struct {
	*finding.Finder
	*peer.Peers
}

// site is what a node knows of its site that takes another one in.
type site struct {
	*meta.Catalog
	*status.View
}

// addresses are this node's at present.
func (h *Hub) addresses() catalog.RegisterNode {
	return catalog.RegisterNode{Kafka: h.Kafka(), Admin: h.Admin(), Listeners: h.extraAddresses()}
}

// insist does what has to be proposed to the catalog; on a site of several nodes
// for as long as it takes until it is decided.
func (h *Hub) insist(ctx context.Context, propose func() error) error {
	return meta.Insist(ctx, propose, func(why error) bool {
		h.notReady(fmt.Sprintf("waiting for the catalog's group: %v", why))
		return h.several()
	})
}

// lease grants this node the leases of tasks of a connector.
func (h *Hub) lease(ctx context.Context, job string, tasks stream.Share, floor int64) (epoch int64, err error) {
	return h.placing.Lease(ctx, job, placing.Share(tasks), floor)
}

// several reports whether the site has, or began with, other nodes than this.
func (h *Hub) several() bool {
	return h.id.Several() || len(h.meta.State().Nodes()) > 1
}

// member is this node in Raft groups.
func (h *Hub) member() uint64 { return replica.MemberID(h.id.ID, h.id.Incarnation) }

// isSomebody reports whether the node has its identity.
func (h *Hub) isSomebody() bool { return h.id.ID != 0 }
