package replica

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	pb "go.etcd.io/raft/v3/raftpb"
)

// group is a group on the way to other members, without logs.
type movingGroup struct {
	t      *testing.T
	conf   pb.ConfState
	lead   uint64
	caught map[uint64]bool
	index  uint64
}

// step does what nextStep says, and checks that it could be done.
func (g *movingGroup) step(want Members) moveStep {
	g.t.Helper()
	have := membersOf(&g.conf)
	var progress []Progress
	for _, id := range slices.Concat(have.Voters, have.Learners, have.Outgoing) {
		progress = append(progress, Progress{Member: id, Learner: slices.Contains(have.Learners, id) && !slices.Contains(have.Outgoing, id), Caught: g.caught[id], Active: true})
	}
	s := nextStep(g.lead, want, have, progress)
	switch s.kind {
	case moveChange:
		g.index++
		next, err := applyConfChange(g.conf, s.change, g.index)
		if err != nil {
			g.t.Fatalf("%s: %v", s.what, err)
		}
		for _, id := range next.Voters {
			if !slices.Contains(have.Voters, id) && !g.caught[id] {
				g.t.Fatalf("%s: member %d votes and has not caught up", s.what, id)
			}
		}
		if after := membersOf(&next); !slices.Contains(after.Voters, g.lead) && !slices.Contains(after.Outgoing, g.lead) {
			g.t.Fatalf("%s: leader %d is no voter of %+v", s.what, g.lead, after)
		}
		g.conf = next
	case moveTransfer:
		if !slices.Contains(slices.Concat(have.Voters, have.Outgoing), s.to) || !g.caught[s.to] {
			g.t.Fatalf("%s: member %d cannot lead %+v", s.what, s.to, have)
		}
		g.lead = s.to
	}
	return s
}

// Whatever is wanted, whoever leads, and however often the wish changes on the
// way, each step can be taken, and the last wish is reached.
func TestMoveRandom(t *testing.T) {
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		pick := func(n int) []uint64 {
			all := rng.Perm(6)[:n]
			ids := make([]uint64, n)
			for i, v := range all {
				ids[i] = uint64(v + 1)
			}
			return ids
		}
		voters := pick(1 + rng.IntN(5))
		g := &movingGroup{t: t, conf: pb.ConfState{Voters: voters}, lead: voters[0], caught: map[uint64]bool{}, index: 1}
		for _, id := range voters {
			g.caught[id] = true
		}
		var want Members
		wish := func() {
			ids := pick(1 + rng.IntN(6))
			n := 1 + rng.IntN(len(ids))
			want = Members{Voters: ids[:n], Learners: ids[n:]}
		}
		wish()
		for range rng.IntN(20) {
			switch rng.IntN(6) {
			case 0:
				wish()
			case 1: // an election
				have := membersOf(&g.conf)
				g.lead = have.Voters[rng.IntN(len(have.Voters))]
			case 2:
				g.caught[uint64(1+rng.IntN(6))] = true
			default:
				g.step(want)
			}
		}
		for id := range uint64(6) {
			g.caught[id+1] = true
		}
		n := 0
		for g.step(want).kind != moveDone {
			if n++; n > 30 {
				t.Fatalf("seed %d: %+v does not become %+v", seed, g.conf, want)
			}
		}
		have := membersOf(&g.conf)
		if !sameMembers(have.Voters, want.Voters) || !sameMembers(have.Learners, want.Learners) || have.Outgoing != nil {
			t.Fatalf("seed %d: done with %+v, want %+v", seed, have, want)
		}
	}
}

// A move waits for members that are behind, and takes no step twice.
func TestMoveSteps(t *testing.T) {
	g := &movingGroup{t: t, conf: pb.ConfState{Voters: []uint64{1, 2, 3}}, lead: 1, caught: map[uint64]bool{1: true, 2: true, 3: true}, index: 1}
	want := Members{Voters: []uint64{2, 3, 4}}
	var told []string
	tell := func() { told = append(told, g.step(want).what) }
	tell()
	tell()
	g.caught[4] = true
	for range 4 {
		tell()
	}
	wanted := []string{
		"add node 4 as a learner",
		"wait until new members have everything: node 4: it is at entry 0",
		"let node 2 lead",
		"change the voters",
		"leave the joint configuration",
		"done",
	}
	if !slices.Equal(told, wanted) {
		t.Errorf("%q", told)
	}
}

// reconcile asks the leader until the group has the wanted members.
func (s *site) reconcile(p int32, want Members) (told []string) {
	s.t.Helper()
	eventually(s.t, func() bool {
		m, err := s.leader(p).Reconcile(s.t.Context(), want)
		if err != nil {
			told = append(told, err.Error())
			return false
		}
		if n := len(told); n == 0 || told[n-1] != m.Doing {
			told = append(told, m.Doing)
		}
		return m.Done
	})
	return told
}

// A partition moves from three nodes to three others while it is written to,
// the one that leads included; then to one; and a node that comes back with an
// empty disk becomes a member again under its next incarnation.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3, 4, 5, 6, MemberID(2, 1))
		defer s.stopAll()
		spec := Spec{ID: clicks(0), Born: []uint64{1, 2, 3}}
		s.add(spec)
		s.write(0, "a", "b")
		ctx, cancel := context.WithCancel(t.Context())
		var written int
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				s.write(0, "x")
				written++
				<-time.After(5 * time.Millisecond) // the bubble's clock must go on
			}
		}()
		for _, want := range []Members{
			{Voters: []uint64{4, 5, 6}},
			{Voters: []uint64{1, 4, 5}, Learners: []uint64{2}},
			{Voters: []uint64{2}},
			{Voters: []uint64{MemberID(2, 1), 1, 3}, Learners: []uint64{4}},
		} {
			told := s.reconcile(0, want)
			lead := s.leader(0)
			if have := lead.Members(); !sameMembers(have.Voters, want.Voters) || !sameMembers(have.Learners, want.Learners) {
				t.Fatalf("%+v, want %+v: %q", have, want, told)
			}
		}
		cancel()
		<-done
		s.net.cut(2, true) // they are not in the group any more
		for _, id := range []uint64{2, 5, 6} {
			s.stop(id)
		}
		s.write(0, "last")
		s.same(0)
		if hw := s.leader(0).Offsets().HighWatermark; hw < int64(written+3) {
			t.Errorf("%d of %d acknowledged records", hw, written+3)
		}
	})
}

// A planned change of the leader: nobody waits for an election timeout, and
// a node that cannot lead is not let.
func TestTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3, 4)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a")
		s.same3()
		lead := s.leader(0)
		from, epoch := lead.Leader()
		to := from%3 + 1
		began := time.Now()
		if err := lead.TransferTo(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		s.write(0, "b")
		if n, e := s.leader(0).Leader(); n != to || e <= epoch {
			t.Errorf("node %d leads in epoch %d, want %d after %d", n, e, to, epoch)
		}
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("nobody could write for %v of the bubble's time", took)
		}
		lead = s.leader(0)
		if err := lead.TransferTo(t.Context(), 4); !errors.Is(err, record.ErrInvalidReplicas) {
			t.Errorf("to a node without a voter: %v", err)
		}
		s.net.cut(uint64(from), true)
		eventually(t, func() bool {
			all, err := lead.Progress(t.Context())
			return err == nil && slices.ContainsFunc(all, func(p Progress) bool { return p.Node() == from && !p.Active })
		})
		if err := lead.TransferTo(t.Context(), from); !errors.Is(err, record.ErrInvalidReplicas) {
			t.Errorf("to a node that is silent: %v", err)
		}
		if err := s.replica(uint64(from), 0).TransferTo(t.Context(), 1); err == nil {
			t.Error("a follower hands over")
		}
		s.write(0, "c")
	})
}

// same3 is same for the first three nodes.
func (s *site) same3() {
	eventually(s.t, func() bool {
		last := s.replica(1, 0).Status().Applied
		return s.replica(2, 0).Status().Applied == last && s.replica(3, 0).Status().Applied == last
	})
}

// Nodes that a group has left, and that have deleted their copies, do not begin
// it anew among themselves when it is to come back.
func TestMoveBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3, 4, 5, 6)
		defer s.stopAll()
		spec := Spec{ID: clicks(0), Born: []uint64{1, 2, 3}}
		s.add(spec)
		s.write(0, "a", "b")
		s.reconcile(0, Members{Voters: []uint64{4, 5, 6}})
		spec.Joins = true
		for id := range uint64(3) {
			if err := s.nodes[id+1].set.Remove(spec.ID, true); err != nil {
				t.Fatal(err)
			}
			s.addTo(id+1, spec)
		}
		for id := range uint64(3) {
			s.net.cut(id+4, true)
		}
		<-time.After(20 * time.Second)
		for id := range uint64(3) {
			if st := s.replica(id+1, 0).Status(); st.Role == RoleLeader || st.Last != 0 {
				t.Errorf("node %d: %s with entries to %d", id+1, st.Role, st.Last)
			}
		}
		for id := range uint64(3) {
			s.net.cut(id+4, false)
		}
		s.reconcile(0, Members{Voters: []uint64{1, 2, 3}})
		s.write(0, "c")
		for id := range uint64(3) {
			s.stop(id + 4)
		}
		s.same(0)
		if hw := s.leader(0).Offsets().HighWatermark; hw != 3 {
			t.Errorf("%d records, want 3", hw)
		}
	})
}

// A member that was cut off asks for votes all the time, and one that was removed
// meanwhile does so for ever: nobody minds, and no term rises.
func TestRemovedMemberTalks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, Config{Workers: 2}, 1, 2, 3)
		defer s.stopAll()
		s.add(Spec{ID: clicks(0), Born: []uint64{1, 2, 3}})
		s.write(0, "a")
		node, _ := s.leader(0).Leader()
		out := uint64(node%3 + 1)
		s.net.cut(out, true)
		before := s.leader(0).Status().Term
		<-time.After(20 * time.Second)
		s.net.cut(out, false)
		<-time.After(5 * time.Second)
		if now := s.leader(0).Status().Term; now != before {
			t.Errorf("term %d, and %d after a member was cut off", before, now)
		}
		s.net.cut(out, true)
		var stay []uint64
		for _, id := range s.ids() {
			if id != out {
				stay = append(stay, id)
			}
		}
		s.reconcile(0, Members{Voters: stay})
		s.write(0, "b")
		term := s.leader(0).Status().Term
		s.net.cut(out, false)
		for range 20 {
			<-time.After(time.Second)
			s.write(0, "x")
		}
		if now := s.leader(0).Status(); now.Term != term || now.Leader != node {
			t.Errorf("node %d leads in term %d, want %d in term %d", now.Leader, now.Term, node, term)
		}
		if st := s.replica(out, 0).Status(); st.Role == RoleLeader || st.Offsets.HighWatermark != 1 {
			t.Errorf("the removed member: %+v", st)
		}
	})
}
