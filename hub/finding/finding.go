// Package finding is where the other nodes of the site are, and which other sites
// there are: as gossip and the catalog have it.
//
// Goroutines: none.
package finding

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/mirror"
)

// Catalog is the site's.
type Catalog interface {
	State() *catalog.State
	Watch() (*catalog.State, <-chan struct{})
}

// Parts are whom a node of a site tells what it finds.
type Parts struct {
	Self    identity.Node
	Catalog Catalog
	Nodes   func(map[int32]peer.Node) // the other nodes of the site
	Failed  func(node int32)          // a hint: gossip has lost a node
	Sites   func([]mirror.Source)     // the other sites
}

// Finder finds for one node. Its methods may be called from any goroutine.
type Finder struct {
	site    string
	members atomic.Pointer[[]mesh.Member]
	parts   atomic.Pointer[Parts]
	finding sync.Mutex      // held while it is told where nodes and sites are: what was found last is told last
	failed  map[string]bool // nodes that gossip has lost; of Changed alone
}

// New is a finder of a node of a site that has found nothing yet.
func New(site string) *Finder { return &Finder{site: site} }

// Begin has what is found told from now on.
func (f *Finder) Begin(p Parts) { f.parts.Store(&p) }

// Gossip is what the mesh last told.
func (f *Finder) Gossip() []mesh.Member {
	if m := f.members.Load(); m != nil {
		return *m
	}
	return nil
}

// Left reports whether gossip says that a node leaves the mesh, or has left it.
func (f *Finder) Left(name string) (left bool) {
	for _, m := range f.Gossip() {
		if m.ID == name {
			left = m.Status == mesh.StatusLeft || m.Status == mesh.StatusLeaving
		}
	}
	return left
}

// Changed implements mesh.Handler.
func (f *Finder) Changed(members []mesh.Member) {
	f.members.Store(&members)
	p := f.parts.Load()
	if p == nil {
		return // Run begins with what was found until then
	}
	f.find(p)
	f.hint(p, members)
	f.findSites(p)
}

// Run finds nodes that the catalog takes in, and lets go of those that it takes
// out, until ctx ends. Gossip alone does not do: it shows a node that comes before
// this one's catalog has it, and has no news afterwards.
func (f *Finder) Run(ctx context.Context) error {
	p := f.parts.Load()
	f.findSites(p)
	for {
		_, changed := p.Catalog.Watch()
		f.find(p)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// find tells where the other nodes are: as gossip has it of those that are alive,
// else as they have registered, else as they were when the site began.
func (f *Finder) find(p *Parts) {
	f.finding.Lock()
	defer f.finding.Unlock()
	nodes := map[int32]peer.Node{}
	names := map[string]int32{}
	for _, one := range p.Self.Founders {
		nodes[one.ID], names[one.Name] = peer.Node{Addr: one.Peer}, one.ID
	}
	state := p.Catalog.State()
	for _, n := range state.Nodes() {
		names[n.Name] = n.ID
		one := peer.Node{Addr: n.Peer, Incarnation: n.Incarnation}
		if one.Addr == "" {
			one.Addr = nodes[n.ID].Addr
		}
		nodes[n.ID] = one
	}
	for _, m := range f.Gossip() {
		id, known := names[m.ID]
		if known && m.Site == f.site && m.Status == mesh.StatusAlive && m.Peer != "" {
			nodes[id] = peer.Node{Addr: m.Peer, Incarnation: nodes[id].Incarnation}
		}
	}
	if len(state.Nodes()) > 0 {
		for id := range nodes {
			if _, there := state.Node(id); !there {
				delete(nodes, id) // it has left the site
			}
		}
	}
	delete(nodes, p.Self.ID)
	p.Nodes(nodes)
}

// hint passes on which nodes of the site gossip has lost since it was last asked.
// It decides nothing (Invariant 16).
func (f *Finder) hint(p *Parts, members []mesh.Member) {
	failed := map[string]bool{}
	for _, m := range members {
		if m.Site != f.site || m.Status != mesh.StatusFailed && m.Status != mesh.StatusLeft {
			continue
		}
		failed[m.ID] = true
		if n, known := p.Catalog.State().NodeByName(m.ID); known && !f.failed[m.ID] {
			p.Failed(n.ID)
		}
	}
	f.failed = failed
}

// findSites tells which other sites there are.
func (f *Finder) findSites(p *Parts) {
	f.finding.Lock()
	defer f.finding.Unlock()
	p.Sites(f.sites(f.Gossip()))
}

// sites are the other sites as links reach them. One none of whose nodes is alive
// stays a source while gossip remembers it: only its own silence makes it
// unreachable.
func (f *Finder) sites(members []mesh.Member) []mirror.Source {
	brokers := map[string][]string{}
	for _, one := range members {
		if one.Site != f.site && one.Kafka != "" && one.Status != mesh.StatusLeft {
			brokers[one.Site] = append(brokers[one.Site], one.Kafka)
		}
	}
	sources := make([]mirror.Source, 0, len(brokers))
	for _, name := range slices.Sorted(maps.Keys(brokers)) {
		sources = append(sources, mirror.Source{Site: name, Brokers: brokers[name]})
	}
	return sources
}
