package entry

import (
	"context"
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/record"
)

// Introduce names the site and tells it this node's present addresses. By insist
// a node of several waits for as long as it takes until the catalog has a leader.
func (e *Entry) Introduce(ctx context.Context, site Catalog, as catalog.RegisterNode, insist func(ctx context.Context, propose func() error) error) error {
	id, _ := e.Identity()
	for _, cmd := range []catalog.Command{e.siteInit(id), e.registration(as, id)} {
		err := insist(ctx, func() error {
			_, err := site.Propose(ctx, cmd)
			return err
		})
		if err != nil {
			return e.explain(err, id.Several() || len(site.State().Nodes()) > 1)
		}
	}
	if err := e.confirm(); err != nil || len(site.State().Nodes()) <= 1 {
		return err
	}
	return e.grow() // it may have grown before there was such a mark
}

// confirm writes an identity down that was not, now that the catalog has said that
// the name is right.
func (e *Entry) confirm() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.settled {
		return nil
	}
	return e.ofDir(e.settle(e.mu.id))
}

// grow notes, before the site has another node, that it is not this one's alone
// any more. A catalog of its own would be a second one.
func (e *Entry) grow() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := e.mu.id
	if id.Several() {
		return nil
	}
	if !e.mu.settled {
		return fmt.Errorf("node %s is not sure of its own name yet", e.cfg.Name)
	}
	id.Grown = true
	return e.ofDir(e.settle(id))
}

func (e *Entry) siteInit(id identity.Node) catalog.SiteInit {
	c := catalog.SiteInit{Site: e.cfg.Site, SiteID: e.cfg.SiteID, Cluster: id.Cluster}
	for _, f := range id.Founders {
		c.Founders = append(c.Founders, catalog.Founder{Name: f.Name, Nonce: f.Nonce, Peer: f.Peer, Rack: f.Zone})
	}
	return c
}

// registration is this node with its present addresses, as it has them.
func (e *Entry) registration(as catalog.RegisterNode, id identity.Node) catalog.RegisterNode {
	as.Name, as.Site, as.Peer, as.Rack = e.cfg.Name, e.cfg.Site, e.cfg.Peer, e.cfg.Zone
	as.Node, as.Incarnation, as.Nonce, as.Level = id.ID, id.Incarnation, id.Nonce, catalog.Level
	return as
}

// explain says what a refusal by the catalog means for the data directory.
func (e *Entry) explain(err error, several bool) error {
	switch {
	case !errors.Is(err, catalog.ErrNotThisNode) && !errors.Is(err, record.ErrInvalidRequest):
	case several:
		return e.ofDir(err)
	default:
		return fmt.Errorf("the data directory %s belongs to another node of this site; this one is %s: set node.id to the name it had: %w", e.cfg.Dir, e.cfg.Name, err)
	}
	return fmt.Errorf("register node %s at site %s: %w", e.cfg.Name, e.cfg.Site, err)
}
