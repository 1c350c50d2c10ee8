// Package moves takes the groups that this node leads to the nodes that the
// catalog wants them on, one step after the other, and says so when they are
// there; the node that leads the catalog wishes for what ought to move.
//
// Goroutines: none besides those in which the steps of one look are taken; Run
// waits for them.
package moves

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

const (
	moveEvery = 500 * time.Millisecond // between two steps of a move
	moveStep  = 10 * time.Second       // how long a step may take
	planEvery = 10 * time.Second       // between two looks at what ought to move
	// downAfter is how long a node may be out of reach until the catalog's
	// group has another one vote in its place.
	downAfter = time.Minute
)

// limits bound the copies that are made at the same time.
var limits = catalog.MoveLimits{PerNode: 2, Site: 8}

// Catalog is the site's.
type Catalog interface {
	State() *catalog.State
	Propose(ctx context.Context, cmd catalog.Command) (any, error)
}

// Mover moves. Run does the work; Status may be called from any goroutine.
type Mover struct {
	set   *replica.Set
	meta  Catalog
	nodes *reach.Nodes
	log   *slog.Logger

	mu struct {
		sync.Mutex
		moves map[storage.LogID]replica.Move // of this node's groups, as of the last step
	}
}

// New is the mover of a node with its replicas.
func New(set *replica.Set, meta Catalog, nodes *reach.Nodes, log *slog.Logger) *Mover {
	m := &Mover{set: set, meta: meta, nodes: nodes, log: log}
	m.mu.moves = map[storage.LogID]replica.Move{}
	return m
}

// Pending are the moves of the site, those that have their turn among them.
func (m *Mover) Pending() []catalog.PendingMove {
	return m.meta.State().PendingMoves(limits, m.nodes.Up)
}

// Status is where the moves of this node's groups are, as of their last step.
func (m *Mover) Status() map[storage.LogID]replica.Move {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.mu.moves)
}

// Run moves until ctx ends.
func (m *Mover) Run(ctx context.Context) error {
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	var planned time.Time
	for {
		m.step(ctx)
		if now := time.Now(); now.Sub(planned) >= planEvery {
			planned = now
			m.mend(ctx)
			if _, led := m.catalogGroup(); led {
				m.plan(ctx)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// step takes the next step of every move that is this node's and has its turn.
func (m *Mover) step(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, moveStep)
	defer cancel()
	var wg sync.WaitGroup
	if r, led := m.catalogGroup(); led {
		wg.Go(func() { m.stepCatalog(ctx, r) })
	}
	s := m.meta.State()
	seen := map[storage.LogID]bool{}
	for _, p := range s.PendingMoves(limits, m.nodes.Up) {
		part := p.Topic.Partitions[p.Partition]
		r, ok := m.set.Get(record.TopicPartition{Topic: p.Topic.Name, Partition: p.Partition})
		if !p.Active || !ok || r.ID().ID != p.Topic.ID || r.ID().Generation != part.Generation || r.Serving() != nil {
			continue
		}
		seen[r.ID()] = true
		wg.Go(func() { m.stepPartition(ctx, r, p, s.Members(part)) })
	}
	wg.Wait()
	m.keep(seen)
}

// catalogGroup is the catalog's, if this node leads it.
func (m *Mover) catalogGroup() (r *replica.Replica, led bool) {
	r, ok := m.set.Get(record.TopicPartition{Topic: catalog.MetaGroup})
	return r, ok && r.Serving() == nil
}

func (m *Mover) stepCatalog(ctx context.Context, r *replica.Replica) {
	voters, learners := m.meta.State().MetaMembers(r.Members().Voters, func(n int32) bool { return m.nodes.UpWithin(n, downAfter) })
	if len(voters) == 0 {
		return // nobody is registered yet
	}
	if _, err := r.Reconcile(ctx, replica.Members{Voters: voters, Learners: learners}); err != nil {
		m.log.Debug("the catalog's group could not take a step", "error", err)
	}
}

func (m *Mover) stepPartition(ctx context.Context, r *replica.Replica, p catalog.PendingMove, want []uint64) {
	at, err := r.Reconcile(ctx, replica.Members{Voters: want})
	if err != nil {
		m.log.Debug("a partition could not take a step of its move", "topic", p.Topic.Name, "partition", p.Partition, "error", err)
		return
	}
	m.note(r.ID(), at)
	if !at.Done {
		return
	}
	_, err = m.meta.Propose(ctx, catalog.CompleteMove{Topic: p.Topic.Name, Partition: p.Partition, Seq: p.Seq, Members: want})
	if err != nil && !errors.Is(err, catalog.ErrMoveSuperseded) {
		m.log.Warn("a move is done and could not be told", "topic", p.Topic.Name, "partition", p.Partition, "error", err)
	}
}

func (m *Mover) note(id storage.LogID, at replica.Move) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.moves[id] = at
}

// keep forgets the moves that this node does not make any more.
func (m *Mover) keep(seen map[storage.LogID]bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.mu.moves {
		if !seen[id] {
			delete(m.mu.moves, id)
		}
	}
}

// mend takes back the groups that are not where they shall be though no move of
// theirs is left: a leader that had not heard of the newest wish yet may have
// followed an older one.
func (m *Mover) mend(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, moveStep)
	defer cancel()
	s := m.meta.State()
	for _, r := range m.set.All() {
		id := r.ID()
		t, ok := s.Topic(id.Topic)
		if !ok || t.ID != id.ID || int(id.Partition) >= len(t.Partitions) || r.Serving() != nil {
			continue
		}
		p, have := t.Partitions[id.Partition], r.Members()
		want := s.Members(p)
		if p.Move != nil || p.Generation != id.Generation || len(have.Outgoing)+len(have.Learners) == 0 && sameMembers(have.Voters, want) {
			continue
		}
		m.log.Info("a partition is not where it shall be, and is taken there", "topic", id.Topic, "partition", id.Partition)
		if _, err := r.Reconcile(ctx, replica.Members{Voters: want}); err != nil {
			m.log.Debug("a partition could not be taken where it shall be", "topic", id.Topic, "partition", id.Partition, "error", err)
		}
	}
}

func sameMembers(a, b []uint64) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// mostWishes bounds what is wished for at a time; the rest follows.
const mostWishes = 1000

// plan wishes for what the site needs: what is on nodes that leave goes to
// others, and the hub's own topics get more replicas once there are nodes.
func (m *Mover) plan(ctx context.Context) {
	s := m.meta.State()
	wishes, _ := s.PlanLeaving()
	if len(wishes) == 0 {
		wishes = s.PlanInternal(catalog.MostReplicas)
	}
	if len(wishes) == 0 {
		return
	}
	wishes = wishes[:min(len(wishes), mostWishes)]
	if _, err := m.meta.Propose(ctx, catalog.AlterPartitionReassignments{Partitions: wishes}); err != nil {
		m.log.Warn("partitions that should move could not be told to", "error", err)
	}
}
