package replica

import (
	"context"
	"errors"
	"time"

	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// evDeliver lets a message arrive: mostly one of the oldest, sometimes twice,
// sometimes never.
func (s *simSite) evDeliver() {
	if n := len(s.late); n > 0 && s.rng.IntN(20) == 0 {
		i := s.rng.IntN(n)
		p := s.late[i]
		s.late = append(s.late[:i], s.late[i+1:]...)
		s.deliver(p)
	}
	for range 1 + s.rng.IntN(12) {
		if len(s.net) == 0 {
			return
		}
		i := 0
		if s.mood.reorder > 0 {
			i = s.rng.IntN(min(len(s.net), 1+s.mood.reorder))
		}
		p := s.net[i]
		if s.rng.IntN(100) >= s.mood.twice {
			s.net = append(s.net[:i], s.net[i+1:]...)
		}
		if s.rng.IntN(100) < s.mood.late && len(s.late) < 50 && p.life == nil {
			s.late = append(s.late, p)
			continue
		}
		if s.rng.IntN(100) >= s.mood.drop {
			s.deliver(p)
		}
	}
}

func (s *simSite) evTick() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	ticks := 1 + s.rng.IntN(s.mood.ticks)
	s.now = s.now.Add(time.Duration(ticks) * 100 * time.Millisecond / time.Duration(len(s.nodes)))
	n.tick(ticks)
}

// evDisk lets a disk finish what it has; the groups hear of it now or later.
func (s *simSite) evDisk() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	if n.up && !n.paused {
		n.flush(s.rng.IntN(4) > 0)
	}
}

func (n *siteNode) flush(tell bool) (any bool) {
	any = n.store.Step(n.clock())
	for _, r := range n.reps {
		if tell && r.working() && (r.durable > 0 || r.err != nil) {
			r.step()
			any = true
		}
	}
	return any
}

// evWake steps a group with whatever has come to it.
func (s *simSite) evWake() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	switch r := n.reps[s.rng.IntN(len(s.groups))]; {
	case r.working():
		r.step()
	case r != nil && r.core == nil && !r.bad && n.up && !n.offline && !n.mem.Dead():
		r.open() // it found no room the last time
	}
}

func (s *simSite) evPartition() {
	s.counts.partitions++
	a := s.nodes[s.rng.IntN(len(s.nodes))].broker
	if r := s.groups[s.rng.IntN(len(s.groups))].target(); r != nil && s.rng.IntN(2) == 0 {
		a = r.n.broker // more often than not a leader
	}
	b := s.nodes[s.rng.IntN(len(s.nodes))].broker
	switch s.rng.IntN(4) {
	case 0: // one way
		s.cut[a][b] = a != b
	case 1: // both ways
		s.cut[a][b], s.cut[b][a] = a != b, a != b
	case 2: // one node hears nobody
		for _, n := range s.nodes {
			s.cut[n.broker][a] = n.broker != a
		}
	default: // one node and the rest
		for _, n := range s.nodes {
			s.cut[n.broker][a], s.cut[a][n.broker] = n.broker != a, n.broker != a
		}
	}
}

func (s *simSite) evHealNet() { s.cut = [8][8]bool{} }

func (s *simSite) evStop() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	switch {
	case !n.up:
	case s.rng.IntN(4) == 0 && !n.offline: // an orderly stop
		for _, r := range n.reps {
			if r.working() {
				r.in.flush = true
				r.step()
			}
		}
		if n.mem.Dead() || n.offline {
			return
		}
		if err := n.store.Close(); err != nil && !n.mem.Dead() && !n.offline {
			s.fail("node %d: close: %v", n.broker, err)
		}
		if !n.mem.Dead() {
			n.crash(true, "") // an orderly stop leaves nothing unsynced
		}
	default:
		n.crash(s.mood.power && s.rng.IntN(2) == 0, "")
	}
}

// evArm stops a node in the middle of one of its next operations.
func (s *simSite) evArm() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	n.mem.CutAfter(1+s.rng.IntN(12), s.rng)
}

func (s *simSite) evStart() {
	for _, n := range s.nodes {
		switch {
		case s.rng.IntN(3) > 0:
		case !n.up:
			n.start()
			return
		case n.offline:
			n.crash(true, "")
			return
		}
	}
}

func (s *simSite) evPause() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	n.paused = !n.paused
	for _, o := range s.nodes {
		if o != n && s.rng.IntN(2) == 0 {
			o.paused = false
		}
	}
}

func (s *simSite) evClock() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	n.skew += time.Duration(s.rng.Int64N(int64(4*time.Minute))) - 2*time.Minute
}

// evFull lets a disk run full, or have room again.
func (s *simSite) evFull() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	if s.rng.IntN(2) == 0 {
		for _, n := range s.nodes {
			n.mem.SetCapacity(0)
		}
		return
	}
	if space, err := n.mem.Space("/"); err == nil {
		s.counts.full++
		n.mem.SetCapacity(space.Total - space.Free + 1 + s.rng.Int64N(1500))
	}
}

func (s *simSite) evFailSync() {
	if n := s.nodes[s.rng.IntN(len(s.nodes))]; n.up && s.mood.power {
		n.failSync = true
	}
}

// evTransfer hands leadership over.
func (s *simSite) evTransfer() {
	g := s.groups[s.rng.IntN(len(s.groups))]
	r := g.target()
	if r == nil || r.core.role != raft.StateLeader {
		return
	}
	ids := r.core.conf.state.Voters
	to := ids[s.rng.IntN(len(ids))]
	if to == r.member {
		return
	}
	s.counts.transfers++
	r.in.msgs = append(r.in.msgs, pb.Message{Type: pb.MsgTransferLeader, From: to, To: r.member})
	r.step()
}

func (s *simSite) evCampaign() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	if r := n.reps[s.rng.IntN(len(s.groups))]; r.working() {
		r.in.campaign = true
		r.step()
	}
}

func (s *simSite) evRoll() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	if r := n.reps[s.rng.IntN(len(s.groups))]; r.working() {
		r.in.rollNow, r.in.flush = s.rng.IntN(3) > 0, true
		r.step()
	}
}

// evRetention moves the log start, or raises the epoch.
func (s *simSite) evRetention() {
	g := s.groups[s.rng.IntN(len(s.groups))]
	r := g.target()
	if r == nil || g.machine || g.keyed {
		return
	}
	var e ControlEntry = EpochBase{Base: s.rng.Int32N(60)}
	if s.rng.IntN(4) > 0 {
		hw := r.core.hw
		e = LogStart{Offset: hw - s.rng.Int64N(min(hw, 60)+1)}
	}
	r.submit(&proposal{kind: propControl, control: e, failed: func(err error) {
		if l, ok := e.(LogStart); ok && err == nil && !r.unread && g.start < l.Offset {
			s.fail("%s: log start %d is acknowledged, committed is %d", r, l.Offset, g.start)
		}
	}})
}

// evCompact compacts a replica's log, as far as every member has it unless it can
// have files: what is compacted cannot be sent as messages.
func (s *simSite) evCompact() {
	g := s.groups[s.rng.IntN(len(s.groups))]
	r := s.nodes[s.rng.IntN(len(s.nodes))].reps[g.at]
	if !g.keyed || !r.working() || r.core.controlAt > r.core.applied {
		return
	}
	most := r.core.applied
	for _, n := range s.nodes {
		if o := n.reps[g.at]; o != nil && !s.byFiles() {
			if !o.working() {
				return
			}
			most = min(most, o.core.applied)
		}
	}
	off, now := r.core.offsets(), r.n.wall()
	plan := planCompaction(r.log.Segments(), Compaction{On: true}, compactionLimit{off.LastStable, most}, now)
	if len(plan.segments) == 0 {
		return
	}
	c := &compactor{keys: newOffsetMap(4096), start: off.Start, now: now, horizon: deleteHorizon(now, time.Hour), lasts: map[int64]int64{}}
	for _, p := range r.core.tail.producers.info() {
		c.lasts[p.ID] = p.LastOffset
	}
	p := pass{log: r.log, compactor: c, pace: newPace(0), segmentBytes: s.mood.roll, done: func(storage.Rewritten) { s.counts.compactions++ }}
	err := p.run(context.Background(), plan)
	if err != nil && r.n.damaged && r.isDamage(err) {
		r.noteDamage()
		return
	}
	if err != nil && !errors.Is(err, storage.ErrNotSealed) && !r.diskFails(err) {
		s.fail("%s: compact: %v", r, err)
	}
	r.in.trimmed = true
	r.step()
}

// evFlip inverts a bit on a node's disk, at a place in a live segment that
// something durable states to be synced: it must be found.
func (s *simSite) evFlip() {
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	r := n.reps[s.rng.IntN(len(s.groups))]
	if s.lost != nil || r == nil || !r.live || n.mem.Dead() || n.offline || s.hasKeyed() {
		return
	}
	// What a power cut would leave: that is what is durable.
	file, at, ok := s.protected(n.mem.PowerCut(), "data/"+r.g.id.String())
	if !ok {
		return
	}
	if err := n.mem.Flip(file, at, 1<<s.rng.IntN(8)); err != nil {
		return // not durable any more: retention has deleted it meanwhile
	}
	s.counts.flips++
	s.lost, n.damaged, n.flipped = n, true, r
	s.note("a bit is flipped at byte %d of %s on node %d", at, file, n.broker)
	rep, err := storage.Verify(n.mem.KillClone(), "data/"+r.g.id.String())
	if err != nil || !rep.Damaged() {
		s.fail("%s: a bit flipped at byte %d of %s is not found: %+v, %v", r, at, file, rep, err)
	}
}

// hasKeyed reports whether a group is compacted: where its segments do not go to
// followers as files, a member of it cannot be replaced.
func (s *simSite) hasKeyed() bool {
	if s.byFiles() {
		return false
	}
	for _, g := range s.groups {
		if g.keyed {
			return true
		}
	}
	return false
}

// evWipe empties the disk of a node, which comes back as other members of its
// groups. A node whose disk is damaged ends so, too.
func (s *simSite) evWipe() {
	n := s.lost
	if n == nil {
		n = s.nodes[s.rng.IntN(len(s.nodes))]
	}
	if len(n.gone) > 0 || s.hasKeyed() {
		return
	}
	s.wipe(n)
}

func (s *simSite) wipe(n *siteNode) {
	s.counts.wipes++
	s.note("node %d loses its disk", n.broker)
	if n.up {
		n.crash(false, "")
	}
	s.lost, n.mem, n.damaged, n.offline = n, vfs.NewMem(), false, false
	n.incarnation++
	for i, r := range n.reps {
		if r != nil {
			n.gone = append(n.gone, siteLoss{r.g, r.member})
			n.reps[i] = nil
		}
	}
	s.regain()
}

// regain notes when no group counts on what a node has lost any more, and a majority
// of each knows that: until then the loss of another node is one too many.
func (s *simSite) regain() {
	n := s.lost
	if n == nil || n.damaged {
		return
	}
	for _, l := range n.gone {
		if l.g.mayHave(l.member) || !l.g.membersKnown() {
			return
		}
	}
	n.gone, s.lost = nil, nil
}
