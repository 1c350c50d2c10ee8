package hub

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
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

// moveLimits bound the copies that are made at the same time.
var moveLimits = catalog.MoveLimits{PerNode: 2, Site: 8}

// mover takes the groups that this node leads to the members that the catalog
// wants, one step after the other, and says so when they are there.
type mover struct {
	set   *replica.Set
	meta  *meta
	nodes *reach
	log   *slog.Logger

	mu struct {
		sync.Mutex
		moves map[storage.LogID]replica.Move // of this node's groups, as of the last step
	}
}

// run moves until ctx ends.
func (m *mover) run(ctx context.Context) error {
	tick := time.NewTicker(moveEvery)
	defer tick.Stop()
	var planned time.Time
	for {
		m.step(ctx)
		if now := time.Now(); now.Sub(planned) >= planEvery {
			planned = now
			m.mend(ctx)
			if m.meta.group.Serving() == nil {
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
func (m *mover) step(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, moveStep)
	defer cancel()
	var wg sync.WaitGroup
	if m.meta.group.Serving() == nil {
		wg.Go(func() { m.stepMeta(ctx) })
	}
	s := m.meta.State()
	seen := map[storage.LogID]bool{}
	for _, p := range s.PendingMoves(moveLimits, m.nodes.up) {
		id := logID(p.Topic, int(p.Partition), p.Topic.Partitions[p.Partition])
		r, ok := m.set.Get(record.TopicPartition{Topic: id.Topic, Partition: id.Partition})
		if !p.Active || !ok || r.ID() != id || r.Serving() != nil {
			continue
		}
		seen[id] = true
		wg.Go(func() { m.stepPartition(ctx, r, p, s.Members(p.Topic.Partitions[p.Partition])) })
	}
	wg.Wait()
	m.keep(seen)
}

func (m *mover) stepMeta(ctx context.Context) {
	r := m.meta.group
	voters, learners := m.meta.State().MetaMembers(r.Members().Voters, m.nodes.upLately)
	if len(voters) == 0 {
		return // nobody is registered yet
	}
	if _, err := r.Reconcile(ctx, replica.Members{Voters: voters, Learners: learners}); err != nil {
		m.log.Debug("the catalog's group could not take a step", "error", err)
	}
}

func (m *mover) stepPartition(ctx context.Context, r *replica.Replica, p catalog.PendingMove, want []uint64) {
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

func (m *mover) note(id storage.LogID, at replica.Move) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.moves == nil {
		m.mu.moves = map[storage.LogID]replica.Move{}
	}
	m.mu.moves[id] = at
}

// keep forgets the moves that this node does not make any more.
func (m *mover) keep(seen map[storage.LogID]bool) {
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
func (m *mover) mend(ctx context.Context) {
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
func (m *mover) plan(ctx context.Context) {
	s := m.meta.State()
	wishes, _ := s.PlanLeaving()
	if len(wishes) == 0 {
		wishes = s.PlanInternal(mostReplicas)
	}
	if len(wishes) == 0 {
		return
	}
	wishes = wishes[:min(len(wishes), mostWishes)]
	if _, err := m.meta.Propose(ctx, catalog.AlterPartitionReassignments{Partitions: wishes}); err != nil {
		m.log.Warn("partitions that should move could not be told to", "error", err)
	}
}
