package group

import (
	"fmt"
	"maps"
	"math"
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
	Generation int32 // the member's epoch in a consumer group
	OldVersion bool  // of OffsetCommit: the member cannot know epochs
	Offsets    []OffsetWrite
	IDs        map[string]record.TopicID // of the topics in Offsets
}

// Commit handles an OffsetCommit request. It is answered when the offsets are
// durable, with an error for each of them.
func (g *Group) Commit(now time.Time, t Ticket, r CommitRequest) (out Output) {
	if err := g.checkCommit(now, r); err != nil {
		out.end(t, err)
		return out
	}
	good, errs := g.checkOffsets(r)
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
		g.overtake(good, math.MaxInt64)
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
	case g.consumer != nil:
		return g.consumer.checkCommit(r)
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

func (c *consumers) checkCommit(r CommitRequest) error {
	if r.Generation < 0 && len(c.byID) == 0 {
		return nil
	}
	m, ok := c.byID[r.MemberID]
	switch {
	case !ok:
		return ErrUnknownMember
	case m.Classic != nil && r.Generation != m.current.Epoch:
		return fmt.Errorf("%w: %d, the member has %d", ErrIllegalGen, r.Generation, m.current.Epoch)
	case r.OldVersion && m.Classic == nil:
		return ErrOldVersion
	case r.Generation > m.current.Epoch || r.Generation < 0:
		return m.stale(r.Generation)
	}
	return nil
}

func (m *consumer) stale(epoch int32) error {
	return fmt.Errorf("%w: %d, the member has %d", ErrStaleEpoch, epoch, m.current.Epoch)
}

// mayCommit looks at one offset of a request that checkCommit let through: a
// member may not have heard of its present epoch yet, but it must have had the
// partition in the one that it names (KIP-1251).
func (g *Group) mayCommit(r CommitRequest, tp record.TopicPartition) error {
	if g.consumer == nil || r.Generation < 0 {
		return nil
	}
	m := g.consumer.byID[r.MemberID]
	if r.Generation == m.current.Epoch {
		return nil
	}
	if since, has := m.gained[partition{r.IDs[tp.Topic], tp.Partition}]; !has || r.Generation < since {
		return m.stale(r.Generation)
	}
	return nil
}

// CheckFetch tells whether a member may have the group's offsets now. A client
// that names no member always may. The epoch is that of a consumer group
// (OffsetFetch v9+); members of classic groups are not looked at, as in Kafka.
func (g *Group) CheckFetch(member string, epoch int32) error {
	if g.consumer == nil || member == "" && epoch < 0 {
		return nil
	}
	if err := g.consumer.checkCommit(CommitRequest{MemberID: member, Generation: epoch}); err != nil {
		return err
	}
	if m := g.consumer.byID[member]; m != nil && m.current.Epoch != epoch {
		return m.stale(epoch)
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
