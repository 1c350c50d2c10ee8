package replica

import (
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
)

// siteLife is a frame in which a node says that it lives, see Set.beat. The
// heartbeats of groups are messages of their own here, which may come in any
// order and not at all, each by itself.
type siteLife struct {
	from, to uint64
	frame    []byte
}

// tick lets time pass on a node, as Set.tickGroups does.
func (n *siteNode) tick(ticks int) {
	if !n.up || n.paused || n.mem.Dead() {
		return
	}
	for range ticks {
		for _, id := range slices.Sorted(slices.Values(n.peers.tick(suspectTicks))) {
			n.suspect(id)
		}
	}
	for _, r := range n.reps {
		switch {
		case r == nil:
		case r.core != nil:
			r.pass(ticks)
		default:
			for _, id := range r.told {
				n.peers.silence(id)
				n.peers.add(id, beat{group: keyOf(r.g.id), kind: beatGone})
			}
		}
	}
	frames := n.peers.frames(true)
	for _, id := range slices.Sorted(maps.Keys(frames)) {
		n.s.net = append(n.s.net, packet{life: &siteLife{n.member(), id, frames[id][0]}})
	}
	n.s.shed()
}

// pass gives a replica ticks, unless it rests and nobody is silent.
func (r *siteReplica) pass(ticks int) {
	n, v := r.n, r.core.view()
	for _, id := range v.others {
		heard, echoed := n.peers.silence(id)
		if wake, missed := v.roused(id, heard, echoed, n.s.mood.election); wake && !n.s.plant.deaf {
			r.in.wake = true
			r.in.ticks += missed
			n.s.counts.roused++
		}
	}
	if v.ticks {
		r.in.ticks += ticks
	}
	if v.ticks || r.in.wake || len(r.stalled) > 0 { // see Set.wakeStalled
		r.step()
	}
}

// suspect has the groups elect early that a member leads. It reports which.
func (n *siteNode) suspect(member uint64) (led []*siteReplica) {
	for _, r := range n.reps {
		if r.working() && r.core.lead == member {
			r.in.suspect = member
			r.step()
			led = append(led, r)
		}
	}
	return led
}

// deliverLife does what Set.receiveBeats does.
func (s *simSite) deliverLife(l *siteLife) {
	n := s.nodes[brokerOf(l.to)-1]
	if !n.up || n.paused || n.mem.Dead() || n.member() != l.to || !s.healing && s.cut[brokerOf(l.from)][n.broker] {
		return
	}
	f, err := decodeBeats(l.frame)
	if err != nil || f.to != l.to {
		s.fail("node %d: a sign of life of member %d: %+v, %v", n.broker, l.from, f, err)
	}
	if n.peers.hears(l.from, &f) {
		led := n.suspect(l.from)
		for _, r := range n.reps {
			if r.working() && r.core.quiet && !slices.Contains(led, r) {
				r.in.wake = true
				r.step()
			}
		}
	}
	for i := range f.beats {
		for _, r := range n.reps {
			if r.working() && keyOf(r.g.id) == f.beats[i].group && r.core.lead == l.from {
				r.in.suspect = l.from
				r.step()
			}
		}
	}
}

// evHint has a node hear that another has failed, which may be true.
func (s *simSite) evHint() {
	if n := s.nodes[s.rng.IntN(len(s.nodes))]; n.up {
		n.peers.suspect(s.nodes[s.rng.IntN(len(s.nodes))].broker)
	}
}

// checkQuiet: who goes quiet has what is committed, and a leader does only when
// every member has all that it has.
func (r *siteReplica) checkQuiet() {
	c := r.core
	if was := r.quiet; c.quiet == was {
		return
	}
	if r.quiet = c.quiet; !r.quiet {
		return
	}
	s := r.n.s
	s.counts.rests++
	s.note("%s is quiet", r)
	if c.applied != c.tail.index {
		s.fail("%s: is quiet with entry %d applied, its log ends at %d", r, c.applied, c.tail.index)
	}
	if c.role != raft.StateLeader {
		return
	}
	for _, id := range c.others {
		o := s.nodes[brokerOf(id)-1].reps[r.g.at]
		if o != nil && o.member == id && o.core != nil && o.core.tail.index < c.tail.index {
			s.fail("%s: is quiet at entry %d, %s has %d", r, c.tail.index, o, o.core.tail.index)
		}
	}
}

// rest lets the groups of a healthy site go quiet, and then a node is gone: who
// rests must notice.
func (s *simSite) rest() {
	if s.mood.quiet == 0 {
		return
	}
	for tick := 0; slices.ContainsFunc(s.groups, func(g *siteGroup) bool { return !g.rests() }); tick++ {
		if tick == restsWithin {
			s.fail("not quiet after %d ticks without anything to do\n%s", tick, s.describe())
		}
		for _, g := range s.groups {
			s.cleanUp(g) // a removed member that does not know wakes the others
		}
		s.tickAll()
	}
	n := s.nodes[s.rng.IntN(len(s.nodes))]
	if n.paused = s.rng.IntN(2) == 0; !n.paused {
		n.crash(false, "")
	}
	s.waitWritable(n)
	if n.paused = false; !n.up {
		n.start()
	}
	s.waitWritable(nil)
	s.waitWhole()
}

// rests reports whether all members are quiet; a group of one has no ticks.
func (g *siteGroup) rests() bool {
	for _, id := range append(slices.Clone(g.conf.Voters), g.conf.Learners...) {
		if c := g.s.nodes[brokerOf(id)-1].reps[g.at].core; !c.quiet && !c.single() {
			return false
		}
	}
	return true
}

// majorityWithout reports whether the group can do without a node.
func (g *siteGroup) majorityWithout(n *siteNode) bool {
	here := slices.ContainsFunc(g.conf.Voters, func(id uint64) bool { return brokerOf(id) == n.broker })
	return !here || len(g.conf.Voters) > 2
}
