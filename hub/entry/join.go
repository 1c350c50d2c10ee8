package entry

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
	"github.com/entrepot-hub/entrepot/hub/replica"
)

// joinTime is how long a node that was asked to take another one in may take.
const joinTime = 40 * time.Second

// join asks one node of the site after the other to take this one in. It
// returns what the catalog says this node is.
func (e *Entry) join(ctx context.Context, others Others, site *bootstrap.Proposal, as catalog.RegisterNode, nonce string) (id identity.Node, err error) {
	ask := e.registration(as, identity.Node{Nonce: nonce})
	body, err := json.Marshal(ask)
	if err != nil {
		return id, err
	}
	at := map[string]string{} // address by name
	for _, m := range site.Members {
		at[m.Name] = m.Peer
	}
	for _, m := range others.Gossip() {
		if m.Cluster == site.Cluster && m.Status == mesh.StatusAlive {
			at[m.ID] = m.Peer
		}
	}
	delete(at, e.cfg.Name)
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(at)) {
		id, err := e.joinBy(ctx, others, at[name], body)
		if err == nil {
			return id, nil
		}
		errs = append(errs, fmt.Errorf("join the site by node %s: %w", name, err))
	}
	return id, errors.Join(errs...)
}

func (e *Entry) joinBy(ctx context.Context, others Others, addr string, body []byte) (id identity.Node, err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	out, err := others.CallAddr(ctx, addr, MethodJoin, body)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(out, &id); err != nil {
		return id, fmt.Errorf("its answer: %w", err)
	}
	if err := errors.Join(id.Check(), id.Matches(e.cfg.Site, e.cfg.Name)); err != nil {
		return id, fmt.Errorf("its answer: %w", err)
	}
	return id, nil
}

// Site is what the site knows that takes a node in.
type Site interface {
	Catalog
	// Up is, by broker ID, which other nodes each node is connected with, of all
	// that answer.
	Up(ctx context.Context) map[int32][]int32
	// Voters are the members of the catalog's group that decide.
	Voters() []uint64
}

// TakeIn takes a node in that has no identity, and asks for one under its name.
// One whose name is known, with another data directory, has lost what it had,
// unless it is alive somewhere.
func (e *Entry) TakeIn(ctx context.Context, site Site, name string, body []byte) ([]byte, error) {
	var ask catalog.RegisterNode
	if err := json.Unmarshal(body, &ask); err != nil {
		return nil, err
	}
	if ask.Name != name || ask.Nonce == "" || ask.Node != 0 || ask.Wiped {
		return nil, fmt.Errorf("node %s asks to join as %q: want its own name, and a nonce", name, ask.Name)
	}
	old, known := site.State().NodeByName(ask.Name)
	if known && old.Nonce != ask.Nonce {
		if err := mayBeLost(old, site.Up(ctx), site.Voters()); err != nil {
			return nil, err
		}
		ask.Wiped, ask.Incarnation = true, old.Incarnation
	}
	if err := e.grow(); err != nil {
		return nil, err
	}
	out, err := site.Propose(ctx, ask)
	if err != nil {
		return nil, err
	}
	is, ok := out.(catalog.Registered)
	if !ok {
		return nil, fmt.Errorf("the catalog answers %T to a registration", out)
	}
	own, _ := e.Identity()
	id := identity.New(own.Cluster, own.Site, ask.Name, is.ID, own.Founders)
	id.Incarnation, id.Nonce = is.Incarnation, ask.Nonce
	return json.Marshal(id)
}

// mayBeLost says why a node must not be taken for lost: one of those that have
// answer is connected with it, or too few have for anybody to know. This node
// alone, cut off from the rest, would take each of them for lost.
func mayBeLost(n catalog.Node, up map[int32][]int32, voters []uint64) error {
	for _, from := range slices.Sorted(maps.Keys(up)) {
		if slices.Contains(up[from], n.ID) {
			return fmt.Errorf("node %s with ID %d is here and alive, as node %d says: give this one another node.id", n.Name, n.ID, from)
		}
	}
	answered := 0
	for _, v := range voters {
		if _, ok := up[replica.NodeOf(v)]; ok {
			answered++
		}
	}
	if answered <= len(voters)/2 {
		return fmt.Errorf("whether node %s with ID %d is lost is not known: %d of the %d nodes answer that decide, want a majority", n.Name, n.ID, answered, len(voters))
	}
	return nil
}
