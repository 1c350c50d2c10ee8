package replica

import (
	"context"
	"errors"
	"syscall"

	"github.com/entrepot-hub/entrepot/record"
	pb "go.etcd.io/raft/v3/raftpb"
)

// siteAsked is a leader that a damaged replica has asked for its log: it commits
// something before it answers.
type siteAsked struct {
	lead      *siteReplica
	life      *core
	committed bool
}

func (s *simSite) evRepair() {
	if !s.mood.repair {
		return
	}
	if n := s.lost; n != nil && n.damaged && n.up && !n.paused {
		n.flipped.scrub()
	}
	s.repairAll()
}

// scrub reads the log whole, as a node does now and then, and finds the damage.
func (r *siteReplica) scrub() {
	if r.core == nil || r.n.mem.Dead() || r.n.offline {
		return
	}
	for _, seg := range r.log.Segments() {
		_, _ = r.log.Scrub(context.Background(), seg.Seq, nil)
	}
	r.noteDamage()
}

// noteDamage does what Replica.noteDamage does for who has read the log.
func (r *siteReplica) noteDamage() {
	if damage := r.log.Damage(); damage != nil && !r.n.mem.Dead() {
		r.err = errors.Join(record.ErrQuarantined, damage)
		r.step()
	}
}

func (s *simSite) repairAll() {
	for _, n := range s.nodes {
		for _, r := range n.reps {
			if r != nil && r.bad && r.log != nil && n.up && !n.paused && !n.mem.Dead() && !n.offline {
				r.repair()
			}
		}
	}
}

// repairable reports whether what was damaged on a node is found, and may be
// repaired.
func (n *siteNode) repairable() bool {
	r := n.flipped
	return n.s.mood.repair && n.reps[r.g.at] == r && r.bad && r.log != nil
}

// createLost makes an empty log, quarantined, of one of which nothing can be read.
func (r *siteReplica) createLost() {
	if r.n.s.plant.truncate != nil {
		return
	}
	log, err := r.n.store.CreateLost(r.g.id)
	if err != nil && !r.diskFails(err) && !errors.Is(err, syscall.ENOSPC) {
		r.n.s.fail("%s: create a log in the place of a lost one: %v", r, err)
	}
	if err == nil {
		r.log = log
	}
}

// repair takes the next step of a replica that has no core because its log is
// damaged, see Set.fetchOnce and Replica.recoverFrom.
func (r *siteReplica) repair() {
	s := r.n.s
	if r.files != nil && r.files.life != nil {
		r.files = nil // it was asked for before the damage was found
	}
	switch a := r.asked; {
	case r.files != nil:
		if s.healing || s.rng.IntN(3) == 0 {
			r.recoverFrom(r.files)
		}
	case a == nil:
		r.ask()
	case a.lead.core != a.life || !a.lead.working() || !a.committed && s.rng.IntN(20) == 0:
		r.asked = nil
	case a.committed:
		r.asked = nil
		r.files = r.stage(a.lead.member)
	}
}

func (r *siteReplica) ask() {
	s, lead := r.n.s, r.g.target()
	if lead == nil || !s.healing && (s.cut[lead.n.broker][r.n.broker] || s.cut[r.n.broker][lead.n.broker]) {
		return
	}
	a := &siteAsked{lead: lead, life: lead.core}
	r.asked = a
	lead.submit(&proposal{kind: propBarrier, failed: func(err error) { a.committed = err == nil }})
}

// recoverFrom puts the leader's log in the place of the damaged one. What the
// replica has promised may be lost with that: nobody counts on it any more, since
// the leader has committed something without this one. What it has sent before is
// not on its way any more: a connection does not keep it for as long.
func (r *siteReplica) recoverFrom(f *siteFiles) {
	s := r.n.s
	r.files = nil
	r.term, r.votes, r.acked, r.ackedIn, r.cuts = 0, map[uint64]uint64{}, 0, 0, nil
	s.lose(func(p packet) bool { return p.g == r.g && p.m.From == r.member })
	if err := r.log.Install(f.g, ownHard(r.log.Promised(), f.o.term, f.o.commit)); err != nil {
		if !r.diskFails(err) && !errors.Is(err, record.ErrOffline) {
			s.fail("%s: repair: %v", r, err)
		}
		return
	}
	s.counts.repaired++
	s.note("%s is repaired with the log of term %d to entry %d", r, f.o.term, f.o.manifest.State.Index)
	r.bad, r.unread = false, false
	if r.n.flipped == r {
		r.n.damaged, r.n.flipped, s.lost = false, nil, nil
	}
	r.checkReopened()
	r.startCore()
	if r.core != nil && r.core.term == f.o.term {
		r.send([]pb.Message{r.core.has(f.o.member, f.o.manifest.State.Index)})
	}
}
