// Package leading is which groups a node leads: it tells the other nodes, hands
// over those that are to be led elsewhere, and all of them before the node ends.
//
// Goroutines: the Announcer's Run starts one that looks at who has caught up, and
// waits for it. Transfers that are made at the same time have one each, and who
// starts them waits for them.
package leading

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/leaders"
	"github.com/entrepot-hub/entrepot/hub/reach"
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

// Config is what a node's leadership is made of.
type Config struct {
	Node  int32 // this one
	Set   *replica.Set
	State func() *catalog.State
	Reach *reach.Nodes
	Table *leaders.Table
	Log   *slog.Logger

	// Of the Announcer: Tell hands a node what is told of leaders, and Greet
	// what a node that is connected with anew is told before. False: it was
	// not sent.
	Tell  func(node int32, text []byte) bool
	Greet func(node int32) bool

	// Of the Transfers: Ending tells a node that this one ends.
	Ending func(node int32)
}

// Transfers has the groups that this node leads led where they are to be: by
// their first replica, as far as it is well, and not by a node that is about to
// end.
type Transfers struct {
	cfg     Config
	planner *catalog.Leaders // of Run alone
}

// NewTransfers makes those of a node.
func NewTransfers(cfg Config) *Transfers {
	return &Transfers{cfg: cfg, planner: catalog.NewLeaders(catalog.DefaultLeaderLimits())}
}

// Run looks until ctx ends.
func (l *Transfers) Run(ctx context.Context) error {
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
func (l *Transfers) transfer(ctx context.Context) {
	s := l.cfg.State()
	if len(s.Nodes()) < 2 {
		return
	}
	transfers, _ := l.planner.Step(time.Now(), l.groups(s), l.views(s))
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	limit := make(chan struct{}, drainAtOnce)
	var wg sync.WaitGroup
	for _, t := range transfers {
		r, ok := l.cfg.Set.Get(t.TopicPartition)
		if !ok {
			continue
		}
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			if err := r.TransferTo(ctx, t.To); err != nil {
				l.cfg.Log.Debug("a partition stays where it is led", "topic", t.Topic, "partition", t.Partition, "error", err)
			}
		})
	}
	wg.Wait()
}

// groups are those that this node leads. The catalog's is at home wherever it
// is led.
func (l *Transfers) groups(s *catalog.State) (all []catalog.LedGroup) {
	for _, r := range l.cfg.Set.All() {
		if r.Serving() != nil {
			continue
		}
		id := r.ID()
		g := catalog.LedGroup{TopicPartition: record.TopicPartition{Topic: id.Topic, Partition: id.Partition}, Leader: l.cfg.Node}
		if id.Topic == catalog.MetaGroup {
			g.Replicas = []int32{l.cfg.Node}
			for _, m := range r.Members().Voters {
				if n := replica.NodeOf(m); n != l.cfg.Node {
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

func (l *Transfers) views(s *catalog.State) (all []catalog.NodeView) {
	for _, n := range s.Nodes() {
		_, when := l.cfg.Reach.Since(n.ID)
		all = append(all, catalog.NodeView{Node: n.ID, Well: l.cfg.Reach.Stays(n.ID) && !n.Leaving, Since: when, Draining: n.Draining})
	}
	return all
}

// drain hands over once what this node leads, until nothing is left that others can
// lead or ctx ends. It returns how many partitions it leads still that have
// other replicas.
func (l *Transfers) drain(ctx context.Context) (left int) {
	limit := make(chan struct{}, drainAtOnce)
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := l.cfg.Table.Counts()
	for _, r := range l.cfg.Set.All() {
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
				l.cfg.Log.Debug("a partition stays where it is led", "topic", r.ID().Topic, "partition", r.ID().Partition, "error", err)
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
func (l *Transfers) handOver(ctx context.Context, r *replica.Replica, choose func([]int32) int32) error {
	members, err := r.Progress(ctx)
	if err != nil {
		return err
	}
	s := l.cfg.State()
	var able []int32
	for _, m := range members {
		n, there := s.Node(m.Node())
		if m.Node() != l.cfg.Node && !m.Learner && m.Caught && m.Active && there && !n.Draining && l.cfg.Reach.Stays(n.ID) {
			able = append(able, n.ID)
		}
	}
	if len(able) == 0 {
		return errNobodyElse
	}
	return r.TransferTo(ctx, choose(able))
}

var errNobodyElse = errors.New("no other node can lead it now")

// Drain lets other nodes lead before this one ends, for a while: clients go on
// at once instead of waiting for an election. The others are told before, lest
// they give it back what it is to lead while it ends its jobs.
func (l *Transfers) Drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	begin := time.Now()
	for _, n := range l.cfg.Reach.Others() {
		l.cfg.Ending(n)
	}
	for {
		left := l.drain(ctx)
		if left == 0 {
			l.cfg.Log.Info("other nodes lead what this one led", "took", time.Since(begin).Round(time.Millisecond))
			return
		}
		if len(l.cfg.Reach.Others()) == 0 {
			l.cfg.Log.Warn("no other node is there to lead what this one leads", "partitions", left)
			return
		}
		again := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			again.Stop()
			l.cfg.Log.Warn("some partitions are led here to the end", "partitions", left, "error", record.ErrTimeout)
			return
		case <-again.C:
		}
	}
}
