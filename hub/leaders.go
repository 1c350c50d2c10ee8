package hub

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/leaders"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

// lookEvery is the time between two looks at what this node leads.
const lookEvery = 50 * time.Millisecond

// inSyncEvery is the time between two looks at which members have caught up.
const inSyncEvery = time.Second

// announcer tells the other nodes what this one leads: everything to a node
// that it is connected with anew, then what changes.
type announcer struct {
	node  int32
	set   *replica.Set
	table *leaders.Table
	send  func(node int32, class peer.Class, parts net.Buffers) bool
	up    func(node int32) bool
	hello []byte // a notice that is sent to a node that is connected with anew

	// inSync are the brokers that have caught up, of the groups with other
	// members that this node leads.
	inSync atomic.Pointer[map[*replica.Replica][]int32]

	mu struct {
		sync.Mutex
		behind map[int32]bool // nodes that have to be told everything
		linked map[int32]bool
	}
}

func newAnnouncer(h *Hub) *announcer {
	a := &announcer{node: h.id.ID, set: h.set, table: h.leaders, send: h.peers.Send, up: h.nodes.up, hello: h.jobsNotice()}
	a.inSync.Store(&map[*replica.Replica][]int32{})
	a.mu.behind, a.mu.linked = map[int32]bool{}, map[int32]bool{}
	return a
}

// link takes that a node can be told things, or cannot any more.
func (a *announcer) link(node int32, up bool) {
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
func (a *announcer) due() (whole, changes []int32) {
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
func (a *announcer) told(node int32, sent bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !sent && a.mu.linked[node] {
		a.mu.behind[node] = true
	}
}

// run tells until ctx ends. What has caught up is looked at beside it: a group
// answers that between two writes, and who leads must not wait for it.
func (a *announcer) run(ctx context.Context) error {
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
		if v, in := a.set.Led(), a.inSync.Load(); v != version || in != inSync {
			now := a.led()
			changes = leaders.Changes(led, now)
			led, version, inSync = now, v, in
		}
		whole, rest := a.due()
		if len(changes) > 0 {
			a.table.Update(a.node, changes, false)
			text := append([]byte{noticeLeaders}, leaders.Encode(changes, false)...)
			for _, n := range rest {
				a.told(n, a.send(n, peer.Control, net.Buffers{text}))
			}
		}
		if len(whole) > 0 {
			text := append([]byte{noticeLeaders}, leaders.Encode(leaders.Changes(nil, led), true)...)
			for _, n := range whole {
				a.told(n, a.send(n, peer.Control, net.Buffers{a.hello}) && a.send(n, peer.Control, net.Buffers{text}))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (a *announcer) keepInSync(ctx context.Context) {
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
func (a *announcer) lookInSync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, inSyncEvery)
	defer cancel()
	was, now := *a.inSync.Load(), map[*replica.Replica][]int32{}
	for _, r := range a.set.All() {
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
				if n := replica.NodeOf(m); a.up(n) {
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
			if m.Caught && m.Active && !m.Learner && a.up(m.Node()) {
				now[r] = append(now[r], m.Node())
			}
		}
	}
	if !maps.EqualFunc(was, now, slices.Equal) {
		a.inSync.Store(&now)
	}
}

// led are the groups that this node leads and answers for.
func (a *announcer) led() map[leaders.Partition]leaders.Claim {
	all, inSync := map[leaders.Partition]leaders.Claim{}, *a.inSync.Load()
	for _, r := range a.set.All() {
		// One look: of a second one the term might be of another leader.
		id, st := r.ID(), r.Status()
		if !st.Serving || st.Err != nil {
			continue
		}
		all[leaders.Partition{ID: id.ID, Partition: id.Partition}] = leaders.Claim{
			Topic: id.Topic, ID: id.ID, Partition: id.Partition, Node: a.node, Term: st.Term, Epoch: st.Offsets.LeaderEpoch, InSync: inSync[r],
		}
	}
	return all
}

// metaLeader is who leads the catalog, as others say; 0: nobody.
func (h *Hub) metaLeader() int32 {
	c, ok := h.leaders.Leader(record.TopicID{}, 0)
	if !ok || c.Topic != catalog.MetaGroup {
		return 0
	}
	return c.Node
}
