package hub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// introduce names the site and tells it this node's present addresses. A node
// of several waits for as long as it takes until the catalog has a leader.
func (h *Hub) introduce(ctx context.Context) error {
	if !h.several() {
		h.notReady("reading the catalog")
		if err := serving(ctx, h.meta.group); err != nil {
			return fmt.Errorf("the catalog: %w", err)
		}
	}
	for _, cmd := range []catalog.Command{h.siteInit(), h.registration()} {
		err := h.insist(ctx, func() error {
			_, err := h.meta.Propose(ctx, cmd)
			return err
		})
		if err != nil {
			return h.explain(err)
		}
	}
	_, known, err := identity.Read(vfs.OS(), h.dir())
	if err == nil && !known {
		err = h.settle(h.id) // the catalog has said that the name is right
	}
	if err != nil || h.alone() {
		return err
	}
	return h.grow() // it may have grown before there was such a mark
}

// grow notes, before the site has another node, that it is not this one's alone
// any more. A catalog of its own would be a second one.
func (h *Hub) grow() error {
	h.growing.Lock()
	defer h.growing.Unlock()
	id, _, err := identity.Read(vfs.OS(), h.dir())
	if err != nil || id.Grown || len(id.Founders) > 1 || id.Founders[0].ID != id.ID {
		return err
	}
	id.Grown = true
	return identity.Write(vfs.OS(), h.dir(), id)
}

// insist does what has to be proposed to the catalog until it is decided: for as
// long as the group has no leader, or this node's copy is damaged and not mended
// yet from another one's.
func (h *Hub) insist(ctx context.Context, propose func() error) error {
	for {
		err := propose()
		if err == nil || !h.several() || !errors.Is(err, record.ErrTimeout) && !errors.Is(err, record.ErrQuarantined) {
			return err
		}
		h.notReady(fmt.Sprintf("waiting for the catalog's group: %v", err))
		again := time.NewTimer(proposeAgain)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return err
		}
	}
}

// several reports whether the site has, or began with, other nodes than this.
func (h *Hub) several() bool {
	f := h.id.Founders
	return len(f) > 1 || f[0].ID != h.id.ID || h.id.Grown || len(h.meta.State().Nodes()) > 1
}

// alone reports whether the site has one node.
func (h *Hub) alone() bool { return len(h.meta.State().Nodes()) <= 1 }

// mostReplicas is how many replicas a topic has that nobody has said a number
// for: three survive the loss of a node.
const mostReplicas = 3

// replicas is how many replicas a topic gets: those asked for, or, for 0, as
// many as catalog.DefaultReplicas says, three at most.
func (h *Hub) replicas(asked int32) int32 {
	if asked > 0 {
		return asked
	}
	return int32(h.meta.State().DefaultReplicas(mostReplicas))
}

func (h *Hub) siteInit() catalog.SiteInit {
	c := catalog.SiteInit{Site: h.cfg.Node.Site, SiteID: h.cfg.siteID(), Cluster: h.id.Cluster}
	for _, f := range h.id.Founders {
		c.Founders = append(c.Founders, catalog.Founder{Name: f.Name, Nonce: f.Nonce, Peer: f.Peer, Rack: f.Zone})
	}
	return c
}

// registration is this node with its present addresses.
func (h *Hub) registration() catalog.RegisterNode {
	return catalog.RegisterNode{
		Name: h.cfg.Node.ID, Site: h.cfg.Node.Site, Kafka: h.Kafka(), Peer: h.Peer(), Admin: h.Admin(), Rack: h.cfg.Node.Zone, Listeners: h.extraAddresses(),
		Node: h.id.ID, Incarnation: h.id.Incarnation, Nonce: h.id.Nonce, Level: catalog.Level,
	}
}

// explain says what a refusal by the catalog means for the data directory.
func (h *Hub) explain(err error) error {
	switch {
	case !errors.Is(err, catalog.ErrNotThisNode) && !errors.Is(err, record.ErrInvalidRequest):
	case h.several():
		return fmt.Errorf("node.data_dir %s: %w", h.cfg.Node.DataDir, err)
	default:
		return fmt.Errorf("the data directory %s belongs to another node of this site; this one is %s: set node.id to the name it had: %w", h.cfg.Node.DataDir, h.cfg.Node.ID, err)
	}
	return fmt.Errorf("register node %s at site %s: %w", h.cfg.Node.ID, h.cfg.Node.Site, err)
}
