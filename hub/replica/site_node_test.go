package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// siteMember is a member of a group: incarnation and broker.
func siteMember(broker int32, incarnation uint32) uint64 {
	return uint64(incarnation)<<32 | uint64(broker)
}

func brokerOf(member uint64) int32 { return int32(uint32(member)) }

// siteNode is a machine with a disk.
type siteNode struct {
	s        *simSite
	broker   int32
	peers    *peers // what this run of the process knows of the other nodes
	mem      *vfs.Mem
	store    *storage.Store
	up       bool
	paused   bool
	skew     time.Duration // of its clock
	failSync bool          // the next sync fails
	offline  bool          // one has: only a power cut follows
	damaged  bool          // a bit was flipped on its disk
	flipped  *siteReplica  // in the log of this one
	reps     []*siteReplica
	gone     []siteLoss // members that a wipe took, until they are out of their groups
	faults   func(*vfs.Op) error

	incarnation uint32 // how often its disk was lost
}

// member is the node in all groups to which it is added.
func (n *siteNode) member() uint64 { return siteMember(n.broker, n.incarnation) }

type siteLoss struct {
	g      *siteGroup
	member uint64
}

func newSiteNode(s *simSite, broker int32) *siteNode {
	return &siteNode{s: s, broker: broker, mem: vfs.NewMem()}
}

// clock is what the store measures with: time.Now measures spans with a clock
// that does not jump. wall is what the groups are told.
func (n *siteNode) clock() time.Time { return n.s.now }
func (n *siteNode) wall() int64      { return n.s.now.Add(n.skew).UnixMilli() }

// fault lets operations of the disk fail.
func (n *siteNode) fault(op *vfs.Op) error {
	if n.failSync && strings.HasPrefix(string(op.Kind), "sync") {
		n.failSync, n.offline = false, true
		n.s.counts.offline++
		return syscall.EIO
	}
	if n.faults != nil {
		return n.faults(op)
	}
	return nil
}

func (n *siteNode) open(mem *vfs.Mem, fault func(*vfs.Op) error) (*storage.Store, error) {
	size := n.s.rng.Int64N(20_000)
	return storage.Open(vfs.WithFaults(mem, fault), "data", storage.Config{
		ReserveBytes: -1, LowWater: 1, HighWater: 1, Clock: n.clock, Rand: randReader{n.s.rng},
		TailCacheBytes: 2000 + size, AheadBytes: aheadOf(size), MaxOpenFiles: 3,
	})
}

// start starts the process on what the disk has.
func (n *siteNode) start() {
	s := n.s
	if !s.healing && s.rng.IntN(6) == 0 {
		n.recoverTwice()
	}
	n.paused = false
	if n.faults = nil; s.plant.faults != nil {
		n.faults = s.plant.faults()
	}
	store, err := n.open(n.mem, n.fault)
	if err != nil {
		if n.mem.Dead() {
			n.crash(s.mood.power && s.rng.IntN(2) == 0, "while it started")
			return
		}
		if errors.Is(err, syscall.ENOSPC) && !n.hasLive() {
			return // a disk without room for a new store
		}
		s.fail("node %d: open the store: %v", n.broker, err)
	}
	n.store, n.up, n.peers = store, true, newPeers(s.rng.Uint64()|1)
	for _, r := range n.reps {
		if r != nil && !n.mem.Dead() {
			r.open()
		}
	}
}

func (n *siteNode) hasLive() bool {
	return slices.ContainsFunc(n.reps, func(r *siteReplica) bool { return r != nil && r.live })
}

// recoverTwice looks at what is on the disk two times: recover(recover(x)) =
// recover(x).
func (n *siteNode) recoverTwice() {
	var texts [2]string
	mem := n.mem.KillClone()
	mem.SetCapacity(0)
	for i := range texts {
		store, err := n.open(mem, func(*vfs.Op) error { return nil })
		if err != nil {
			n.s.fail("node %d: open a copy of the store: %v", n.broker, err)
		}
		for _, r := range n.reps {
			if r == nil || !r.live {
				continue
			}
			log, err := store.OpenLog(r.g.id)
			if err != nil {
				texts[i] += fmt.Sprintf("%s: %v\n", r.g.id, err)
				continue
			}
			last, term := log.Last()
			texts[i] += fmt.Sprintf("%s: %+v hard %v last %d/%d first %d damage %v\n", r.g.id, log.Segments(), log.Hard(), last, term, log.First().Index, log.Damage())
		}
		mem = mem.KillClone()
	}
	if texts[0] != texts[1] {
		n.s.fail("node %d: recovered twice:\n%s\nand then:\n%s", n.broker, texts[0], texts[1])
	}
}

// crash ends the process: a kill leaves the page cache, a power cut does not.
func (n *siteNode) crash(power bool, how string) {
	s := n.s
	power = power || n.offline // what a failed sync leaves behind in the cache is nothing to go on with
	if how != "" {
		s.counts.stopped++
	}
	if power {
		s.counts.cuts++
	} else {
		s.counts.kills++
	}
	s.note("node %d stops, power cut %v %s", n.broker, power, how)
	if power {
		n.mem = n.mem.CrashClone(s.rng)
		n.offline = false
	} else {
		n.mem = n.mem.KillClone()
	}
	n.up, n.store, n.failSync = false, nil, false
	for _, r := range n.reps {
		if r != nil {
			r.down(power)
		}
	}
}

// siteReplica is a member of a group on its node, from the creation of its log
// until that is deleted: it outlives the process.
type siteReplica struct {
	n       *siteNode
	g       *siteGroup
	member  uint64
	live    bool // Create has returned
	log     *storage.Log
	core    *core // nil: the process is down, or the log is damaged
	bad     bool  // quarantined
	deleted bool  // its deletion was begun
	joins   bool  // it was added to the group, perhaps not for the first time

	machine *siteMachine
	in      input
	durable int // rounds completed, of which the core has not heard
	err     error
	stalled []storage.Round
	files   *siteFiles
	asked   *siteAsked

	// What is checked over restarts.
	term    uint64            // highest that it stood by in an answer that counts
	votes   map[uint64]uint64 // term: for whom
	acked   uint64            // index up to which it has said that its log is durable
	ackedIn uint64            // term in which it did
	cuts    []siteCut         // what leaders have superseded of it
	confAt  uint64            // entry of the newest configuration that it has acted under
	power   bool              // the last stop was a power cut
	checked uint64            // entries compared with the committed ones
	hw      int64             // of this life
	commit  uint64            // of this life
	led     uint64            // term in which it leads
	quiet   bool
	told    []uint64 // who is told that it has failed
	unread  bool     // what it has applied cannot be read: its disk is damaged
}

func newSiteReplica(n *siteNode, g *siteGroup, member uint64) *siteReplica {
	return &siteReplica{n: n, g: g, member: member, votes: map[uint64]uint64{}}
}

func (r *siteReplica) String() string {
	return fmt.Sprintf("%s on node %d (member %d/%d)", r.g.id, r.n.broker, r.member>>32, brokerOf(r.member))
}

// open opens the log, or creates it the first time, and starts the core.
func (r *siteReplica) open() {
	s, n := r.n.s, r.n
	log, err := n.store.OpenLog(r.g.id)
	if r.deleted && (errors.Is(err, storage.ErrNotFound) || errors.Is(err, storage.ErrLost)) {
		// The node stopped when it had nearly done it. The store may know still that
		// it was there: told to have it again, a node would take it for lost.
		switch err := n.store.Remove(r.g.id); {
		case err == nil:
			n.reps[r.g.at] = nil
		case !r.diskFails(err):
			s.fail("%s: remove: %v", r, err)
		}
		return
	}
	if errors.Is(err, storage.ErrNotFound) && !r.live {
		first := joiningState()
		if slices.Contains(r.g.born, r.member) && !r.joins {
			first = firstState(r.g.born)
		}
		log, err = n.store.Create(r.g.id, first)
	}
	switch {
	case err != nil && (n.mem.Dead() || n.offline || errors.Is(err, record.ErrDiskFull)):
		return // it is tried again, or the node stops
	case err != nil && n.damaged && (errors.Is(err, record.ErrQuarantined) || r.bad && errors.Is(err, storage.ErrLost)):
		r.quarantine()
		r.createLost()
		return
	case err != nil:
		s.fail("%s: open: %v", r, err)
	}
	r.live, r.log = true, log
	log.SetConfig(storage.LogConfig{SegmentBytes: s.mood.roll})
	if d := log.Damage(); d != nil {
		if !n.damaged {
			s.fail("%s: taken for damaged after power cut %v: %v", r, r.power, d)
		}
		if s.plant.truncate == nil {
			r.quarantine()
			return
		}
		s.plant.truncate(r)
		if n.mem.Dead() {
			return
		}
	}
	r.bad = false // it was repaired when the node stopped
	r.checkReopened()
	r.startCore()
}

func (r *siteReplica) startCore() {
	s := r.n.s
	r.told = nil
	cfg := coreConfig{
		id: r.member, topic: r.g.topic, electionTicks: s.mood.election, quietTicks: s.mood.quiet, maxInflight: 1 << 20, mostProducers: 100,
		seed: s.rng.Uint64(), logger: slog.New(slog.DiscardHandler),
	}
	if r.g.machine {
		r.machine = newSiteMachine(r)
		cfg.machine = r.machine
	} else if s.byFiles() {
		cfg.byFiles = func() bool { return true }
	}
	core, err := openCore(cfg, r.g.s.plant.logOf(r), r.n.wall())
	if err != nil {
		if r.n.damaged {
			r.quarantine()
			return
		}
		s.fail("%s: start: %v", r, err)
	}
	r.core, r.led, r.hw, r.commit = core, 0, core.hw, core.hard.Commit
	r.checked = log0(r.log)
	if core.conf.index < r.confAt {
		s.fail("%s: comes back under the configuration of entry %d, it had acted under that of entry %d", r, core.conf.index, r.confAt)
	}
	if s.plant.opened != nil {
		s.plant.opened(r)
	}
	r.compare()
	r.step()
}

// log0 is the index above which a log has its entries one by one.
func log0(l *storage.Log) uint64 { return max(l.First().Index, l.Whole()-1) }

// quarantine takes a replica with damage out of its group.
func (r *siteReplica) quarantine() {
	if !r.bad {
		r.n.s.counts.found++
		r.n.s.note("%s is quarantined", r)
	}
	if r.log != nil && r.log.Damage() == nil && r.core != nil {
		r.log.Quarantine(r.core.failed)
	}
	r.bad, r.live = true, true
	r.stop()
}

// stop ends the core; what waits in it will never be answered.
func (r *siteReplica) stop() {
	props := r.in.props
	if r.core != nil {
		for i := r.core.pending.head; i < len(r.core.pending.buf); i++ {
			props = append(props, r.core.pending.buf[i].p)
		}
		for _, k := range r.core.kept {
			props = append(props, k.p)
		}
	}
	if r.core != nil && r.core.failed != nil {
		r.told = r.core.others
	}
	r.core, r.in, r.durable, r.err, r.stalled = nil, input{}, 0, nil, nil
	for _, p := range props {
		p.finish(ack{p: p, err: errGone})
	}
}

// errGone is what a client hears of a process that has ended: nothing.
var errGone = errors.New("the connection broke")

func (r *siteReplica) down(power bool) {
	r.stop()
	r.log, r.power, r.told, r.files, r.asked = nil, power, nil, nil, nil
}

// working reports whether the replica takes part in its group now.
func (r *siteReplica) working() bool {
	return r != nil && r.core != nil && r.n.up && !r.n.paused
}

// step runs the core on what has come, as the driver does.
func (r *siteReplica) step() {
	n, s := r.n, r.n.s
	if r.core == nil || n.mem.Dead() {
		return
	}
	in := &r.in
	now := n.clock()
	in.now, in.roll = n.wall(), r.log.ShouldRoll(now)
	in.diskFull = len(r.stalled) > 0
	in.waited = s.rng.IntN(100) < s.mood.readers
	in.durable, r.durable = in.durable+r.durable, 0
	in.err = r.err
	out := r.core.step(in)
	if s.plant.stepped != nil {
		s.plant.stepped(r, out)
	}
	r.in = input{}
	r.checkRole()
	r.checkQuiet()
	if !s.mood.sendLate {
		r.send(out.msgs)
	}
	r.retryStalled()
	r.append(out.rounds)
	if n.mem.Dead() {
		r.loseAcks(out.acks)
		return
	}
	if s.mood.sendLate {
		r.send(out.msgs)
	}
	r.compare()
	r.answer(out.acks)
	if out.trim {
		r.trim()
	}
	r.checkFailed()
	r.takeFiles(out.fetch)
}

func (r *siteReplica) answer(acks []ack) {
	for i := range acks {
		acks[i].p.finish(acks[i])
	}
}

func (r *siteReplica) loseAcks(acks []ack) {
	for i := range acks {
		acks[i].p.finish(ack{p: acks[i].p, err: errGone})
	}
}

// append hands rounds to the log; see Replica.append.
func (r *siteReplica) append(rounds []storage.Round) {
	for i := range rounds {
		rounds[i].Done = r.completedIn(r.core)
		if len(r.stalled) > 0 || !r.write(&rounds[i]) {
			r.stalled = append(r.stalled, rounds[i])
		}
		rounds[i] = storage.Round{}
	}
}

func (r *siteReplica) completedIn(life *core) func(error) {
	return func(err error) {
		switch {
		case r.core != life:
		case err == nil:
			r.durable++
		case r.err == nil:
			r.err = err
		}
	}
}

func (r *siteReplica) write(round *storage.Round) bool {
	last, _ := r.log.Last()
	atOnce := r.n.s.plant.round != nil && r.n.s.plant.round(r, round)
	if atOnce {
		round.Done = nil
	}
	if n := len(round.Entries); n > 0 && round.Entries[0].Index <= r.acked && r.core.hard.Term <= r.ackedIn {
		r.n.s.fail("%s: entries from %d on are superseded in term %d, entry %d was acknowledged in term %d", r, round.Entries[0].Index, r.core.hard.Term, r.acked, r.ackedIn)
	}
	switch { // what is superseded may be gone though the round that does it fails
	case round.Reset != nil:
		r.cut(round.Reset.Index)
	case len(round.Entries) > 0 && round.Entries[0].Index <= last:
		r.cut(round.Entries[0].Index - 1)
	}
	err := r.log.Append(*round)
	switch {
	case err == nil:
		if atOnce {
			r.durable++
		}
		r.wrote(round, last)
	case r.n.mem.Dead():
	case errors.Is(err, record.ErrDiskFull):
		r.core.failPending(err)
		return false
	case r.n.offline || r.n.damaged:
		r.completedIn(r.core)(fmt.Errorf("%w: %w", record.ErrOffline, err))
	default:
		r.n.s.fail("%s: append: %v", r, err)
	}
	return true
}

// siteCut is an index above which entries were superseded, and the term in which.
type siteCut struct{ term, index uint64 }

func (r *siteReplica) cut(index uint64) {
	r.acked = min(r.acked, index)
	r.cuts = append(r.cuts, siteCut{r.core.hard.Term, index})
}

func (r *siteReplica) wrote(round *storage.Round, last uint64) {
	switch {
	case round.Reset != nil:
		r.n.s.counts.resets++
		r.acked, r.checked = round.Reset.Index, round.Reset.Index
	case len(round.Entries) > 0 && round.Entries[0].Index <= last:
		r.n.s.counts.superseded++
	}
}

func (r *siteReplica) retryStalled() {
	rounds := r.stalled
	if len(rounds) == 0 {
		return
	}
	if rounds[0].Before == nil && rounds[0].Reset == nil && r.log.ShouldRoll(r.n.clock()) {
		last, _ := r.log.Last()
		before, err := r.core.auxAt(last)
		if err != nil {
			if !r.n.mem.Dead() && !r.n.damaged {
				r.n.s.fail("%s: state for a round that is tried again: %v", r, err)
			}
			return
		}
		rounds[0].Before = before
	}
	for len(rounds) > 0 && r.write(&rounds[0]) {
		rounds = rounds[1:]
	}
	r.stalled = rounds
}

func (r *siteReplica) trim() {
	index := uint64(0)
	if r.g.machine {
		index = r.core.snapshotAt
	} else {
		index = trimIndex(r.log.Segments(), r.core.control.logStart, min(r.core.applied, r.core.sealedTo))
	}
	if index <= r.log.First().Index {
		return
	}
	if err := r.log.Trim(index); err != nil && !r.n.mem.Dead() && !r.n.damaged && !r.n.offline {
		r.n.s.fail("%s: trim: %v", r, err)
	}
	r.n.s.counts.trims++
	r.in.trimmed = true
	r.step()
}

// packet is a message on its way.
type packet struct {
	g    *siteGroup
	m    pb.Message
	life *siteLife // a sign of life instead
}

// send puts messages on the way, after a look at what they promise.
func (r *siteReplica) send(msgs []pb.Message) {
	s := r.n.s
	for _, m := range msgs {
		r.checkMessage(&m)
		if s.plant.sent != nil {
			s.plant.sent(r, &m)
		}
		m.Entries = append([]pb.Entry(nil), m.Entries...)
		s.net = append(s.net, packet{g: r.g, m: m})
	}
	s.shed()
}

// shed drops the oldest messages when too many are on their way.
func (s *simSite) shed() { s.net = s.net[max(0, len(s.net)-400):] }

// deliver hands a message to its receiver, if that is there.
func (s *simSite) deliver(p packet) {
	if p.life != nil {
		s.deliverLife(p.life)
		return
	}
	n := s.nodes[brokerOf(p.m.To)-1]
	if r := n.reps[p.g.at]; r.working() && r.member == p.m.To && (s.healing || !s.cut[brokerOf(p.m.From)][n.broker]) {
		if s.tracing {
			s.note("%s gets %s", r, raft.DescribeMessage(p.m, func([]byte) string { return "" }))
		}
		if s.plant.received != nil {
			s.plant.received(r, &p.m)
		}
		r.in.msgs = append(r.in.msgs, p.m)
		r.step()
	}
}
