package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/hub/bootstrap"
	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/replica"
)

// joinTime is how long a node that was asked to take another one in may take.
const joinTime = 40 * time.Second

// joinSite asks one node of the site after the other to take this one in. It
// returns what the catalog says this node is.
func (h *Hub) joinSite(ctx context.Context, site *bootstrap.Proposal, nonce string) (id identity.Node, err error) {
	ask := h.registration()
	ask.Node, ask.Incarnation, ask.Nonce = 0, 0, nonce
	body, err := json.Marshal(ask)
	if err != nil {
		return id, err
	}
	at := map[string]string{} // address by name
	for _, m := range site.Members {
		at[m.Name] = m.Peer
	}
	for _, m := range h.gossip() {
		if m.Cluster == site.Cluster && m.Status == mesh.StatusAlive {
			at[m.ID] = m.Peer
		}
	}
	delete(at, h.cfg.Node.ID)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(at)) {
		id, err := h.joinBy(ctx, at[name], body)
		if err == nil {
			return id, nil
		}
		errs = append(errs, fmt.Errorf("join the site by node %s: %w", name, err))
	}
	return id, errors.Join(errs...)
}

func (h *Hub) joinBy(ctx context.Context, addr string, body []byte) (id identity.Node, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	out, err := h.peers.CallAddr(ctx, addr, callJoin, body)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(out, &id); err != nil {
		return id, fmt.Errorf("its answer: %w", err)
	}
	if err := errors.Join(id.Check(), id.Matches(h.cfg.Node.Site, h.cfg.Node.ID)); err != nil {
		return id, fmt.Errorf("its answer: %w", err)
	}
	return id, nil
}

// joinCalled takes a node in that has no identity. One whose name is known, with
// another data directory, has lost what it had, unless it is alive somewhere.
func (h *Hub) joinCalled(ctx context.Context, from peer.Peer, body []byte) ([]byte, error) {
	var ask catalog.RegisterNode
	if err := json.Unmarshal(body, &ask); err != nil {
		return nil, err
	}
	if ask.Name != from.Name || ask.Nonce == "" || ask.Node != 0 || ask.Wiped {
		return nil, fmt.Errorf("node %s asks to join as %q: want its own name, and a nonce", from.Name, ask.Name)
	}
	old, known := h.meta.State().NodeByName(ask.Name)
	if known && old.Nonce != ask.Nonce {
		if err := mayBeLost(old, siteView{h}.reports(ctx), h.meta.group.Members().Voters); err != nil {
			return nil, err
		}
		ask.Wiped, ask.Incarnation = true, old.Incarnation
	}
	if err := h.grow(); err != nil {
		return nil, err
	}
	out, err := h.meta.Propose(ctx, ask)
	if err != nil {
		return nil, err
	}
	is, ok := out.(catalog.Registered)
	if !ok {
		return nil, fmt.Errorf("the catalog answers %T to a registration", out)
	}
	id := identity.New(h.id.Cluster, h.id.Site, ask.Name, is.ID, h.id.Founders)
	id.Incarnation, id.Nonce = is.Incarnation, ask.Nonce
	return json.Marshal(id)
}

// mayBeLost says why a node must not be taken for lost: one of those that have
// reported is connected with it, or too few have for anybody to know. This node
// alone, cut off from the rest, would take each of them for lost.
func mayBeLost(n catalog.Node, reports map[int32]report, voters []uint64) error {
	for _, from := range slices.Sorted(maps.Keys(reports)) {
		if slices.Contains(reports[from].Up, n.ID) {
			return fmt.Errorf("node %s with ID %d is here and alive, as node %d says: give this one another node.id", n.Name, n.ID, from)
		}
	}
	answered := 0
	for _, v := range voters {
		if _, ok := reports[replica.NodeOf(v)]; ok {
			answered++
		}
	}
	if answered <= len(voters)/2 {
		return fmt.Errorf("whether node %s with ID %d is lost is not known: %d of the %d nodes answer that decide, want a majority", n.Name, n.ID, answered, len(voters))
	}
	return nil
}
