package replica

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storytest"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

func TestStories(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, storytest.Args) string {
		e := &cluster{t: t, nodes: map[uint64]*member{}, cut: map[uint64]bool{}, auto: true, waits: true, now: 1_000_000}
		return e.do
	})
}

// cluster is the cores of a group, their logs in memory, and a network that
// carries what the story says.
type cluster struct {
	t     *testing.T
	nodes map[uint64]*member
	cut   map[uint64]bool
	net   []pb.Message
	auto  bool // flush and deliver after each step until nothing moves
	full  bool // the disks are full
	quiet int  // ticks of rest before the group goes quiet; 0: never
	waits bool // somebody waits at each member for what is committed
	now   int64
	props int
	// Producers were forgotten, which a restart does not know.
	expired bool
	told    strings.Builder
	// What was committed, by index: every node must agree.
	committed map[uint64]string
}

type member struct {
	id     uint64
	log    *memLog
	core   *core
	roll   bool
	topic  TopicConfig
	voters []uint64
	hw     int64 // highest seen since the last start
	// Its disk has no room: rounds wait.
	stall   bool
	stalled []storage.Round
}

func (e *cluster) do(verb string, a storytest.Args) string {
	e.told.Reset()
	switch verb {
	case "nodes":
		e.quiet = int(a.Int("quiet", 0))
		e.start(int(a.Int("count", 0)))
	case "manual":
		e.auto = false
	case "auto":
		e.auto = true
	case "nobody-waits":
		e.waits = false
	case "somebody-waits":
		e.waits = true
	case "settle":
		e.settle()
	case "flush":
		e.flush(e.node(a), int(a.Int("rounds", 0)))
	case "deliver":
		e.deliver()
	case "drop":
		e.net = slices.DeleteFunc(e.net, func(m pb.Message) bool { return a.Bare() == "" || m.To == e.node(a).id })
	case "unreadable":
		e.node(a).log.damage = errors.New("checksum of the frame header does not match")
	case "cut":
		e.cut[e.node(a).id] = true
	case "heal":
		clear(e.cut)
	case "tick":
		for _, m := range e.members(a) {
			e.step(m, input{ticks: int(a.Int("count", 0))})
		}
	case "campaign":
		e.step(e.node(a), input{campaign: true})
	case "restart":
		e.restart(e.node(a))
	case "anew":
		m := e.node(a)
		m.log = newMemLog(joiningState())
		e.open(m)
	case "roll":
		e.node(a).roll = true
	case "roll-now":
		e.step(e.node(a), input{rollNow: true})
	case "trim":
		m := e.node(a)
		m.log.trim(uint64(a.Int("index", 0)))
		e.step(m, input{trimmed: true})
	case "stall":
		e.node(a).stall = true
	case "room":
		m := e.node(a)
		for _, r := range m.stalled {
			m.log.write(r)
		}
		m.stall, m.stalled = false, nil
	case "disk":
		e.full = a.Bare() == "full"
	case "topic":
		m := e.node(a)
		m.topic = TopicConfig{
			ReadOnly: a.Get("read-only") == "true", LogAppendTime: a.Get("log-append-time") == "true",
			MaxMessageBytes: int(a.Int("max-bytes", 0)), Replicated: a.Get("replicated") == "true",
		}
		m.core.cfg.topic = m.topic
	case "expire":
		e.expired = true
		e.step(e.node(a), input{expire: a.Int("before", 0)})
	case "log", "state", "epoch-end", "rounds", "transactions", "next-step":
		return e.show(verb, e.node(a), a)
	default:
		e.propose(verb, e.node(a), a)
	}
	if e.auto {
		e.settle()
	}
	e.check()
	return e.told.String()
}

func (e *cluster) say(format string, v ...any) { fmt.Fprintf(&e.told, format+"\n", v...) }

func (e *cluster) node(a storytest.Args) *member {
	id := uint64(1)
	if b := a.Bare(); strings.HasPrefix(b, "n") {
		fmt.Sscanf(b, "n%d", &id)
	}
	m := e.nodes[id]
	if m == nil {
		e.t.Fatalf("no node %d", id)
	}
	return m
}

func (e *cluster) members(a storytest.Args) []*member {
	if a.Bare() != "" {
		return []*member{e.node(a)}
	}
	var all []*member
	for _, id := range slices.Sorted(maps.Keys(e.nodes)) {
		all = append(all, e.nodes[id])
	}
	return all
}

func (e *cluster) start(n int) {
	e.committed = map[uint64]string{}
	var voters []uint64
	for id := range n {
		voters = append(voters, uint64(id+1))
	}
	for _, id := range voters {
		m := &member{id: id, log: newMemLog(firstState(voters)), voters: voters}
		e.nodes[id] = m
		e.open(m)
	}
	for _, m := range e.members(storytest.Args{}) {
		e.step(m, input{})
	}
}

func (e *cluster) open(m *member) {
	c, err := openCore(coreConfig{
		id: m.id, topic: m.topic, electionTicks: 10, quietTicks: e.quiet, maxInflight: 8 << 20, mostProducers: 100, seed: 7,
		logger: slog.New(slog.DiscardHandler),
	}, m.log, e.now)
	if err != nil {
		e.t.Fatal(err)
	}
	m.core, m.hw = c, 0
}

func (e *cluster) restart(m *member) {
	m.log.crash()
	e.open(m)
	e.step(m, input{})
}

// step runs a core and does what it asks for.
func (e *cluster) step(m *member, in input) {
	e.now++
	in.now, in.roll, in.diskFull, in.waited = e.now, m.roll, e.full, e.waits
	was := m.core.role
	out := m.core.step(&in)
	for _, r := range out.rounds {
		if r.Before != nil {
			m.roll = false
		}
		if m.stall {
			m.stalled = append(m.stalled, r)
			continue
		}
		m.log.write(r)
	}
	for _, msg := range out.msgs {
		if !e.cut[m.id] && !e.cut[msg.To] {
			e.net = append(e.net, msg)
		}
	}
	for _, a := range out.acks {
		a.p.finish(a)
	}
	if r := m.core.role; r != was && (r == raft.StateLeader || was == raft.StateLeader) {
		e.say("node %d: %s at term %d", m.id, strings.ToLower(strings.TrimPrefix(r.String(), "State")), m.core.term)
	}
	if m.core.failed != nil {
		e.say("node %d: failed: %v", m.id, m.core.failed)
	}
}

// flush completes the oldest rounds of a node, or all.
func (e *cluster) flush(m *member, rounds int) bool {
	n := len(m.log.rounds)
	if n == 0 {
		return false
	}
	if rounds > 0 {
		n = min(n, rounds)
	}
	m.log.flush(n)
	e.step(m, input{durable: n})
	return true
}

func (e *cluster) deliver() bool {
	msgs := e.net
	e.net = nil
	for _, msg := range msgs {
		if m := e.nodes[msg.To]; m != nil && !e.cut[msg.To] && !e.cut[msg.From] {
			e.step(m, input{msgs: []pb.Message{msg}})
		}
	}
	return len(msgs) > 0
}

func (e *cluster) settle() {
	for again, rounds := true, 0; again; rounds++ {
		if rounds > 10_000 {
			e.t.Fatalf("this does not come to rest: %s", raft.DescribeMessage(e.net[0], func([]byte) string { return "" }))
		}
		again = e.deliver()
		for _, m := range e.members(storytest.Args{}) {
			again = e.flush(m, 0) || again
		}
	}
}

// propose proposes what the verb says; the outcome is told when it is known.
func (e *cluster) propose(verb string, m *member, a storytest.Args) {
	e.props++
	name := fmt.Sprintf("p%d", e.props)
	p := &proposal{}
	switch verb {
	case "produce":
		p.kind = propAppend
		for range max(a.Int("batches", 0), 1) {
			p.batches = append(p.batches, e.batch(a, len(p.batches)))
		}
		p.appended = func(r []record.Appended, err error) { e.say("%s: %s", name, outcome(r, err)) }
		if v := a.Get("guard"); v != "" {
			p.guarded, p.ended = true, a.Int("guard", 0)
		}
	case "end":
		p.kind = propMarker
		p.marker = record.TransactionMarker{ProducerID: a.Int("pid", 0), ProducerEpoch: int16(a.Int("pepoch", 0)), Commit: a.Get("as") == "commit", CoordinatorEpoch: int32(a.Int("coordinator", 0))}
	case "mirrored":
		b := e.batch(a, 0)
		if a.Get("end") != "" {
			b = record.NewMarker(a.Int("pid", 0), int16(a.Int("pepoch", 0)), a.Get("end") == "commit", int32(a.Int("coordinator", 0)), e.now)
		}
		b.SetBaseOffset(a.Int("at", 0))
		b.SetLeaderEpoch(int32(a.Int("leader-epoch", 0)))
		p.kind, p.batches = propMirrored, []record.Batch{b}
		p.guard = MirrorGuard{Link: a.Get("link"), Epoch: a.Int("epoch", 0), Next: a.Int("next", 0)}
	case "control":
		p.kind, p.control = propControl, controlEntry(e.t, a)
	case "confirm":
		p.kind = propConfirm
		p.failed = func(err error) {
			if err == nil {
				e.say("%s: node %d leads", name, m.id)
			} else {
				e.say("%s: %v", name, err)
			}
		}
	case "transfer":
		p.kind, p.to = propTransfer, uint64(a.Int("to", 0))
	case "add-voter", "add-learner", "remove-voter":
		change := pb.ConfChangeSingle{Type: pb.ConfChangeAddNode, NodeID: uint64(a.Int("id", 0))}
		if verb == "add-learner" {
			change.Type = pb.ConfChangeAddLearnerNode
		}
		if verb == "remove-voter" {
			change.Type = pb.ConfChangeRemoveNode
		} else if e.nodes[change.NodeID] == nil {
			// A new node knows only the first configuration, and is not in it.
			n := &member{id: change.NodeID, log: newMemLog(firstState(m.voters))}
			e.nodes[n.id] = n
			e.open(n)
		}
		p.kind, p.change = propConfChange, pb.ConfChangeV2{Changes: []pb.ConfChangeSingle{change}}
	default:
		e.t.Fatalf("unknown verb %q", verb)
	}
	if p.appended == nil && p.failed == nil {
		p.failed = func(err error) { e.say("%s: %s", name, outcome(nil, err)) }
	}
	e.step(m, input{props: []*proposal{p}, ticks: int(a.Int("ticks", 0))})
}

func (e *cluster) batch(a storytest.Args, i int) record.Batch {
	b := record.NewBuilder(record.None)
	n := max(int(a.Int("count", 0)), 1)
	if v := a.Get("pid"); v != "" {
		b.ProducerID, b.ProducerEpoch = a.Int("pid", 0), int16(a.Int("pepoch", 0))
		b.BaseSequence = int32((a.Int("seq", 0) + int64(i*n)) & 0x7fffffff)
	}
	b.Transactional = a.Get("txn") == "true"
	b.Control = a.Get("marker") == "true"
	if b.Control {
		b.BaseSequence = -1
	}
	vals := make([]string, n)
	for j := range vals {
		vals[j] = fmt.Sprintf("%s-%d", a.Get("value"), j)
	}
	return build(e.t, b, 5000, vals...)
}

func controlEntry(t *testing.T, a storytest.Args) ControlEntry {
	t.Helper()
	switch {
	case a.Get("log-start") != "":
		return LogStart{Offset: a.Int("log-start", 0)}
	case a.Get("start") != "":
		return MirrorStart{Link: a.Get("start"), Source: a.Get("source"), Epoch: a.Int("epoch", 0)}
	case a.Get("stop") != "":
		return MirrorStop{Epoch: a.Int("stop", 0)}
	case a.Get("read-only") != "":
		return ReadOnly{On: a.Get("read-only") == "true"}
	case a.Get("epoch-base") != "":
		return EpochBase{Base: int32(a.Int("epoch-base", 0))}
	}
	t.Fatalf("which control entry is %v?", a.Words)
	return nil
}

func outcome(r []record.Appended, err error) string {
	if err != nil {
		return "error: " + err.Error()
	}
	s := "committed"
	for _, a := range r {
		s += fmt.Sprintf(" at offset %d", a.BaseOffset)
		if a.Duplicate {
			s += " (duplicate)"
		}
		if a.LogAppendTime >= 0 {
			s += " stamped"
		}
	}
	return s
}

func (e *cluster) show(verb string, m *member, a storytest.Args) string {
	var b strings.Builder
	c := m.core
	switch verb {
	case "log":
		for _, en := range m.log.written.all() {
			fmt.Fprintln(&b, describe(&en))
		}
	case "rounds":
		for _, s := range m.log.written.segments {
			fmt.Fprintf(&b, "segment after %d/%d, next offset %d, %d entries\n", s.header.Index, s.header.Term, s.header.NextOffset, len(s.entries))
		}
	case "epoch-end":
		end := epochEnd(c.control.lineage, int32(a.Int("epoch", 0)), c.offsets().LeaderEpoch, c.hw)
		fmt.Fprintf(&b, "epoch %d ends at %d", end.Epoch, end.End)
	case "next-step":
		var want Members
		for id := range strings.SplitSeq(a.Get("voters"), ",") {
			v, _ := strconv.ParseUint(id, 10, 64)
			want.Voters = append(want.Voters, v)
		}
		step, _ := c.move(want)
		fmt.Fprintln(&b, step.what)
	case "transactions":
		off := c.offsets()
		fmt.Fprintf(&b, "stable up to %d of %d\n", off.LastStable, off.HighWatermark)
		for _, p := range c.tail.producers.info() {
			tx := c.tail.producers.transaction(p.ID)
			fmt.Fprintf(&b, "producer %d epoch %d open %d guard %d coordinator epoch %d\n", p.ID, tx.Epoch, tx.First, tx.Guard, p.CoordinatorEpoch)
		}
		for _, t := range c.tail.producers.aborted.txns {
			fmt.Fprintf(&b, "aborted: producer %d from %d to %d\n", t.producer, t.first, t.marker)
		}
	case "state":
		fmt.Fprintf(&b, "%s term %d lead %d, last %d applied %d, log start %d hw %d next %d, leader epoch %d\n",
			strings.ToLower(strings.TrimPrefix(c.role.String(), "State")), c.term, c.lead, c.tail.index, c.applied, c.control.logStart, c.hw, c.tail.next, c.offsets().LeaderEpoch)
		fmt.Fprintf(&b, "lineage %v voters %v\n", c.control.lineage, c.conf.state.Voters)
		if c.quiet {
			fmt.Fprintln(&b, "quiet")
		}
		if l := c.conf.state.Learners; len(l) > 0 {
			fmt.Fprintf(&b, "learners %v\n", l)
		}
		if mi := c.control.mirror; mi != (Mirror{}) || c.control.readOnly {
			fmt.Fprintf(&b, "mirror %+v read-only %v\n", mi, c.control.readOnly)
		}
		for _, p := range c.tail.producers.info() {
			fmt.Fprintf(&b, "producer %d epoch %d last sequence %d at offset %d\n", p.ID, p.Epoch, p.LastSequence, p.LastOffset)
		}
	}
	return b.String()
}

func describe(e *storage.Entry) string {
	s := fmt.Sprintf("%d/%d %s offset %d epoch %d", e.Index, e.Term, e.Kind, e.BaseOffset, e.LeaderEpoch)
	if e.Kind == storage.KindData {
		return s + fmt.Sprintf(" x%d crc %08x", e.Batch().Count(), e.Batch().CRC())
	}
	switch ctl, err := decodeControl(e.Payload); {
	case err != nil:
		return s + " " + err.Error()
	case ctl != nil:
		return s + fmt.Sprintf(" %T%+v", ctl, ctl)
	case len(e.Payload) > 1:
		return s + fmt.Sprintf(" subtype %d", e.Payload[1])
	}
	return s + " no-op"
}

// check verifies what must hold whatever the story does.
func (e *cluster) check() {
	for _, m := range e.members(storytest.Args{}) {
		c := m.core
		if c.hw < m.hw {
			e.t.Errorf("node %d: high watermark %d < %d before", m.id, c.hw, m.hw)
		}
		m.hw = c.hw
		for _, en := range m.log.written.all() {
			if en.Index > c.applied {
				continue
			}
			got := describe(&en)
			if want := e.committed[en.Index]; want == "" {
				e.committed[en.Index] = got
			} else if got != want {
				e.t.Errorf("node %d has %s where %s is committed", m.id, got, want)
			}
		}
		e.checkRebuilt(m)
		e.checkTransactions(m)
	}
}

// checkTransactions compares what a node knows of transactions with the
// batches in its log, unless a part of it was deleted.
func (e *cluster) checkTransactions(m *member) {
	if m.log.written.segments[0].header.Index > 1 || m.core.failed != nil {
		return
	}
	var o txnOracle
	for _, en := range m.log.written.all() {
		if en.Kind == storage.KindData {
			o = append(o, en.Batch())
		}
	}
	o.checkCore(e.t, m.core)
	off := m.core.offsets()
	for from := off.Start; from < off.LastStable; from++ {
		for to := from + 1; to <= off.LastStable; to++ {
			if from >= m.core.tail.producers.aborted.from {
				o.checkReader(e.t, from, to, listed(m.core.tail.producers.aborted.overlapping(from, to)))
			}
		}
	}
}

// checkRebuilt opens a second core on the same log: producer and control state
// must be those of the first one.
func (e *cluster) checkRebuilt(m *member) {
	if m.log.damage != nil || len(m.stalled) > 0 {
		return
	}
	again, err := openCore(m.core.cfg, m.log, e.now)
	if err != nil {
		e.t.Fatal(err)
	}
	if m.core.failed != nil || e.expired {
		return
	}
	if got, want := stateOf(again), stateOf(m.core); got != want {
		e.t.Errorf("node %d: the state rebuilt from the log differs:\n%s\nnot\n%s", m.id, got, want)
	}
	all := again.applied == again.tail.index && m.core.applied == m.core.tail.index
	if got, want := fmt.Sprint(again.undecided), fmt.Sprint(m.core.undecided); all && got != want {
		e.t.Errorf("node %d: the undecided transactions rebuilt from the log are %v, not %v", m.id, got, want)
	}
	if !bytes.Equal(again.tail.control.encode(machineSnapshot{}), m.core.tail.control.encode(machineSnapshot{})) {
		e.t.Errorf("node %d: control state %+v != %+v", m.id, again.tail.control, m.core.tail.control)
	}
}

// stateOf is what a restart must not change, as text: all of the tail but the
// times at which producers were seen.
func stateOf(c *core) string {
	s := fmt.Sprintf("index %d term %d next %d control %+v\n", c.tail.index, c.tail.term, c.tail.next, c.tail.control)
	for _, id := range slices.Sorted(maps.Keys(c.tail.producers.byID)) {
		p := c.tail.producers.byID[id]
		s += fmt.Sprintf("%d epoch %d %+v open %d marker %d of %d\n", id, p.epoch, p.batches[:p.n], p.open, p.marker, p.coordinator)
	}
	return s + fmt.Sprintf("aborted %+v\n", c.tail.producers.aborted)
}
