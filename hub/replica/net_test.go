package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
	pb "go.etcd.io/raft/v3/raftpb"
)

// site is several nodes in one process and the network between them.
type site struct {
	t     testing.TB
	cfg   Config
	store storage.Config
	disks map[uint64]vfs.FS
	nodes map[uint64]*node
	net   *memNet
	links *linksConfig // nil: the nodes fetch nothing from each other
}

// memNet carries frames from set to set, in one piece and copied, as a wire
// does.
type memNet struct {
	mu struct {
		sync.Mutex
		sets map[uint64]*Set
		cut  map[uint64]bool // these hear nobody and nobody hears them
		lose func(from, to uint64, class Class, frame []byte) bool
		errs []error
	}
}

// port is a node's end of the network.
type port struct {
	net  *memNet
	from uint64
}

func (p port) Send(to uint64, class Class, parts net.Buffers) bool {
	p.net.mu.Lock()
	set := p.net.mu.sets[to]
	cut := p.net.mu.cut[p.from] || p.net.mu.cut[to]
	lose := p.net.mu.lose
	p.net.mu.Unlock()
	if set == nil || cut {
		return false
	}
	frame := bytes.Join(parts, nil)
	if lose != nil && lose(p.from, to, class, frame) {
		return true
	}
	if err := set.Receive(p.from, class, frame); err != nil {
		p.net.mu.Lock()
		p.net.mu.errs = append(p.net.mu.errs, err)
		p.net.mu.Unlock()
	}
	return true
}

func (n *memNet) set(f func(n *memNet)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n)
}

func (n *memNet) cut(id uint64, on bool) {
	n.set(func(n *memNet) { n.mu.cut[id] = on })
}

// newSite starts nodes with these members' IDs. It is for a synctest bubble.
func newSite(t testing.TB, cfg Config, ids ...uint64) *site {
	s := &site{t: t, cfg: cfg, store: small, disks: map[uint64]vfs.FS{}, nodes: map[uint64]*node{}, net: &memNet{}}
	s.net.mu.sets, s.net.mu.cut = map[uint64]*Set{}, map[uint64]bool{}
	for _, id := range ids {
		if s.disks[id] == nil {
			s.disks[id] = vfs.NewMem()
		}
		s.start(id)
	}
	return s
}

func (s *site) start(id uint64) *node {
	cfg := s.cfg
	cfg.Member, cfg.Transport = id, port{s.net, id}
	if s.links != nil {
		cfg.Source = links{s.net, id, s.links}
	}
	n := startNode(s.t, s.disks[id], "data", s.store, cfg)
	s.nodes[id] = n
	s.net.set(func(net *memNet) { net.mu.sets[id] = n.set })
	return n
}

// stop ends a node as a stop does; its disk stays.
func (s *site) stop(id uint64) {
	s.net.set(func(net *memNet) { delete(net.mu.sets, id) })
	s.nodes[id].stop()
	delete(s.nodes, id)
}

func (s *site) ids() (ids []uint64) {
	for id := range s.nodes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// add adds a replica of the same group to every node.
func (s *site) add(spec Spec) {
	for _, id := range s.ids() {
		s.addTo(id, spec)
	}
}

func (s *site) addTo(id uint64, spec Spec) *Replica {
	s.t.Helper()
	r, err := s.nodes[id].set.Add(spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *site) replica(id uint64, p int32) *Replica {
	s.t.Helper()
	r, ok := s.nodes[id].set.Get(record.TopicPartition{Topic: "clicks", Partition: p})
	if !ok {
		s.t.Fatalf("no replica of partition %d on %d", p, id)
	}
	return r
}

// leader waits until a node that is not cut off serves.
func (s *site) leader(p int32) *Replica {
	s.t.Helper()
	var lead *Replica
	eventually(s.t, func() bool {
		for _, id := range s.ids() {
			if r := s.replica(id, p); r.Serving() == nil && !s.isCut(id) {
				lead = r
				return true
			}
		}
		return false
	})
	return lead
}

func (s *site) isCut(id uint64) bool {
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	return s.net.mu.cut[id]
}

// eventually waits by the bubble's clock.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	tick, deadline := time.NewTicker(10*time.Millisecond), time.After(2*time.Minute)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not come")
		}
	}
}

// write appends one batch for each value and waits for each.
func (s *site) write(p int32, values ...string) {
	s.t.Helper()
	for _, v := range values {
		eventually(s.t, func() bool {
			_, err := appendWait(s.t, s.leader(p), batch(s.t, v))
			if err != nil && !errors.Is(err, record.ErrNotLeader) && !errors.Is(err, record.ErrLeaderUnknown) {
				s.t.Fatal(err)
			}
			return err == nil
		})
	}
}

// fill writes value-00, value-01 and so on, each as a batch.
func (s *site) fill(n int) {
	s.t.Helper()
	for i := range n {
		s.write(0, fmt.Sprintf("value-%02d", i))
	}
}

// same waits until all replicas have committed the same, and compares their
// logs' bytes and entries.
func (s *site) same(p int32) {
	s.t.Helper()
	eventually(s.t, func() bool {
		var want Status
		for i, id := range s.ids() {
			st := s.replica(id, p).Status()
			if i == 0 {
				want = st
			}
			if st.Last != want.Last || st.Applied != st.Last || st.Offsets.HighWatermark != want.Offsets.HighWatermark {
				return false
			}
		}
		return true
	})
	var want []storage.Entry
	for i, id := range s.ids() {
		log := s.replica(id, p).log
		last, _ := log.Last()
		got, err := log.Entries(log.Whole(), last+1, 1<<30)
		if err != nil {
			s.t.Fatal(err)
		}
		if i == 0 {
			want = got
		}
		from := max(want[0].Index, got[0].Index)
		w, g := want[from-want[0].Index:], got[from-got[0].Index:]
		if !slices.EqualFunc(w, g, func(a, b storage.Entry) bool {
			return a.Index == b.Index && a.Term == b.Term && a.BaseOffset == b.BaseOffset && bytes.Equal(a.Payload, b.Payload)
		}) {
			s.t.Fatalf("node %d has %d entries from %d on that differ from those of node %d", id, len(g), from, s.ids()[0])
		}
	}
	s.net.mu.Lock()
	defer s.net.mu.Unlock()
	if err := errors.Join(s.net.mu.errs...); err != nil {
		s.t.Error(err)
	}
}

func (s *site) stopAll() {
	for _, id := range s.ids() {
		s.stop(id)
	}
}

// Three nodes elect, acknowledge, lose one, go on, and bring it into line when
// it is back: as long as it was only cut off, and after a restart.
func TestThreeNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		spec := Spec{ID: clicks(0), Born: []uint64{1, 2, 3}}
		s.add(spec)
		s.write(0, "a", "b")
		s.same(0)
		lead := s.leader(0)
		node, epoch := lead.Leader()
		for _, id := range s.ids() {
			r := s.replica(id, 0)
			if n, e := r.Leader(); n != node || e != epoch || r.Status().Leader != node {
				t.Errorf("node %d: leader %d of epoch %d, want %d of %d", id, n, e, node, epoch)
			}
			if err := r.Serving(); (err == nil) != (id == uint64(node)) || err != nil && !errors.Is(err, record.ErrNotLeader) {
				t.Errorf("node %d: %v", id, err)
			}
		}

		s.net.cut(uint64(node), true)
		s.write(0, "c", "d")
		if n, _ := s.leader(0).Leader(); n == node {
			t.Errorf("node %d leads though it is cut off", node)
		}
		s.net.cut(uint64(node), false)
		s.write(0, "e")
		s.same(0)

		s.stop(2)
		s.write(0, "f", "g")
		s.start(2)
		s.addTo(2, spec)
		s.same(0)
		c, err := s.leader(0).Read(0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(values(t, c)), "[0:a 1:b 2:c 3:d 4:e 5:f 6:g]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

// A leader is sure that it leads when the others have said so, also one of a group
// at rest, and without the next tick. One that was cut off serves on for a while,
// as far as it knows, and is not sure.
func TestConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a")
		lead := s.leader(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for range 3 {
			eventually(t, func() bool { return lead.Status().Quiet })
			asked := time.Now()
			if err := lead.Confirm(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(asked); took > 0 {
				t.Errorf("it took %s on a network without delay", took)
			}
		}
		for _, id := range s.ids() {
			if r := s.replica(id, 0); r != lead && !errors.Is(r.Confirm(ctx), record.ErrNotLeader) {
				t.Errorf("node %d leads, too", id)
			}
		}

		node, _ := lead.Leader()
		s.net.cut(uint64(node), true)
		said := make(chan error, 1)
		go func() { said <- lead.Confirm(ctx) }()
		synctest.Wait()
		if lead.Serving() != nil {
			t.Error("it knows at once that it was cut off")
		}
		s.write(0, "b")
		if err := <-said; !errors.Is(err, record.ErrLeaderUnknown) {
			t.Errorf("cut off: %v", err)
		}
		s.net.cut(uint64(node), false)
		s.same(0)
	})
}

// Nothing is acknowledged, and nothing is to be read, before a majority has it
// on the disk (Invariant 6).
func TestMajorityHasSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2})
		defer s.stopAll()
		hold := map[uint64]func() func(){}
		for id := range uint64(3) {
			s.disks[id+1], hold[id+1] = holdSyncs(vfs.NewMem())
			s.start(id + 1)
		}
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a")
		s.same(0)
		lead := s.leader(0)
		node, _ := lead.Leader()
		var release []func()
		defer func() {
			for _, f := range release {
				f()
			}
		}()
		for id := range uint64(3) {
			if id+1 != uint64(node) {
				release = append(release, hold[id+1]())
			}
		}
		done := make(chan error, 1)
		lead.Append([]record.Batch{batch(t, "b")}, func(_ []record.Appended, err error) { done <- err })
		select {
		case err := <-done:
			t.Fatalf("answered by one node of three: %v", err)
		case <-time.After(500 * time.Millisecond):
		}
		if hw := lead.Offsets().HighWatermark; hw != 1 {
			t.Errorf("high watermark %d before a majority has synced", hw)
		}
		for _, f := range release {
			f()
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.same(0)
	})
}

// A node whose disk is full falls behind, and catches up when there is room.
func TestFollowerDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2})
		defer s.stopAll()
		full := map[uint64]*atomic.Bool{}
		for id := range uint64(3) {
			is := &atomic.Bool{}
			full[id+1] = is
			s.disks[id+1] = vfs.WithFaults(vfs.NewMem(), func(op *vfs.Op) error {
				if is.Load() && (op.Kind == vfs.OpWrite || op.Kind == vfs.OpCreate) {
					return syscall.ENOSPC
				}
				return nil
			})
			s.start(id + 1)
		}
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a")
		s.same(0)
		node, _ := s.leader(0).Leader()
		follower := uint64(node%3 + 1)
		full[follower].Store(true)
		for i := range 50 {
			s.write(0, fmt.Sprint("b", i))
			<-time.After(50 * time.Millisecond)
		}
		if hw := s.replica(follower, 0).Offsets().HighWatermark; hw > 2 {
			t.Errorf("the full node knows %d records to be committed", hw)
		}
		full[follower].Store(false)
		s.write(0, "c")
		s.same(0)
		if hw := s.leader(0).Offsets().HighWatermark; hw != 52 {
			t.Errorf("%d records, want 52", hw)
		}
	})
}

// What comes from other nodes is bounded; what was dropped is sent again.
func TestReceiveBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 1, ReceiveBytes: 4 * messageBytes}, 1, 2, 3)
		defer s.stopAll()
		for p := range int32(4) {
			s.add(Spec{ID: clicks(p), Born: []uint64{1, 2, 3}})
		}
		var all sync.WaitGroup
		for p := range int32(4) {
			lead := s.leader(p)
			for i := range 30 {
				all.Add(1)
				lead.Append([]record.Batch{batch(t, fmt.Sprint(i))}, func(_ []record.Appended, err error) {
					defer all.Done()
					if err != nil {
						t.Error(err)
					}
				})
			}
		}
		all.Wait()
		for p := range int32(4) {
			s.same(p)
		}
		for _, n := range s.nodes { // the last message that says what is committed may be on its way
			eventually(t, func() bool { return n.set.held() == classBytes{} })
		}
	})
}

// So are messages without entries, and a flood of one class leaves room for
// another.
func TestFloodBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 100 * messageBytes
		s := newSite(t, Config{Workers: 1, ReceiveBytes: limit}, 1, 2, 3)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a")
		r, set := s.replica(1, 0), s.nodes[1].set
		flood := func(class Class, m pb.Message) {
			var w frameWriter
			w.add(keyOf(clicks(0)), &m)
			for range 1000 {
				if err := set.Receive(2, class, bytes.Join(w.frame(1), nil)); err != nil {
					t.Error(err)
				}
			}
		}
		hold, held := make(chan struct{}), make(chan struct{})
		if err := r.inbox.call(func(*core) { close(held); <-hold }); err != nil {
			t.Fatal(err)
		}
		set.ready(r)
		<-held // the only worker waits
		flood(ClassHeartbeat, pb.Message{Type: pb.MsgAppResp, Term: 1, Index: 1})
		flood(ClassAppend, pb.Message{Type: pb.MsgApp, Term: 1, Index: 1, Entries: []pb.Entry{{Index: 2, Term: 1}}})
		f := beatFrame{to: 1, run: 5, tick: 1, beats: slices.Repeat([]beat{{group: keyOf(clicks(0)), kind: beatSent, term: 1}}, 1000)}
		if err := set.Receive(2, ClassHeartbeat, f.encode()); err != nil {
			t.Error(err)
		}
		n := 0
		r.inbox.post(func(b *inbox) { n = len(b.mu.msgs) })
		got := set.held()
		if got[ClassHeartbeat] != limit || got[ClassAppend] < limit/2 || got[ClassAppend] > limit || n > 200 {
			t.Errorf("%d messages, bytes of each class %d, want no more than %d", n, got, limit)
		}
		close(hold)
		synctest.Wait()
		if got := set.held(); got != (classBytes{}) {
			t.Errorf("the worker has taken all, and %d bytes are held", got)
		}
	})
}

// held are the bytes that no step has taken yet.
func (s *Set) held() (n classBytes) {
	for class := range n {
		n[class] = s.received[class].Load()
	}
	return n
}

// What is for the member that this node was before its disk was wiped is not
// for it.
func TestOtherIncarnation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := MemberID(2, 1)
		s := newSite(t, Config{Workers: 1}, 1, now)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		ask := func(to uint64) uint64 {
			var w frameWriter
			w.add(keyOf(clicks(0)), &pb.Message{Type: pb.MsgVote, To: to, From: 1, Term: 9, LogTerm: 9, Index: 9})
			if err := s.nodes[now].set.Receive(1, ClassHeartbeat, bytes.Join(w.frame(to), nil)); err != nil {
				t.Error(err)
			}
			f := beatFrame{to: to, run: 5, tick: 1, beats: []beat{{group: keyOf(clicks(0)), kind: beatSent, term: 8}}}
			if err := s.nodes[now].set.Receive(1, ClassHeartbeat, f.encode()); err != nil {
				t.Error(err)
			}
			<-time.After(time.Second)
			return s.replica(now, 0).Status().Term
		}
		if term := ask(2); term > 1 {
			t.Errorf("term %d after messages for another incarnation", term)
		}
		// It joins, and answers no vote yet: it has the term of the heartbeat.
		if term := ask(now); term != 8 {
			t.Errorf("term %d after a heartbeat of term 8", term)
		}
	})
}
