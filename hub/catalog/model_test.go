package catalog

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
)

var (
	modelSeed  = flag.Uint64("model.seed", 0, "the one seed to run; 0: model.seeds of them")
	modelSeeds = flag.Uint64("model.seeds", 60, "how many seeds to run")
)

// TestModel sends random commands about nodes, topics and moves, while groups
// that it knows of go where the catalog wants them and report late. It holds
// that
//   - the same commands give the same bytes, with snapshots in between or not;
//   - a refused command changes nothing;
//   - a member of a group holds its partition, so nobody deletes a copy that a
//     group counts on;
//   - a partition that is not being moved is on the members that are wanted;
//   - as long as no data is lost, every partition has members with its data;
//   - no two moves have the same number, and the first members of a group never
//     change;
//   - each data directory gets one identity, and no two the same.
func TestModel(t *testing.T) {
	first, last := uint64(1), *modelSeeds
	if *modelSeed != 0 {
		first, last = *modelSeed, *modelSeed
	}
	for seed := first; seed <= last; seed++ {
		m := &model{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), groups: map[groupID]*groupModel{}, dirs: map[string]Registered{}, machine: NewMachine(), twin: NewMachine()}
		m.run()
		if t.Failed() {
			return
		}
	}
}

type groupID struct {
	topic      record.TopicID
	partition  int32
	generation int32
}

// groupModel is a Raft group: its members, and who has its data.
type groupModel struct {
	born    []uint64
	members []uint64
	data    map[uint64]bool
}

type model struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	machine *Machine
	twin    *Machine // gets the same commands and is restored now and then
	groups  map[groupID]*groupModel
	dirs    map[string]Registered // nonce -> who
	lastSeq int64
	lossy   bool // data directories are lost in this run
	reports []CompleteMove
	topics  int64
	nonces  int
	index   uint64
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d (-model.seed %d), command %d: %s\n%s", m.seed, m.seed, m.index, fmt.Sprintf(format, args...), show(m.machine.State()))
}

func (m *model) run() {
	m.lossy = m.rng.IntN(2) == 0
	m.do(SiteInit{Site: "east", SiteID: 1, Founders: []Founder{{Name: "n1", Nonce: "f1"}, {Name: "n2", Nonce: "f2"}, {Name: "n3", Nonce: "f3"}}})
	for i := range 3 {
		m.dirs[fmt.Sprint("f", i+1)] = Registered{ID: int32(i + 1)}
	}
	for range 150 + m.rng.IntN(200) {
		m.event()
		m.check()
	}
	m.settle()
}

// do applies a command to both machines.
func (m *model) do(c Command) Result {
	m.index++
	b, err := Encode(c)
	if err != nil {
		m.fail("%v", err)
	}
	before := m.machine.Snapshot()
	r := m.machine.Apply(m.index, b).(Result)
	if r.Err != nil && !bytes.Equal(before, m.machine.Snapshot()) {
		m.fail("%T was refused (%v) and changed something", c, r.Err)
	}
	m.twin.Apply(m.index, b)
	if m.rng.IntN(8) == 0 {
		fresh := NewMachine()
		if err := fresh.Restore(m.twin.Snapshot()); err != nil {
			m.fail("restore: %v", err)
		}
		m.twin = fresh
	}
	if !bytes.Equal(m.machine.Snapshot(), m.twin.Snapshot()) {
		m.fail("%T gave two different states", c)
	}
	m.follow()
	return r
}

// follow lets the groups of new partitions be born and nodes delete what they do
// not hold.
func (m *model) follow() {
	s := m.machine.State()
	there := map[groupID]bool{}
	s.eachPartition(func(t *Topic, n int32, p Partition) bool {
		id := groupID{t.ID, n, p.Generation}
		there[id] = true
		g := m.groups[id]
		if g == nil {
			g = &groupModel{born: slices.Clone(p.BornMembers()), members: slices.Clone(p.BornMembers()), data: map[uint64]bool{}}
			for _, one := range g.members {
				g.data[one] = true
			}
			m.groups[id] = g
		}
		for one := range g.data {
			if !s.Holds(p, one) || s.memberGone(one) {
				delete(g.data, one)
			}
		}
		return true
	})
	for id := range m.groups {
		if !there[id] {
			delete(m.groups, id)
		}
	}
}

func (m *model) event() {
	s := m.machine.State()
	switch m.rng.IntN(13) {
	case 0:
		m.register()
	case 1:
		m.topics++
		var id record.TopicID
		id[15], id[14] = byte(m.topics), byte(m.topics>>8)
		m.do(CreateTopic{Name: fmt.Sprint("t", m.rng.IntN(6)), ID: id, Partitions: 1 + m.rng.Int32N(3), Replicas: 1 + m.rng.Int32N(4)})
	case 2:
		if m.rng.IntN(4) == 0 {
			m.do(DeleteTopic{fmt.Sprint("t", m.rng.IntN(6))})
		} else {
			m.do(CreatePartitions{Name: fmt.Sprint("t", m.rng.IntN(6)), Count: 1 + m.rng.Int32N(6)})
		}
	case 3, 4:
		m.reassign()
	case 5:
		m.do(DecommissionNode{Node: m.node(), Cancel: m.rng.IntN(3) == 0})
	case 6:
		m.do(RemoveNode{m.node()})
	case 7:
		if m.lossy && m.rng.IntN(3) == 0 {
			m.do(ReplaceNode{m.node(), m.node()})
		} else {
			m.do(DrainNode{m.node(), m.rng.IntN(2) == 0})
		}
	case 8:
		m.plan(s)
	case 9:
		m.do([]Command{AllocateProducerIDs{5}, SetJob{"j", JobPaused}, GrantLease{Task: "j", Node: m.node()}, AlterTopicConfig{Name: "t1", Set: map[string]string{"retention.ms": "5"}}}[m.rng.IntN(4)])
	default:
		m.advance()
	}
	if len(m.reports) > 0 && m.rng.IntN(2) == 0 {
		m.report()
	}
}

// report delivers a report of a group, which may be late.
func (m *model) report() {
	i := m.rng.IntN(len(m.reports))
	m.do(m.reports[i])
	m.reports = slices.Delete(m.reports, i, i+1)
}

func (m *model) node() int32 { return 1 + m.rng.Int32N(m.machine.State().lastNode+1) }

// register lets a node join, announce itself or come back empty, and compares
// what it is told with what it was told before.
func (m *model) register() {
	s := m.machine.State()
	c := RegisterNode{Name: fmt.Sprint("n", 1+m.rng.IntN(7)), Site: "east", Kafka: fmt.Sprint("h:", m.rng.IntN(100))}
	old, known := s.NodeByName(c.Name)
	switch {
	case known && m.rng.IntN(2) == 0:
		c.Node, c.Incarnation = old.ID, old.Incarnation
		if m.rng.IntN(4) == 0 {
			c.Node++
		}
	case known && m.lossy:
		m.nonces++
		c.Nonce, c.Wiped, c.Incarnation = fmt.Sprint("d", m.nonces), m.rng.IntN(3) > 0, old.Incarnation-uint32(m.rng.IntN(8)/7)
	default:
		m.nonces++
		c.Nonce = fmt.Sprint("d", m.nonces)
	}
	r := m.do(c)
	if r.Err != nil {
		if known && c.Node == old.ID && c.Incarnation == old.Incarnation || !known && c.Node == 0 {
			m.fail("%+v was refused: %v", c, r.Err)
		}
		return
	}
	who := r.Value.(Registered)
	if c.Node != 0 && (who.ID != c.Node || who.Incarnation != c.Incarnation) {
		m.fail("%+v is told it is %+v", c, who)
	}
	if c.Nonce != "" {
		for nonce, other := range m.dirs {
			if other == who && nonce != c.Nonce {
				m.fail("directories %s and %s are both %+v", nonce, c.Nonce, who)
			}
		}
		m.dirs[c.Nonce] = who
		if again := m.do(c); again.Err != nil || again.Value != r.Value {
			m.fail("%+v, sent again, gave %+v, not %+v", c, again, r)
		}
	}
}

func (m *model) reassign() {
	var c AlterPartitionReassignments
	for range 1 + m.rng.IntN(3) {
		r := Reassignment{Topic: fmt.Sprint("t", m.rng.IntN(6)), Partition: m.rng.Int32N(4), KeepFactor: m.rng.IntN(4) == 0}
		for range m.rng.IntN(4) {
			r.Replicas = append(r.Replicas, m.node())
		}
		c.Partitions = append(c.Partitions, r)
	}
	if errs := m.do(c).Value.([]error); len(errs) != len(c.Partitions) {
		m.fail("%d answers to %d wishes", len(errs), len(c.Partitions))
	}
}

// plan carries out a plan, which must fit the state that it was made for.
func (m *model) plan(s *State) {
	plan, _ := s.PlanLeaving()
	switch m.rng.IntN(3) {
	case 0:
		plan = s.PlanLevel(nil, m.rng.IntN(5))
	case 1:
		plan, _ = s.PlanFactor(fmt.Sprint("t", m.rng.IntN(6)), 1+m.rng.IntN(4))
	}
	for i, err := range m.do(AlterPartitionReassignments{plan}).Value.([]error) {
		if err != nil {
			m.fail("plan %+v: %v", plan[i], err)
		}
	}
}

// advance lets one group take a step of its move.
func (m *model) advance() {
	s := m.machine.State()
	pending := s.PendingMoves(MoveLimits{PerNode: 2, Site: 3}, nil)
	receives := map[int32]int{}
	for _, one := range pending {
		if targets := s.copies(one.Topic.Partitions[one.Partition]); one.Active {
			for _, n := range targets {
				if receives[n]++; receives[n] > 2 {
					m.fail("node %d receives more than 2 copies", n)
				}
			}
		}
	}
	if len(pending) == 0 {
		return
	}
	one := pending[m.rng.IntN(len(pending))]
	if one.Active || m.rng.IntN(4) == 0 {
		m.step(one)
	}
}

func (m *model) step(one PendingMove) {
	s := m.machine.State()
	p := one.Topic.Partitions[one.Partition]
	g := m.groups[groupID{one.Topic.ID, one.Partition, p.Generation}]
	if !majority(g.members, func(x uint64) bool { return !g.data[x] }) {
		return
	}
	wanted := s.Members(p)
	for _, w := range wanted {
		if !s.memberGone(w) {
			g.data[w] = true
		}
	}
	if majority(wanted, func(x uint64) bool { return !g.data[x] }) {
		g.members = slices.Clone(wanted)
	}
	if m.rng.IntN(3) > 0 {
		m.reports = append(m.reports, CompleteMove{one.Topic.Name, one.Partition, one.Seq, slices.Clone(g.members)})
	}
}

func (m *model) check() {
	s := m.machine.State()
	seqs := map[int64]bool{}
	s.eachPartition(func(t *Topic, n int32, p Partition) bool {
		g := m.groups[groupID{t.ID, n, p.Generation}]
		if !slices.Equal(g.born, p.BornMembers()) {
			m.fail("%s-%d was born on %v, not %v", t.Name, n, g.born, p.BornMembers())
		}
		if err := s.checkReplicas(t.Name, p.Replicas); err != nil {
			m.fail("%v", err)
		}
		for _, one := range g.members {
			if !s.Holds(p, one) {
				m.fail("%s-%d: member %s of its group does not hold it", t.Name, n, members([]uint64{one}))
			}
		}
		if p.Move == nil {
			if !sameMembers(g.members, s.Members(p)) {
				m.fail("%s-%d is not moving and on %s", t.Name, n, members(g.members))
			}
		} else if seqs[p.Move.Seq] {
			m.fail("two moves have number %d", p.Move.Seq)
		} else {
			seqs[p.Move.Seq] = true
		}
		if !m.lossy && !majority(g.members, func(x uint64) bool { return !g.data[x] }) {
			m.fail("%s-%d has lost its data", t.Name, n)
		}
		return true
	})
	if len(seqs) != s.moving || len(seqs) != len(s.PendingMoves(MoveLimits{}, nil)) {
		m.fail("%d partitions move, %d are counted", len(seqs), s.moving)
	}
	for seq := range seqs {
		m.lastSeq = max(m.lastSeq, seq)
	}
	if m.lastSeq > s.lastMove {
		m.fail("move %d is above the last, %d", m.lastSeq, s.lastMove)
	}
}

// settle lets everything come to its end: what can be moved is where it shall
// be, and nodes that leave can be removed.
func (m *model) settle() {
	for range 20 {
		s := m.machine.State()
		plan, _ := s.PlanLeaving()
		m.do(AlterPartitionReassignments{plan})
		s = m.machine.State()
		for _, one := range s.PendingMoves(MoveLimits{}, nil) {
			m.step(one)
			g := m.groups[groupID{one.Topic.ID, one.Partition, one.Topic.Partitions[one.Partition].Generation}]
			r := m.do(CompleteMove{one.Topic.Name, one.Partition, one.Seq, g.members})
			if one.Active && r.Err != nil && !m.lossy {
				m.fail("%v", r.Err)
			}
			if r.Err != nil && !errors.Is(r.Err, ErrMoveSuperseded) {
				m.fail("%v", r.Err)
			}
		}
		m.check()
	}
	s := m.machine.State()
	_, stuck := s.PlanLeaving()
	for _, one := range s.PendingMoves(MoveLimits{}, nil) {
		g := m.groups[groupID{one.Topic.ID, one.Partition, one.Topic.Partitions[one.Partition].Generation}]
		if majority(g.members, func(x uint64) bool { return !g.data[x] }) {
			m.fail("%s-%d is not done", one.Topic.Name, one.Partition)
		}
	}
	for _, n := range s.Nodes() {
		have, first := s.Replicas(n.ID)
		if n.Leaving && have > 0 && len(stuck) == 0 && !m.lossy {
			m.fail("node %d still has %s", n.ID, first)
		}
	}
}
