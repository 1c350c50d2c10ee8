package group

import (
	"errors"
	"fmt"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Transactional says that a write belongs to a producer's transaction: its
// offsets count once the transaction is committed.
type Transactional struct {
	ProducerID    int64
	ProducerEpoch int16
	Guard         int64 // opaque: where the driver's log takes the write, see record.Transaction
}

// undecided is what one producer's open transaction commits in the group.
type undecided struct {
	offsets map[record.TopicPartition]undecidedOffset // durable
	writing map[uint64][]OffsetWrite                  // by write
}

// undecidedOffset is an offset with its place among those that came to the
// group: of two transactions that set an offset of the same partition the later
// write counts, whichever is committed first. Compaction keeps that one, too.
type undecidedOffset struct {
	Offset
	place int64
}

// has reports whether the transaction may change the partition's offset.
func (u *undecided) has(tp record.TopicPartition) bool {
	if _, ok := u.offsets[tp]; ok {
		return true
	}
	for _, ws := range u.writing {
		for _, w := range ws {
			if w.TopicPartition == tp {
				return true
			}
		}
	}
	return false
}

// CommitTransactional handles a TxnOffsetCommit request: the offsets become the
// group's when the transaction is committed. It is answered when they are
// durable, with an error for each of them.
func (g *Group) CommitTransactional(now time.Time, t Ticket, r CommitRequest, txn Transactional) (out Output) {
	if err := g.checkTransactional(now, r); err != nil {
		out.end(t, err)
		return out
	}
	good, errs := g.checkOffsets(r)
	for i, err := range errs {
		errs[i] = inTransaction(err)
	}
	if len(good) == 0 {
		out.answer(Answer{Ticket: t, Commit: errs})
		return out
	}
	u := g.transaction(txn.ProducerID)
	var id uint64
	g.write(&out, Write{Offsets: good, Transactional: &txn}, func(_ time.Time, err error, out *Output) {
		delete(u.writing, id)
		if err != nil {
			g.forgetDecided(txn.ProducerID)
			out.end(t, err)
			return
		}
		for _, w := range good {
			g.Pend(txn.ProducerID, g.place+1, w)
		}
		out.answer(Answer{Ticket: t, Commit: errs})
	})
	id = g.lastWrite
	u.writing[id] = good
	return out
}

// checkTransactional: older clients say nothing of the member, and then it
// counts for nothing. A member between join and sync may commit what it has
// worked on: unlike in OffsetCommit, its producer was not fenced by the
// rebalance.
func (g *Group) checkTransactional(now time.Time, r CommitRequest) error {
	switch {
	case g.id == "":
		return ErrInvalidGroupID
	case g.state == Dead:
		return ErrDead
	case r.Generation < 0 && r.MemberID == "" && r.Instance == "":
		return nil
	}
	err := g.checkCommit(now, r)
	if errors.Is(err, ErrRebalancing) {
		return nil
	}
	return inTransaction(err)
}

// inTransaction says ErrIllegalGen for a member's old epoch: producers know
// what to do about that one, and take the other for the end.
func inTransaction(err error) error {
	if errors.Is(err, ErrStaleEpoch) {
		return fmt.Errorf("%w: %v", ErrIllegalGen, err)
	}
	return err
}

// checkOffsets parts the offsets that can be stored from the others.
func (g *Group) checkOffsets(r CommitRequest) (good []OffsetWrite, errs []error) {
	errs = make([]error, len(r.Offsets))
	for i, o := range r.Offsets {
		if errs[i] = g.mayCommit(r, o.TopicPartition); errs[i] != nil {
			continue
		}
		if n := len(o.Offset.Metadata); n > g.cfg.MaxMetadata {
			errs[i] = fmt.Errorf("%w: %d bytes, the most is %d", ErrMetadataTooLarge, n, g.cfg.MaxMetadata)
			continue
		}
		good = append(good, o)
	}
	return good, errs
}

// transaction finds or begins what a producer commits.
func (g *Group) transaction(producerID int64) *undecided {
	u := g.undecided[producerID]
	if u == nil {
		u = &undecided{offsets: map[record.TopicPartition]undecidedOffset{}, writing: map[uint64][]OffsetWrite{}}
		if g.undecided == nil {
			g.undecided = map[int64]*undecided{}
		}
		g.undecided[producerID] = u
	}
	return u
}

// forgetDecided forgets a transaction that changes nothing any more.
func (g *Group) forgetDecided(producerID int64) {
	if u := g.undecided[producerID]; u != nil && len(u.offsets)+len(u.writing) == 0 {
		delete(g.undecided, producerID)
	}
}

// Pend notes an offset of a transaction that is still open. place says which of
// two that are loaded for a partition was written later.
func (g *Group) Pend(producerID, place int64, w OffsetWrite) {
	g.transaction(producerID).offsets[w.TopicPartition] = undecidedOffset{*w.Offset, place}
	g.place = max(g.place, place)
}

// EndTransaction makes the offsets of a producer's transaction the group's, or
// drops them: its marker is durable. It reports whether there was one.
func (g *Group) EndTransaction(producerID int64, commit bool) bool {
	u := g.undecided[producerID]
	if u == nil {
		return false
	}
	done := u.offsets
	u.offsets = map[record.TopicPartition]undecidedOffset{}
	g.forgetDecided(producerID)
	if !commit {
		return true
	}
	for tp, o := range done {
		w := []OffsetWrite{{TopicPartition: tp, Offset: &o.Offset}}
		g.apply(w)
		g.overtake(w, o.place)
	}
	return true
}

// Unstable reports whether an open transaction may change the partition's
// offset (KIP-447): who begins to read there has to wait.
func (g *Group) Unstable(tp record.TopicPartition) bool {
	for _, u := range g.undecided {
		if u.has(tp) {
			return true
		}
	}
	return false
}

// UnstablePartitions lists the partitions that open transactions may change.
func (g *Group) UnstablePartitions() map[record.TopicPartition]bool {
	all := map[record.TopicPartition]bool{}
	for _, u := range g.undecided {
		for tp := range u.offsets {
			all[tp] = true
		}
		for _, ws := range u.writing {
			for _, w := range ws {
				all[w.TopicPartition] = true
			}
		}
	}
	return all
}

// overtake drops what open transactions would have set before a write that came
// behind them, at place.
func (g *Group) overtake(ws []OffsetWrite, place int64) {
	for id, u := range g.undecided {
		for _, w := range ws {
			if o, ok := u.offsets[w.TopicPartition]; ok && o.place < place {
				delete(u.offsets, w.TopicPartition)
			}
		}
		g.forgetDecided(id)
	}
}
