package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// A group of three replicas, reduced to what touches the log: elections,
// appends with conflicts, commits by a majority, snapshots for a follower
// behind the leader's first entry, and compaction, by each node as it likes, of
// what is committed. Every node has its own disk, and stops and
// starts by itself. Checked at all times:
//   - an entry that was committed is on every node that says it is committed,
//     the same at the same index and offset;
//   - no term has two leaders, so no vote was forgotten;
//   - a new leader has every entry that was ever committed: nothing that was
//     acknowledged is lost, but for what the node itself compacted away;
//   - a damaged node says so and stays out of it.
//
// At the end all nodes that are not damaged start, hear each other, and must
// come to hold the same.

func TestSimulateThreeReplicas(t *testing.T) {
	runSeeds(t, func(seed uint64) error { return runTrio(seed, plant{}) })
}

type trio struct {
	rng       *rand.Rand
	plant     plant
	now       time.Time
	nodes     []*replicaNode
	net       []message
	committed map[uint64]Entry
	leaders   map[uint64]int // term → node
	compacts  bool           // in half of the schedules: it makes conflicts rarer
	noSync    bool           // durability "replicated": no power is cut then
	alone     int            // node that nobody hears
	failed    error
	serial
}

// message is everything that nodes say to each other.
type message struct {
	kind          string // vote, voted, append, appended, snapshot
	from, to      int
	term          uint64
	index, logT   uint64 // last or previous entry
	entries       []Entry
	commit, match uint64
	ok            bool
	state         State
}

// replicaNode is one replica.
type replicaNode struct {
	id          int
	g           *trio
	mem         *vfs.Mem
	store       *Store
	log         *Log
	down        bool
	term, vote  uint64
	commit      uint64
	dirty       bool // term, vote or commit are not in a round yet
	role        string
	votes       map[int]bool
	next, match [3]uint64
	life        int // counts starts: completions of an earlier one are void
	// gone are entries that compaction has left out: true for certain, false if
	// it was cut short.
	gone map[uint64]bool
}

var trioID = LogID{Topic: "g", Partition: 0}

func runTrio(seed uint64, p plant) error {
	g := &trio{rng: rand.New(rand.NewPCG(seed, 3)), plant: p, now: time.UnixMilli(1_700_000_000_000), committed: map[uint64]Entry{}, leaders: map[uint64]int{}, alone: -1, compacts: seed%2 == 1}
	g.noSync = g.rng.IntN(5) == 0
	for i := range 3 {
		n := &replicaNode{id: i, g: g, mem: vfs.NewMem(), gone: map[uint64]bool{}}
		g.nodes = append(g.nodes, n)
		if err := n.start(); err != nil {
			return err
		}
	}
	for step := range 600 + g.rng.IntN(800) {
		g.step()
		if g.failed != nil {
			return fmt.Errorf("step %d: %w", step, g.failed)
		}
	}
	return g.settle()
}

func (g *trio) fail(err error) {
	if g.failed == nil {
		g.failed = err
	}
}

// step draws the next event.
func (g *trio) step() {
	n := g.nodes[g.rng.IntN(3)]
	if n.log == nil {
		return // damaged: out of it
	}
	if n.down {
		if g.rng.IntN(3) == 0 {
			g.try(n, n.start())
		}
		return
	}
	if g.rng.IntN(120) == 0 {
		n.mem.CutAfter(1+g.rng.IntN(3), g.rng)
	}
	switch k := g.rng.IntN(120); {
	case k < 60 && len(g.net) > 0:
		g.deliver()
	case k < 85:
		n.flush()
	case k < 100:
		n.propose()
	case k < 103:
		n.campaign()
	case k < 108:
		n.trim()
	case k < 109:
		n.stop()
	case k == 109:
		g.flip(n)
	case k == 111:
		n.full()
	case k < 116 && k > 112 && g.compacts:
		n.compact()
	case k == 112:
		g.alone = g.rng.IntN(6) // cut off from the others; 3 and above: nobody is
	default:
		g.now = g.now.Add(600 * time.Millisecond)
		n.flush()
	}
	for _, n := range g.nodes {
		if n.log != nil && !n.down && n.mem.Dead() {
			n.stop()
		}
		n.mem.Uncut()
	}
}

// try notes an error of a node whose machine still runs.
func (g *trio) try(n *replicaNode, err error) bool {
	if err != nil && !n.mem.Dead() && !errors.Is(err, record.ErrDiskFull) {
		g.fail(fmt.Errorf("node %d: %w", n.id, err))
	}
	return err == nil
}

// deliver takes a message from the net: mostly the oldest, sometimes another,
// sometimes twice, sometimes never.
func (g *trio) deliver() {
	i := 0
	if g.rng.IntN(4) == 0 {
		i = g.rng.IntN(len(g.net))
	}
	m := g.net[i]
	if g.rng.IntN(12) > 0 {
		g.net = append(g.net[:i:i], g.net[i+1:]...)
	}
	if m.from == g.alone || m.to == g.alone {
		return
	}
	if n := g.nodes[m.to]; g.rng.IntN(15) > 0 && n.log != nil && !n.down {
		n.receive(m)
	}
}

// flip damages one node, once, at a place that something states to be synced:
// the node must find it, and is out of the group.
func (g *trio) flip(n *replicaNode) {
	for _, o := range g.nodes {
		if o.log == nil {
			return
		}
	}
	if n.mem.Dead() || g.rng.IntN(20) > 0 {
		return
	}
	mem := n.mem.KillClone()
	r, err := inspect(mem, simDir+"/"+dirName(trioID))
	if err != nil {
		g.fail(err)
		return
	}
	defer r.close()
	s := r.chain[g.rng.IntN(len(r.chain))]
	at := position{s.header.seq, uint32(g.rng.IntN(int(s.p.end)))}
	if !at.less(r.highestStatement()) {
		return
	}
	g.try(n, mem.Flip(s.path, int64(at.pos), 1<<g.rng.IntN(8)))
	rep, err := Verify(mem, simDir+"/"+dirName(trioID))
	if err != nil || !rep.Damaged() {
		g.fail(fmt.Errorf("node %d: a bit flipped at %s was not found: %+v, %w", n.id, at, rep, err))
	}
	n.log, n.role = nil, "damaged"
}

// settle lets everybody who is whole start and hear each other until nothing
// is new, and compares them.
func (g *trio) settle() error {
	g.net, g.noSync, g.alone = nil, false, -1
	var whole []*replicaNode
	for _, n := range g.nodes {
		if n.log == nil {
			continue
		}
		if n.down {
			if err := n.start(); err != nil {
				return fmt.Errorf("last start of node %d: %w", n.id, err)
			}
		}
		whole = append(whole, n)
	}
	for round := 0; ; round++ {
		if round == 60 {
			return errors.New("no leader after 60 attempts")
		}
		n := whole[round%len(whole)]
		n.campaign()
		g.drain(whole)
		if g.failed != nil {
			return g.failed
		}
		n.propose() // carries the commit to the others
		g.drain(whole)
		n.propose()
		g.drain(whole)
		if n.role == "leader" {
			return g.compare(n, whole)
		}
	}
}

// drain lets everything happen that is on its way.
func (g *trio) drain(whole []*replicaNode) {
	const most = 10_000 // messages; a hundred or so are enough
	taken := 0
	for busy := true; busy && g.failed == nil; {
		busy = false
		for _, n := range whole {
			busy = n.store.Step(g.now) || busy
		}
		for len(g.net) > 0 && g.failed == nil {
			m := g.net[0]
			g.net = g.net[1:]
			busy = true
			if n := g.nodes[m.to]; n.log != nil {
				n.receive(m)
			}
			if taken++; taken == most {
				g.fail(fmt.Errorf("the nodes do not come to rest: %d messages, the last from node %d to node %d: %s", most, m.from, m.to, m.kind))
			}
		}
	}
}

// compare checks that all nodes hold what the leader holds.
func (g *trio) compare(leader *replicaNode, whole []*replicaNode) error {
	last, term := leader.log.Last()
	for _, n := range whole {
		if i, t := n.log.Last(); i != last || t != term {
			return fmt.Errorf("node %d ends with entry %d of term %d, the leader with %d of term %d", n.id, i, t, last, term)
		}
		if err := errors.Join(n.checkCommitted(n.log.First().Index), n.checkCompacted()); err != nil {
			return fmt.Errorf("node %d: %w", n.id, err)
		}
	}
	return g.failed
}
