package leading

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/leaders"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

// lookEvery is the time between two looks at what this node leads.
const lookEvery = 50 * time.Millisecond

// inSyncEvery is the time between two looks at which members have caught up.
const inSyncEvery = time.Second

// Announcer tells the other nodes what this one leads: everything to a node
// that it is connected with anew, then what changes.
type Announcer struct {
	cfg Config

	// inSync are the brokers that have caught up, of the groups with other
	// members that this node leads.
	inSync atomic.Pointer[map[*replica.Replica][]int32]

	mu struct {
		sync.Mutex
		behind map[int32]bool // nodes that have to be told everything, of those linked
		linked map[int32]bool
	}
}

// NewAnnouncer makes the announcer of a node.
func NewAnnouncer(cfg Config) *Announcer {
	a := &Announcer{cfg: cfg}
	a.inSync.Store(&map[*replica.Replica][]int32{})
	a.mu.behind, a.mu.linked = map[int32]bool{}, map[int32]bool{}
	return a
}

// Link takes that a node can be told things, or cannot any more.
func (a *Announcer) Link(node int32, up bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if up {
		a.mu.linked[node], a.mu.behind[node] = true, true
	} else {
		delete(a.mu.linked, node)
		delete(a.mu.behind, node)
	}
}

// due are the nodes that want everything, and the others. The former count as
// told from now on: one that is connected with anew meanwhile wants it again.
func (a *Announcer) due() (whole, changes []int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for n := range a.mu.linked {
		if a.mu.behind[n] {
			whole = append(whole, n)
			delete(a.mu.behind, n)
		} else {
			changes = append(changes, n)
		}
	}
	return whole, changes
}

// told takes whether a message was taken for a node; else it wants everything.
func (a *Announcer) told(node int32, sent bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !sent && a.mu.linked[node] {
		a.mu.behind[node] = true
	}
}

// Run tells until ctx ends. What has caught up is looked at beside it: a group
// answers that between two writes, and who leads must not wait for it.
func (a *Announcer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { a.keepInSync(ctx) })
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var led map[leaders.Partition]leaders.Claim
	var version uint64
	var inSync *map[*replica.Replica][]int32
	for {
		var changes []leaders.Claim
		if v, in := a.cfg.Set.Led(), a.inSync.Load(); v != version || in != inSync {
			now := a.led()
			changes = leaders.Changes(led, now)
			led, version, inSync = now, v, in
		}
		whole, rest := a.due()
		if len(changes) > 0 {
			a.cfg.Table.Update(a.cfg.Node, changes, false)
			text := leaders.Encode(changes, false)
			for _, n := range rest {
				a.told(n, a.cfg.Tell(n, text))
			}
		}
		if len(whole) > 0 {
			text := leaders.Encode(leaders.Changes(nil, led), true)
			for _, n := range whole {
				a.told(n, a.cfg.Greet(n) && a.cfg.Tell(n, text))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *Announcer) keepInSync(ctx context.Context) {
	tick := time.NewTicker(inSyncEvery)
	defer tick.Stop()
	for {
		a.lookInSync(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lookInSync asks the groups that are led here how far their members are.
func (a *Announcer) lookInSync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, inSyncEvery)
	defer cancel()
	was, now := *a.inSync.Load(), map[*replica.Replica][]int32{}
	for _, r := range a.cfg.Set.All() {
		voters := r.Members().Voters
		if len(voters) < 2 {
			continue
		}
		st := r.Status()
		if !st.Serving {
			continue
		}
		if st.Quiet { // they are all in line, and are left alone
			for _, m := range voters {
				if n := replica.NodeOf(m); a.cfg.Reach.Up(n) {
					now[r] = append(now[r], n)
				}
			}
			continue
		}
		members, err := r.Progress(ctx)
		if err != nil || members == nil {
			now[r] = was[r]
			continue
		}
		for _, m := range members {
			if m.Caught && m.Active && !m.Learner && a.cfg.Reach.Up(m.Node()) {
				now[r] = append(now[r], m.Node())
			}
		}
	}
	if !maps.EqualFunc(was, now, slices.Equal) {
		a.inSync.Store(&now)
	}
}

// led are the groups that this node leads and answers for.
func (a *Announcer) led() map[leaders.Partition]leaders.Claim {
	all, inSync := map[leaders.Partition]leaders.Claim{}, *a.inSync.Load()
	for _, r := range a.cfg.Set.All() {
		// One look: of a second one the term might be of another leader.
		id, st := r.ID(), r.Status()
		if !st.Serving || st.Err != nil {
			continue
		}
		all[leaders.Partition{ID: id.ID, Partition: id.Partition}] = leaders.Claim{
			Topic: id.Topic, ID: id.ID, Partition: id.Partition, Node: a.cfg.Node, Term: st.Term, Epoch: st.Offsets.LeaderEpoch, InSync: inSync[r],
		}
	}
	return all
}

// Heard takes what another node tells of what it leads.
func (a *Announcer) Heard(from int32, text []byte) error {
	claims, whole, err := leaders.Decode(text)
	if err == nil {
		a.cfg.Table.Update(from, claims, whole)
	}
	return err
}

// OfCatalog is who leads the catalog, as others say; 0: nobody.
func OfCatalog(table *leaders.Table) int32 {
	c, ok := table.Leader(record.TopicID{}, 0)
	if !ok || c.Topic != catalog.MetaGroup {
		return 0
	}
	return c.Node
}

// Who is the node that leads a partition and its leader epoch, -1 if nobody is
// known: this node's own replica knows best, and of a partition that is elsewhere
// its leader has told. The topic and the replica are nil where there is none.
func Who(self int32, t *catalog.Topic, partition int32, r *replica.Replica, table *leaders.Table) (node, epoch int32) {
	node, epoch = -1, -1
	term := uint64(0)
	if r != nil {
		st := r.Status()
		term, epoch = st.Term, st.Offsets.LeaderEpoch
		if st.Leader != 0 && (st.Leader != self || st.Serving) {
			node = st.Leader
		}
	}
	if t == nil {
		return node, epoch
	}
	c, known := table.Leader(t.ID, partition)
	if known && c.Node != self && (c.Term > term || c.Term == term && node < 0) {
		return c.Node, c.Epoch
	}
	return node, epoch
}
