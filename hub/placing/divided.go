package placing

import (
	"slices"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// Share is a part of a connector: of its Of tasks those whose numbers are in
// Mine. The zero Share is all of it.
type Share struct {
	Of   int
	Mine []int
}

// Divided is a connector as its site runs it.
type Divided struct {
	nodes []int32 // that can; nil: all
	parts int
}

// Divided are the connectors that this node could run: those of the catalog all
// nodes can, one of a jobs file those that have it. Nodes whose jobs files give one
// another number of tasks go by the highest.
func (p *Placing) Divided(s *catalog.State) map[string]Divided {
	all := map[string]Divided{}
	for name, config := range s.Connectors() {
		all[name] = Divided{parts: p.cfg.Parts(config)}
	}
	for name, parts := range p.cfg.Files {
		all[name] = Divided{[]int32{p.cfg.Node}, parts}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, names := range p.mu.files {
		for name, parts := range names {
			if c, here := all[name]; here && c.nodes != nil {
				all[name] = Divided{append(c.nodes, n), max(c.parts, parts)}
			}
		}
	}
	return all
}

// Several reports whether a connector has more than one task.
func (c Divided) Several() bool { return c.parts > 1 }

// At are the nodes that have its tasks, by their numbers; 0: nobody.
func (c Divided) At(s *catalog.State, name string) []int32 {
	nodes := make([]int32, max(c.parts, 1))
	for part := range nodes {
		nodes[part] = s.Lease(catalog.TaskName(name, part, c.parts)).Node
	}
	return nodes
}

// share is what a node is to run of a connector; ok is false for nothing.
func (c Divided) share(s *catalog.State, name string, node int32) (out Share, ok bool) {
	for part, n := range c.At(s, name) {
		if n == node {
			out.Mine = append(out.Mine, part)
		}
	}
	if ok = len(out.Mine) > 0; ok && c.parts > 1 {
		out.Of = c.parts
		return out, true
	}
	return Share{}, ok
}

// tasks are those of the connectors that this node could run, each with the
// nodes that could.
func (p *Placing) tasks(s *catalog.State) (all []catalog.Task) {
	for name, c := range p.Divided(s) {
		for part := range c.parts {
			all = append(all, catalog.Task{Name: catalog.TaskName(name, part, c.parts), Nodes: c.nodes})
		}
	}
	return all
}

// Tasks are the names of those that this node has the lease of, in order.
func (p *Placing) Tasks(s *catalog.State) (mine []string) {
	for _, t := range p.tasks(s) {
		if s.Lease(t.Name).Node == p.cfg.Node {
			mine = append(mine, t.Name)
		}
	}
	slices.Sort(mine)
	return mine
}

// Mine is what this node is to run of connectors, by name.
func (p *Placing) Mine(names []string) map[string]Share {
	mine := map[string]Share{}
	several := p.cfg.Several()
	s := p.cfg.Catalog.State()
	all := p.Divided(s)
	for _, name := range names {
		if !several {
			mine[name] = Share{}
		} else if share, some := all[name].share(s, name, p.cfg.Node); some {
			mine[name] = share
		}
	}
	return mine
}

// Holders are the other nodes that have tasks of a connector.
func (p *Placing) Holders(job string) (nodes []int32) {
	if !p.cfg.Several() {
		return nil
	}
	s := p.cfg.Catalog.State()
	for _, n := range p.Divided(s)[job].At(s, job) {
		if n != 0 && n != p.cfg.Node && !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
