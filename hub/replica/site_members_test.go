package replica

import (
	"errors"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

func inConf(c *pb.ConfState, member uint64) bool {
	for _, ids := range [][]uint64{c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext} {
		if slices.Contains(ids, member) {
			return true
		}
	}
	return false
}

// mayHave reports whether a member is in the group, or a change that makes it
// one may be on its way.
func (g *siteGroup) mayHave(member uint64) bool {
	if inConf(&g.conf, member) {
		return true
	}
	for _, n := range g.s.nodes {
		r := n.reps[g.at]
		if r == nil || r.bad || !inConf(&g.conf, r.member) {
			continue
		}
		if r.core == nil {
			return true
		}
		if p := r.core.conf.pending; len(p) > 0 && p[len(p)-1].index > g.confAt {
			return true
		}
	}
	return false
}

// evMembers changes who is in a group, or deletes what is not any more.
func (s *simSite) evMembers() {
	s.regain()
	g := s.groups[s.rng.IntN(len(s.groups))]
	if g.keyed {
		return
	}
	if s.rng.IntN(3) == 0 {
		s.cleanUp(g)
		return
	}
	g.changeMembers()
}

// cleanUp deletes the replicas of members that were removed, once the leader says
// that a majority of those that stay know of it for good: as long as one takes the
// change for uncommitted it needs the votes of those that go.
func (s *simSite) cleanUp(g *siteGroup) {
	if !g.membersKnown() {
		return
	}
	for _, n := range s.nodes {
		r := n.reps[g.at]
		if r == nil || !n.up || n.paused || n.mem.Dead() || !g.ever[r.member] || g.mayHave(r.member) {
			continue
		}
		s.note("%s is deleted", r)
		r.stop()
		r.deleted = true
		s.forget(r)
		if r.log != nil {
			_ = r.log.Close()
		}
		if err := n.store.Remove(g.id); err != nil && !n.mem.Dead() && !n.offline {
			s.fail("%s: remove: %v", r, err)
		}
		if !n.mem.Dead() && !n.offline {
			n.reps[g.at] = nil
		}
	}
}

// membersKnown reports whether the leader says that a majority knows the members for
// good, and has it write something if that is wanting.
func (g *siteGroup) membersKnown() bool {
	r := g.leader()
	if r == nil || r.core.conf.index < g.confAt {
		return false
	}
	if r.core.tail.index < r.core.knownFrom {
		r.submit(&proposal{kind: propBarrier, failed: func(error) {}})
	}
	return r.core.membersKnown()
}

// forget takes what a deleted replica has said off the network, and what is said
// to it, but for what asks for its vote: connections keep what they carry in
// order, and do not keep it for as long as a move takes.
func (s *simSite) forget(r *siteReplica) {
	s.lose(func(p packet) bool {
		return p.g == r.g && (p.m.From == r.member || p.m.To == r.member && p.m.Type != pb.MsgVote && p.m.Type != pb.MsgPreVote)
	})
}

// lose takes messages off the network.
func (s *simSite) lose(which func(packet) bool) {
	s.net, s.late = slices.DeleteFunc(s.net, which), slices.DeleteFunc(s.late, which)
}

// place gives a node a replica that is to be added to the group: the member that
// it was, unless its disk was lost, as a node does that is told to have it again.
func (g *siteGroup) place(n *siteNode) *siteReplica {
	r := newSiteReplica(n, g, n.member())
	r.joins = true
	n.reps[g.at] = r
	if n.up && !n.mem.Dead() {
		r.open()
	}
	return r
}

// changeMembers has the leader take a step: a lost member is replaced first.
func (g *siteGroup) changeMembers() {
	s := g.s
	r := g.target()
	if r == nil || r.core.role != raft.StateLeader || len(r.core.conf.pending) > 0 {
		return
	}
	conf := &r.core.conf.state
	if len(conf.VotersOutgoing) > 0 {
		g.change(r, pb.ConfChangeV2{})
		return
	}
	if lost, ok := g.lostMember(conf); ok {
		g.replace(r, lost)
		return
	}
	rng := s.rng
	if n := len(conf.Learners); n > 0 && rng.IntN(2) == 0 {
		l := conf.Learners[rng.IntN(n)]
		switch {
		case rng.IntN(4) == 0 || !r.caught(l):
			if rng.IntN(4) == 0 {
				g.change(r, single(pb.ConfChangeRemoveNode, l))
			}
		case len(conf.Voters) < 5 && rng.IntN(3) == 0:
			g.change(r, single(pb.ConfChangeAddNode, l))
		default:
			g.swap(r, l, conf.Voters[rng.IntN(len(conf.Voters))])
		}
		return
	}
	if len(conf.Voters) > s.mood.least && rng.IntN(2) == 0 {
		g.change(r, single(pb.ConfChangeRemoveNode, conf.Voters[rng.IntN(len(conf.Voters))]))
		return
	}
	g.addLearner(r)
}

// caught reports whether a learner may vote.
func (r *siteReplica) caught(learner uint64) bool {
	return slices.ContainsFunc(r.core.progress(), func(p Progress) bool { return p.Member == learner && p.Caught && p.Active })
}

// lostMember is a member whose data is gone.
func (g *siteGroup) lostMember(conf *pb.ConfState) (uint64, bool) {
	if g.s.lost == nil {
		return 0, false
	}
	for _, l := range g.s.lost.gone {
		if l.g == g && inConf(conf, l.member) {
			return l.member, true
		}
	}
	return 0, false
}

// replace puts a new member in the place of a lost one: as a learner, and once
// that has caught up, in one joint change.
func (g *siteGroup) replace(r *siteReplica, lost uint64) {
	conf := &r.core.conf.state
	if slices.Contains(conf.Learners, lost) {
		g.change(r, single(pb.ConfChangeRemoveNode, lost))
		return
	}
	for _, l := range conf.Learners {
		if r.caught(l) {
			g.swap(r, l, lost)
			return
		}
	}
	g.addLearner(r)
}

func (g *siteGroup) addLearner(r *siteReplica) {
	var free []*siteNode
	for _, n := range g.s.nodes {
		if o := n.reps[g.at]; !n.damaged && n.up && (o == nil || !g.ever[o.member] && !inConf(&r.core.conf.state, o.member)) {
			free = append(free, n)
		}
	}
	if len(free) == 0 {
		return
	}
	n := free[g.s.rng.IntN(len(free))]
	o := n.reps[g.at]
	if o == nil {
		o = g.place(n)
	}
	g.change(r, single(pb.ConfChangeAddLearnerNode, o.member))
}

func single(t pb.ConfChangeType, member uint64) pb.ConfChangeV2 {
	return pb.ConfChangeV2{Changes: []pb.ConfChangeSingle{{Type: t, NodeID: member}}}
}

// swap makes a learner a voter in the place of another, in one joint change.
func (g *siteGroup) swap(r *siteReplica, in, out uint64) {
	how := pb.ConfChangeTransitionJointExplicit
	if g.s.rng.IntN(3) == 0 {
		how = pb.ConfChangeTransitionJointImplicit
	}
	g.change(r, pb.ConfChangeV2{Transition: how, Changes: []pb.ConfChangeSingle{
		{Type: pb.ConfChangeAddNode, NodeID: in}, {Type: pb.ConfChangeRemoveNode, NodeID: out},
	}})
}

// change proposes a change, unless the leader would not be a voter after it: then
// it hands over first. Who removes itself takes its entries along: the others may
// not know yet that they need one vote less.
func (g *siteGroup) change(r *siteReplica, cc pb.ConfChangeV2) {
	next, err := applyConfChange(r.core.conf.state, cc, r.core.tail.index)
	if err == nil && !slices.Contains(next.Voters, r.member) && !slices.Contains(next.VotersOutgoing, r.member) {
		for _, to := range next.Voters {
			if slices.Contains(r.core.conf.state.Voters, to) {
				r.in.props = append(r.in.props, &proposal{kind: propTransfer, to: to, failed: func(error) {}})
			}
		}
		r.step()
		return
	}
	g.s.note("%s proposes %v", r, cc.Changes)
	// Now or never: one that is proposed later could bring a member back whose
	// replica has been deleted meanwhile.
	p := &proposal{kind: propConfChange, change: cc, failed: func(err error) {
		if err != nil && !uncertain(err) && !errors.Is(err, record.ErrInvalidRequest) {
			g.s.fail("%s: change of membership: %v", r, err)
		}
	}}
	r.in.props = append(r.in.props, p)
	r.step()
}
