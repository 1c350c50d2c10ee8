package hub

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/leaders"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

const (
	leadEvery = time.Second
	// handOverTime is how long one group may take to have another leader.
	handOverTime = 10 * time.Second
	// drainTime is how long a node that ends tries to have others lead.
	drainTime = 10 * time.Second
	// drainAtOnce is how many leaderships it hands over at a time.
	drainAtOnce = 16
)

// leading has the groups that this node leads led where they are to be: by their
// first replica, as far as it is well, and not by a node that is about to end.
type leading struct {
	node    int32
	set     *replica.Set
	meta    *meta
	nodes   *reach
	table   *leaders.Table
	planner *catalog.Leaders // of run alone
	log     *slog.Logger
}

// run looks until ctx ends.
func (l *leading) run(ctx context.Context) error {
	tick := time.NewTicker(leadEvery)
	defer tick.Stop()
	for {
		l.transfer(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// transfer hands over what the planner says.
func (l *leading) transfer(ctx context.Context) {
	s := l.meta.State()
	if len(s.Nodes()) < 2 {
		return
	}
	transfers, _ := l.planner.Step(time.Now(), l.groups(s), l.views(s))
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	limit := make(chan struct{}, drainAtOnce)
	var wg sync.WaitGroup
	for _, t := range transfers {
		r, ok := l.find(t.TopicPartition)
		if !ok {
			continue
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			if err := r.TransferTo(ctx, t.To); err != nil {
				l.log.Debug("a partition stays where it is led", "topic", t.Topic, "partition", t.Partition, "error", err)
			}
		})
	}
	wg.Wait()
}

func (l *leading) find(tp record.TopicPartition) (*replica.Replica, bool) {
	if tp.Topic == catalog.MetaGroup {
		return l.meta.group, true
	}
	return l.set.Get(tp)
}

// groups are those that this node leads. The catalog's is at home wherever it
// is led.
func (l *leading) groups(s *catalog.State) (all []catalog.LedGroup) {
	for _, r := range l.set.All() {
		if r.Serving() != nil {
			continue
		}
		id := r.ID()
		g := catalog.LedGroup{TopicPartition: record.TopicPartition{Topic: id.Topic, Partition: id.Partition}, Leader: l.node}
		if isMeta(id) {
			g.Replicas = []int32{l.node}
			for _, m := range r.Members().Voters {
				if n := replica.NodeOf(m); n != l.node {
					g.Replicas = append(g.Replicas, n)
				}
			}
		} else {
			t, ok := s.TopicByID(id.ID)
			if !ok || int(id.Partition) >= len(t.Partitions) {
				continue
			}
			p := t.Partitions[id.Partition]
			g.Replicas, g.Moving = p.Replicas, p.Move != nil
		}
		all = append(all, g)
	}
	return all
}

func (l *leading) views(s *catalog.State) (all []catalog.NodeView) {
	for _, n := range s.Nodes() {
		up, when := l.nodes.since(n.ID)
		all = append(all, catalog.NodeView{Node: n.ID, Well: up && !n.Leaving, Since: when, Draining: n.Draining})
	}
	return all
}

// drain hands over what this node leads, until nothing is left that others can
// lead or ctx ends. It returns how many partitions it leads still that have
// other replicas.
func (l *leading) drain(ctx context.Context) (left int) {
	limit := make(chan struct{}, drainAtOnce)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := l.table.Counts()
	for _, r := range l.set.All() {
		if r.Serving() != nil || len(r.Members().Voters) < 2 {
			continue
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			err := l.handOver(ctx, r, func(all []int32) int32 {
				mu.Lock()
				defer mu.Unlock()
				to := all[0]
				for _, n := range all[1:] {
					if count[n] < count[to] {
						to = n
					}
				}
				count[to]++
				return to
			})
			if err != nil {
				l.log.Debug("a partition stays where it is led", "topic", r.ID().Topic, "partition", r.ID().Partition, "error", err)
				mu.Lock()
				defer mu.Unlock()
				left++
			}
		})
	}
	wg.Wait()
	return left
}

// handOver lets one of the nodes lead that can, as choose says.
func (l *leading) handOver(ctx context.Context, r *replica.Replica, choose func([]int32) int32) error {
	members, err := r.Progress(ctx)
	if err != nil {
		return err
	}
	s := l.meta.State()
	var able []int32
	for _, m := range members {
		n, there := s.Node(m.Node())
		if m.Node() != l.node && !m.Learner && m.Caught && m.Active && there && !n.Draining && l.nodes.up(n.ID) {
			able = append(able, n.ID)
		}
	}
	if len(able) == 0 {
		return errNobodyElse
	}
	return r.TransferTo(ctx, choose(able))
}

var errNobodyElse = errors.New("no other node can lead it now")

// drain lets other nodes lead before this one ends, for a while: clients go on
// at once instead of waiting for an election.
func (h *Hub) drain() {
	if !h.begun.Load() || !h.several() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	begin := time.Now()
	for {
		left := h.leading.drain(ctx)
		if left == 0 {
			h.log.Info("other nodes lead what this one led", "took", time.Since(begin).Round(time.Millisecond))
			return
		}
		if !h.nodes.anyUp() {
			h.log.Warn("no other node is there to lead what this one leads", "partitions", left)
			return
		}
		again := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			again.Stop()
			h.log.Warn("some partitions are led here to the end", "partitions", left, "error", record.ErrTimeout)
			return
		case <-again.C:
		}
	}
}
