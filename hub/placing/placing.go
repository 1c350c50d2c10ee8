// Package placing shares the connectors of a site out over its nodes: each node
// decides as all do (catalog.Placement), proposes the leases that it is to have
// itself, and runs what it has the lease of.
//
// Goroutines: none.
package placing

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/record"
)

// Catalog is the site's.
type Catalog interface {
	State() *catalog.State
	Propose(ctx context.Context, cmd catalog.Command) (any, error)
}

// Config is what the placing of a node looks at.
type Config struct {
	Node    int32
	Files   map[string]int // connectors in its jobs files, with their tasks
	Catalog Catalog
	// Parts is how many tasks a connector of the catalog has, by its
	// configuration; Most is the largest number of any.
	Parts   func(config map[string]string) int
	Most    int
	Reach   *reach.Nodes
	Left    func(name string) bool // whether gossip says that a node leaves, or has left
	Several func() bool            // whether the site has other nodes; if not, all runs here
	Log     *slog.Logger
}

// Placing is a node's. Its methods but Claim may be called from any goroutine.
type Placing struct {
	cfg       Config
	placement catalog.Placement // of Claim alone
	mu        struct {
		sync.Mutex
		files map[int32]map[string]int // connectors in the jobs files of other nodes, with their tasks
	}
}

// New is the placing of a node that has heard of no other yet.
func New(cfg Config) *Placing {
	p := &Placing{cfg: cfg}
	p.mu.files = map[int32]map[string]int{}
	return p
}

// notice is what a node tells the others of its jobs files.
type notice struct {
	Connectors []string       `json:"connectors"`
	Tasks      map[string]int `json:"tasks,omitempty"` // of those that have several
}

// maxNotice bounds what another node may say of its jobs files, in bytes.
const maxNotice = 1 << 20

// Notice is what this node tells every other.
func (p *Placing) Notice() []byte {
	n := notice{Connectors: slices.Sorted(maps.Keys(p.cfg.Files)), Tasks: maps.Clone(p.cfg.Files)}
	maps.DeleteFunc(n.Tasks, func(_ string, parts int) bool { return parts <= 1 })
	b, err := json.Marshal(n)
	if err != nil {
		panic("placing: names of connectors cannot be written: " + err.Error())
	}
	return b
}

// Heard takes what another node has in its jobs files.
func (p *Placing) Heard(node int32, body []byte) error {
	var n notice
	if err := json.Unmarshal(body[:min(len(body), maxNotice)], &n); err != nil {
		return err
	}
	has := map[string]int{}
	for _, name := range n.Connectors {
		has[name] = min(max(n.Tasks[name], 1), p.cfg.Most)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.files[node] = has
	return nil
}

// Claim proposes the leases that this node is to have.
func (p *Placing) Claim(ctx context.Context) {
	s := p.cfg.Catalog.State()
	grants, _ := p.placement.Step(time.Now(), p.tasks(s), p.workers(s), s.Leases())
	for _, g := range grants {
		if g.Node != p.cfg.Node {
			continue
		}
		if _, err := p.cfg.Catalog.Propose(ctx, g); err != nil {
			p.cfg.Log.Debug("a job was not given to this node", "task", g.Task, "error", err)
		}
	}
}

// workers are the nodes as they can run jobs. One that is about to end, or to
// leave the site, gets none.
func (p *Placing) workers(s *catalog.State) []catalog.Member {
	var all []catalog.Member
	for _, n := range s.Nodes() {
		up, when := p.cfg.Reach.Since(n.ID)
		m := catalog.Member{Node: n.ID, Health: catalog.Alive, Since: when}
		switch {
		case n.Draining || n.Leaving || n.ID != p.cfg.Node && p.cfg.Left(n.Name):
			m.Health = catalog.Left
		case !up:
			m.Health = catalog.Failed
		}
		all = append(all, m)
	}
	return all
}

// Lease grants this node the leases of tasks of a connector. The newest epoch
// holds for all of them: none was granted anew since, so each later owner of one
// has a higher one. Another grant may come in between: a replay of the job's dead
// letters claims them, too.
func (p *Placing) Lease(ctx context.Context, job string, tasks Share, floor int64) (epoch int64, err error) {
	names := []string{job}
	if tasks.Of > 1 {
		names = names[:0]
		for _, part := range tasks.Mine {
			names = append(names, catalog.TaskName(job, part, tasks.Of))
		}
	}
	for {
		granted := map[string]catalog.Lease{}
		newest := int64(0)
		for _, name := range names {
			l, err := p.lease(ctx, name, floor)
			if err != nil {
				return 0, err
			}
			granted[name], newest = l, max(newest, l.Epoch)
		}
		s, still := p.cfg.Catalog.State(), true
		for name, l := range granted {
			still = still && s.Lease(name) == l
		}
		if still {
			return newest, nil
		}
	}
}

func (p *Placing) lease(ctx context.Context, task string, floor int64) (catalog.Lease, error) {
	for {
		now := p.cfg.Catalog.State().Lease(task)
		if p.cfg.Several() && now.Node != p.cfg.Node {
			return now, fmt.Errorf("connector %s: %w: node %d is to run it", task, record.ErrInvalidRequest, now.Node)
		}
		out, err := p.cfg.Catalog.Propose(ctx, catalog.GrantLease{Task: task, Node: p.cfg.Node, After: now.Epoch, Floor: floor})
		if err == nil {
			return out.(catalog.Lease), nil
		}
		if ctx.Err() != nil || p.cfg.Catalog.State().Lease(task).Epoch == now.Epoch {
			return now, err
		}
	}
}
