package hub

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
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
		files map[int32][]string // connectors in the jobs files of other nodes
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
	Connectors []string `json:"connectors"`
}

// maxNotice bounds what another node may say of its jobs files, in bytes.
const maxNotice = 1 << 20

func (h *Hub) jobsNotice() []byte {
	var n jobsNotice
	for _, s := range h.jobs.Connectors {
		n.Connectors = append(n.Connectors, s.Name)
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
		p.mu.files = map[int32][]string{}
	}
	p.mu.files[node] = n.Connectors
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
			h.log.Debug("a job was not given to this node", "connector", g.Task, "error", err)
		}
	}
}

// tasks are the connectors that this node could run, each with the nodes that
// could: those of the catalog all, one of a jobs file those that have it.
func (h *Hub) tasks(s *catalog.State) []catalog.Task {
	nodes := map[string][]int32{}
	for _, c := range h.jobs.Connectors {
		nodes[c.Name] = []int32{h.id.ID}
	}
	h.placing.mu.Lock()
	for n, names := range h.placing.mu.files {
		for _, name := range names {
			if nodes[name] != nil {
				nodes[name] = append(nodes[name], n)
			}
		}
	}
	h.placing.mu.Unlock()
	var all []catalog.Task
	for name, n := range nodes {
		all = append(all, catalog.Task{Name: name, Nodes: n})
	}
	for name := range s.Connectors() {
		if nodes[name] == nil {
			all = append(all, catalog.Task{Name: name})
		}
	}
	return all
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

// mine reports whether this node is to run a connector.
func (h *Hub) mine(name string) bool {
	return !h.several() || h.meta.State().Lease(name).Node == h.id.ID
}

// followJobs has the runner run what this node has the leases of, if that, the
// connectors or what the operator wants of them has changed. The caller holds
// connectorsView.change.
func (h *Hub) followJobs(ctx context.Context) error {
	s := h.meta.State()
	now := placed{connectors: s.Connectors(), desired: s.Jobs()}
	for name, l := range s.Leases() {
		if l.Node == h.id.ID {
			now.mine = append(now.mine, name)
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
