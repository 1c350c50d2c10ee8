package hub

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/connect"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/stream"
)

// placeEvery is the time between two looks at which node runs which job.
const placeEvery = time.Second

// placing shares the connectors out over the nodes of the site. Each node
// decides as all do (catalog.Placement), proposes the leases that it is to have
// itself, and runs what it has the lease of.
type placing struct {
	mu struct {
		sync.Mutex
		files map[int32]map[string]int // connectors in the jobs files of other nodes, with their tasks
	}
	// Of run alone.
	placement catalog.Placement
	at        placed
}

// placed is what the runner was last told.
type placed struct {
	connectors map[string]map[string]string
	desired    map[string]string
	mine       []string
}

// jobsNotice is what a node tells the others of its jobs files.
type jobsNotice struct {
	Connectors []string       `json:"connectors"`
	Tasks      map[string]int `json:"tasks,omitempty"` // of those that have several
}

// maxNotice bounds what another node may say of its jobs files, in bytes.
const maxNotice = 1 << 20

func (h *Hub) jobsNotice() []byte {
	var n jobsNotice
	for _, s := range h.jobs.Connectors {
		n.Connectors = append(n.Connectors, s.Name)
		if parts := s.Parts(); parts > 1 {
			if n.Tasks == nil {
				n.Tasks = map[string]int{}
			}
			n.Tasks[s.Name] = parts
		}
	}
	b, err := json.Marshal(n)
	if err != nil {
		panic("hub: names of connectors cannot be written: " + err.Error())
	}
	return append([]byte{noticeJobs}, b...)
}

// heard takes what another node has in its jobs files.
func (p *placing) heard(node int32, body []byte) error {
	var n jobsNotice
	if err := json.Unmarshal(body[:min(len(body), maxNotice)], &n); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.files == nil {
		p.mu.files = map[int32]map[string]int{}
	}
	has := map[string]int{}
	for _, name := range n.Connectors {
		has[name] = min(max(n.Tasks[name], 1), stream.MaxTasks)
	}
	p.mu.files[node] = has
	return nil
}

// placeJobs shares out and follows until ctx ends.
func (h *Hub) placeJobs(ctx context.Context) error {
	tick := time.NewTicker(placeEvery)
	defer tick.Stop()
	for {
		_, changed := h.meta.machine.Watch()
		if h.several() {
			h.claimMine(ctx)
			if err := h.connectors.change(ctx, func() error { return h.followJobs(ctx) }); err != nil && ctx.Err() == nil {
				h.log.Error("the jobs of this node are not those that it is to run", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
	}
}

// claimMine proposes the leases that this node is to have.
func (h *Hub) claimMine(ctx context.Context) {
	s := h.meta.State()
	grants, _ := h.placing.placement.Step(time.Now(), h.tasks(s), h.workers(s), s.Leases())
	for _, g := range grants {
		if g.Node != h.id.ID {
			continue
		}
		if _, err := h.meta.Propose(ctx, g); err != nil {
			h.log.Debug("a job was not given to this node", "task", g.Task, "error", err)
		}
	}
}

// tasks are those of the connectors that this node could run, each with the
// nodes that could: those of the catalog all, one of a jobs file those that
// have it.
func (h *Hub) tasks(s *catalog.State) (all []catalog.Task) {
	for name, c := range h.divided(s) {
		for part := range c.parts {
			all = append(all, catalog.Task{Name: catalog.TaskName(name, part, c.parts), Nodes: c.nodes})
		}
	}
	return all
}

// divided is a connector as its site runs it.
type divided struct {
	nodes []int32 // that can; nil: all
	parts int
}

// divided are the connectors that this node could run. Nodes whose jobs files
// give one another number of tasks go by the highest.
func (h *Hub) divided(s *catalog.State) map[string]divided {
	all := map[string]divided{}
	for name, config := range s.Connectors() {
		all[name] = divided{parts: h.partsOf(config)}
	}
	for _, c := range h.jobs.Connectors {
		all[c.Name] = divided{[]int32{h.id.ID}, c.Parts()}
	}
	h.placing.mu.Lock()
	defer h.placing.mu.Unlock()
	for n, names := range h.placing.mu.files {
		for name, parts := range names {
			if c, here := all[name]; here && c.nodes != nil {
				all[name] = divided{append(c.nodes, n), max(c.parts, parts)}
			}
		}
	}
	return all
}

// partsOf is stream.ConnectorSpec.Parts of a configuration in the catalog,
// which is not compiled for it.
func (h *Hub) partsOf(config map[string]string) int {
	n := connect.Tasks(config)
	if n <= 1 {
		return 1
	}
	p, err := connect.FindPlugin(h.deps.Registry, config["connector.class"])
	if err != nil {
		return 1
	}
	return stream.ConnectorSpec{Sink: h.deps.Registry.Sinks[p.Type], Tasks: min(n, stream.MaxTasks)}.Parts()
}

// at are the nodes that have its tasks, by their numbers; 0: nobody.
func (c divided) at(s *catalog.State, name string) []int32 {
	nodes := make([]int32, max(c.parts, 1))
	for part := range nodes {
		nodes[part] = s.Lease(catalog.TaskName(name, part, c.parts)).Node
	}
	return nodes
}

// share is what a node is to run of a connector; ok is false for nothing.
func (c divided) share(s *catalog.State, name string, node int32) (out stream.Share, ok bool) {
	for part, n := range c.at(s, name) {
		if n == node {
			out.Mine = append(out.Mine, part)
		}
	}
	if ok = len(out.Mine) > 0; ok && c.parts > 1 {
		out.Of = c.parts
		return out, true
	}
	return stream.Share{}, ok
}

// workers are the nodes as they can run jobs. One that is about to end, or to
// leave the site, gets none.
func (h *Hub) workers(s *catalog.State) []catalog.Member {
	left := map[string]bool{}
	for _, m := range h.gossip() {
		left[m.ID] = m.Status == mesh.StatusLeft || m.Status == mesh.StatusLeaving
	}
	var all []catalog.Member
	for _, n := range s.Nodes() {
		up, when := h.nodes.since(n.ID)
		m := catalog.Member{Node: n.ID, Health: catalog.Alive, Since: when}
		switch {
		case n.Draining || n.Leaving || n.ID != h.id.ID && left[n.Name]:
			m.Health = catalog.Left
		case !up:
			m.Health = catalog.Failed
		}
		all = append(all, m)
	}
	return all
}

// mine leaves of connectors what this node is to run.
func (h *Hub) mine(specs []stream.ConnectorSpec) (mine []stream.ConnectorSpec) {
	if !h.several() {
		return specs
	}
	s := h.meta.State()
	all := h.divided(s)
	for _, spec := range specs {
		var some bool
		if spec.Share, some = all[spec.Name].share(s, spec.Name, h.id.ID); some {
			mine = append(mine, spec)
		}
	}
	return mine
}

// followJobs has the runner run what this node has the leases of, if that, the
// connectors or what the operator wants of them has changed. The caller holds
// connectorsView.change.
func (h *Hub) followJobs(ctx context.Context) error {
	s := h.meta.State()
	now := placed{connectors: s.Connectors(), desired: s.Jobs()}
	for _, t := range h.tasks(s) {
		if s.Lease(t.Name).Node == h.id.ID {
			now.mine = append(now.mine, t.Name)
		}
	}
	slices.Sort(now.mine)
	was := &h.placing.at
	if slices.Equal(was.mine, now.mine) && maps.Equal(was.desired, now.desired) && maps.EqualFunc(was.connectors, now.connectors, maps.Equal) {
		return nil
	}
	wanted := map[string]stream.Desired{}
	for name := range was.desired {
		if _, still := now.desired[name]; !still {
			wanted[name] = stream.WantRunning
		}
	}
	for name, d := range now.desired {
		if was.desired[name] != d {
			wanted[name] = stream.Desired(d)
		}
	}
	if err := h.connectors.run(ctx, wanted); err != nil {
		return err
	}
	*was = now
	return nil
}
