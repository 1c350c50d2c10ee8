package catalog

import (
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// SiteInit names the site. The first one decides; the same again does nothing.
// A site of several nodes says besides with which it begins: they get the
// broker IDs from 1 in this order and announce their addresses later.
type SiteInit struct {
	Site   string
	SiteID int32 // 1 to 32767: the top bits of the site's producer IDs
	// Cluster is the random ID that the nodes have agreed on. A site that has
	// none takes the first one it is given.
	Cluster  string    `json:",omitempty"`
	Founders []Founder `json:",omitempty"`
}

func (SiteInit) kind() byte     { return kindSiteInit }
func (RegisterNode) kind() byte { return kindRegisterNode }

func (s *State) siteInit(c SiteInit) (*State, any, error) {
	if err := s.checkInit(c); err != nil {
		return nil, nil, err
	}
	next := *s
	next.site, next.siteID = c.Site, c.SiteID
	if c.Cluster != "" {
		next.cluster = c.Cluster
	}
	if s.site == "" {
		for i, f := range c.Founders {
			next.nodes = append(next.nodes[:i:i], Node{ID: int32(i + 1), Name: f.Name, Site: c.Site, Peer: f.Peer, Rack: f.Rack, Nonce: f.Nonce})
		}
		next.lastNode = int32(len(c.Founders))
		return &next, nil, nil
	}
	for i, f := range c.Founders {
		n, there := s.Node(int32(i + 1))
		if there && n.Name == f.Name || !there && s.lastNode > int32(i) {
			continue // or was there and has been removed
		}
		return nil, nil, fmt.Errorf("%w: site %q did not begin with node %q as number %d", record.ErrInvalidRequest, s.site, f.Name, i+1)
	}
	return &next, nil, nil
}

func (s *State) checkInit(c SiteInit) error {
	switch {
	case s.site != "" && (c.Site != s.site || c.SiteID != s.siteID):
		return fmt.Errorf("%w: the site is %q with ID %d and cannot become %q with ID %d", record.ErrInvalidRequest, s.site, s.siteID, c.Site, c.SiteID)
	case s.cluster != "" && c.Cluster != "" && c.Cluster != s.cluster:
		return fmt.Errorf("%w: site %q has cluster ID %s, not %s: these are the nodes of two sites of one name", record.ErrInvalidRequest, s.site, s.cluster, c.Cluster)
	case c.SiteID < 1 || c.SiteID > maxSiteID:
		return fmt.Errorf("%w: site ID %d, want 1 to %d", record.ErrInvalidRequest, c.SiteID, maxSiteID)
	case len(c.Founders) > maxFounders:
		return fmt.Errorf("%w: a site that begins with %d nodes, the most is %d", record.ErrInvalidRequest, len(c.Founders), maxFounders)
	}
	if err := checkName("site", c.Site); err != nil {
		return err
	}
	if c.Cluster != "" {
		if err := checkName("site's cluster ID", c.Cluster); err != nil {
			return err
		}
	}
	for i, f := range c.Founders {
		if slices.ContainsFunc(c.Founders[:i], func(o Founder) bool { return o.Name == f.Name }) {
			return fmt.Errorf("%w: two nodes of the new site are called %q: give one another node.id", record.ErrInvalidRequest, f.Name)
		}
		probe := RegisterNode{Name: f.Name, Site: c.Site, Peer: f.Peer, Rack: f.Rack, Nonce: f.Nonce}
		if err := (&State{site: c.Site}).checkRegistration(probe); err != nil {
			return err
		}
	}
	return nil
}

// maxFounders bounds the nodes that a site begins with.
const maxFounders = 1000
