package replica

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/entrepot-hub/entrepot/storage"
	pb "go.etcd.io/raft/v3/raftpb"
)

// A damaged log that no other replica can repair is put together from what can
// be read of it (storage.Salvage). What it amounts to is computed here as a replica
// does at open, but over gaps:
//
//   - A segment header behind a gap holds the state with what was lost: from there
//     on nothing is missing in the state, and it tells how the transactions ended
//     whose markers were lost. Those markers are put back (markers.go).
//   - Behind the newest header what was lost is missing in the state, too. Of a
//     batch whose header can be read it is taken in all the same.

// ErrNotAlone is about a log that is not to be repaired here: its group has other
// members, which have the same entries.
var ErrNotAlone = errors.New("it has other replicas")

// Mending is what a damaged log amounts to.
type Mending struct {
	Aux  storage.Aux     // the state at its end
	Fill []storage.Entry // markers to put back

	// Others are the nodes that have, or are to have, replicas of it.
	Others []int32
	// Decisions says that control entries may be lost: the log start, the
	// relation to a link, and who has replicas.
	Decisions bool
	// Ended are the transactions whose markers are put back.
	Ended []MendedTxn
	// Open are those that are open at the end of the log and may have ended in a
	// gap: nobody knows how.
	Open []MendedTxn
	// Joined are those that may have ended in a gap, if they do not go on behind
	// it: then they end as the producer's next one did, at Marker.
	Joined []MendedTxn
}

// MendedTxn is a transaction of a producer whose marker was lost, or may be.
type MendedTxn struct {
	Producer int64 `json:"producer_id"`
	First    int64 `json:"first_offset"`
	Marker   int64 `json:"marker_offset"` // -1: nobody knows whether there was one
	Commit   bool  `json:"commit"`
	// Guessed: nothing tells how it ended, so it is aborted.
	Guessed bool `json:"guessed,omitempty"`
}

// Mend computes what becomes of a damaged log. self is this node's member. With
// only, nobody else has a replica any more, whatever the log says of it, and the
// group has self alone from now on. now is in ms.
func Mend(s *storage.Salvage, self uint64, only bool, now int64) (Mending, error) {
	m := mender{now: now, salvage: s}
	if err := s.Walk(storage.Walker{State: m.header, Entry: m.entry, Gap: m.gap}); err != nil {
		return m.out, fmt.Errorf("mend log %s: %w", s.Log, err)
	}
	m.resolveEnd()
	// Once more, with the markers in their places.
	second := mender{now: now, salvage: s, fill: m.out.Fill, again: true}
	if err := s.Walk(storage.Walker{State: second.header, Entry: second.entry, Gap: second.gap}); err != nil {
		return m.out, fmt.Errorf("mend log %s: %w", s.Log, err)
	}
	m.out.Open = m.stillOpen(&second.tail.producers)
	if err := second.close(&m.out, self, only); err != nil {
		return m.out, fmt.Errorf("mend log %s: %w", s.Log, err)
	}
	return m.out, nil
}

// mender folds a log with gaps.
type mender struct {
	salvage *storage.Salvage
	now     int64
	tail    logState
	conf    confState
	snap    machineSnapshot
	epoch   int32 // of the last entry
	holes   []*hole
	out     Mending
	again   bool            // the second time, when all markers are known
	fill    []storage.Entry // again: those not yet taken
}

// header is a storage.Walker's State.
func (m *mender) header(st storage.State) error {
	tail, snap, conf, err := decodeState(st, 0)
	if err != nil {
		return fmt.Errorf("state before entry %d: %w", st.Index+1, err)
	}
	if err := m.filled(st.Index + 1); err != nil {
		return err
	}
	if !m.again {
		m.resolveAt(&tail.producers)
		m.out.Decisions = false // the header has them
	}
	m.holes, m.tail, m.snap, m.conf = nil, tail, snap, conf
	return nil
}

// entry is a storage.Walker's Entry.
func (m *mender) entry(e storage.Entry) error {
	if err := m.filled(e.Index); err != nil {
		return err
	}
	return m.observe(&e)
}

func (m *mender) observe(e *storage.Entry) error {
	if e.Kind == storage.KindData {
		m.suspect(e.Batch())
	}
	m.tail.index = e.Index - 1 // whatever is missing
	if err := m.tail.observe(e, m.now); err != nil {
		return err
	}
	m.epoch = e.LeaderEpoch
	if e.Kind == storage.KindControl {
		return m.conf.observe(e.Index, e.Payload)
	}
	return nil
}

// filled takes the markers below an entry that were put back.
func (m *mender) filled(below uint64) error {
	for m.again && len(m.fill) > 0 && m.fill[0].Index < below {
		e := m.fill[0]
		m.fill = m.fill[1:]
		if err := m.observe(&e); err != nil {
			return err
		}
	}
	return nil
}

// gap is a storage.Walker's Gap.
func (m *mender) gap(g storage.Gap) error {
	if err := m.filled(g.Index); err != nil || !g.Lost() {
		return err
	}
	if m.out.Decisions = m.out.Decisions || mayDecide(&g); !m.again {
		m.holes = append(m.holes, m.newHole(g))
	}
	if b := g.Head; b != nil && !b.IsControl() {
		e := storage.Entry{Index: g.Index, Term: m.tail.term, Kind: storage.KindData, BaseOffset: b.BaseOffset(), LeaderEpoch: b.LeaderEpoch(), Payload: b}
		return m.observe(&e)
	}
	return nil
}

// mayDecide reports whether a control entry may be lost: it has no offsets, and a
// data entry has at least one.
func mayDecide(g *storage.Gap) bool {
	return g.Head == nil && (g.Control || g.NextIndex-g.Index > 1 || g.NextOffset == g.Offset)
}

// close computes the state at the end of the log.
func (m *mender) close(out *Mending, self uint64, only bool) error {
	end := m.salvage.End
	if err := m.filled(end.Index + 1); err != nil {
		return err
	}
	if m.salvage.Log.ID == ([16]byte{}) && m.salvage.Rewritten > m.snap.index {
		return fmt.Errorf("the commands lost are the site's catalog's, entry %d and before; its newest snapshot is of entry %d: without them the catalog is another one", m.salvage.Rewritten, m.snap.index)
	}
	if err := m.conf.fold(end.Index); err != nil {
		return err
	}
	cs := &m.conf.state
	for _, member := range slices.Concat(cs.Voters, cs.VotersOutgoing, cs.Learners, cs.LearnersNext) {
		if n := NodeOf(member); member != self && !slices.Contains(out.Others, n) {
			out.Others = append(out.Others, n)
		}
	}
	if !slices.Contains(cs.Voters, self) {
		return fmt.Errorf("this node, as member %d, is none of its voters %v", self, cs.Voters)
	}
	if only {
		m.conf = confState{index: end.Index, state: pb.ConfState{Voters: []uint64{self}}}
	} else if len(out.Others) > 0 {
		return fmt.Errorf("%w: on node %v", ErrNotAlone, out.Others)
	}
	if out.Decisions {
		// What had raised the epoch may be lost; no lower one is given. The next
		// leader's term is above this one.
		m.tail.control.epochBase = max(m.tail.control.epochBase, m.epoch-int32(min(end.Term, math.MaxInt32)))
	}
	// If what it began with is lost, consumers are told where it begins now.
	m.tail.next = m.tail.control.apply(LogStart{Offset: m.salvage.Begin}, m.tail.next)
	m.tail.producers.aborted.trim(m.tail.control.logStart)
	out.Aux = storage.Aux{Conf: m.conf.encode(), Control: m.tail.control.encode(m.snap), Producers: m.tail.producers.encode()}
	return nil
}
