package group

import (
	"maps"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Offset is a committed position: the next record the group will read.
type Offset struct {
	Offset      int64
	LeaderEpoch int32 // of the last record read; -1 when not said
	Metadata    string
	CommitTime  int64 // milliseconds
}

// CommitRequest stores offsets. A simple consumer, which manages its
// partitions by itself, comes with generation -1 and no member ID.
type CommitRequest struct {
	MemberID   string
	Instance   string
	Generation int32
	Offsets    []OffsetWrite
}

// Commit handles an OffsetCommit request. It is answered when the offsets are
// durable, with an error for each of them.
func (g *Group) Commit(now time.Time, t Ticket, r CommitRequest) (out Output) {
	if err := g.checkCommit(now, r); err != nil {
		out.end(t, err)
		return out
	}
	good, errs := g.checkMetadata(r.Offsets)
	if len(good) == 0 {
		out.answer(Answer{Ticket: t, Commit: errs})
		return out
	}
	g.write(&out, Write{Offsets: good}, func(_ time.Time, err error, out *Output) {
		if err != nil {
			out.end(t, err)
			return
		}
		g.apply(good)
		g.overtake(good)
		out.answer(Answer{Ticket: t, Commit: errs})
	})
	return out
}

func (g *Group) checkCommit(now time.Time, r CommitRequest) error {
	switch {
	case g.id == "" && r.MemberID != "":
		return ErrInvalidGroupID
	case g.state == Dead:
		return ErrDead
	case r.Generation < 0 && g.state == Empty:
		return nil
	case r.Generation < 0 && r.MemberID == "" && r.Instance == "":
		return ErrUnknownMember // the members own the group's offsets
	case g.Vacant():
		return ErrIllegalGen // there never was such a generation
	}
	m, err := g.current(r.MemberID, r.Instance, r.Generation)
	if err != nil {
		return err
	}
	if !m.isNew {
		m.alive(now)
	}
	if g.state == Completing {
		return ErrRebalancing
	}
	return nil
}

// apply makes durable offset writes visible.
func (g *Group) apply(ws []OffsetWrite) {
	for _, w := range ws {
		if w.Offset == nil {
			delete(g.offsets, w.TopicPartition)
			continue
		}
		g.offsets[w.TopicPartition] = *w.Offset
	}
}

// Offset returns what is committed for one partition.
func (g *Group) Offset(tp record.TopicPartition) (Offset, bool) {
	o, ok := g.offsets[tp]
	return o, ok
}

// Offsets returns a copy of all committed offsets.
func (g *Group) Offsets() map[record.TopicPartition]Offset { return maps.Clone(g.offsets) }
