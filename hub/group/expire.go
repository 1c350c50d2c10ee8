package group

import (
	"cmp"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Expire removes offsets that nobody has used for Config.Retention, and the
// group itself once nothing is left of it. While the group has members, all of
// its offsets stay (KIP-211; a topic no member subscribes to included, which is
// the safe side: subscriptions are opaque here). The driver calls it now and
// then.
func (g *Group) Expire(now time.Time) (out Output) {
	if g.state != Empty {
		return out
	}
	var gone []record.TopicPartition
	for tp, o := range g.offsets {
		since := time.UnixMilli(o.CommitTime)
		if g.protocolType != "" && g.since.After(since) {
			since = g.since
		}
		if now.Sub(since) >= g.cfg.Retention {
			gone = append(gone, tp)
		}
	}
	g.drop(gone, &out)
	return out
}

// Forget removes the offsets of a topic that was deleted.
func (g *Group) Forget(topic string) (out Output) {
	var gone []record.TopicPartition
	for tp := range g.offsets {
		if tp.Topic == topic {
			gone = append(gone, tp)
		}
	}
	g.drop(gone, &out)
	return out
}

// DeleteOffsets handles OffsetDelete (KIP-496) for a group without members.
func (g *Group) DeleteOffsets(tps []record.TopicPartition) (out Output, err error) {
	switch {
	case g.state == Dead:
		return out, ErrNotFound
	case len(g.members) > 0:
		return out, ErrSubscribed
	}
	g.drop(tps, &out)
	return out, nil
}

// drop writes tombstones for offsets, and one for the group when it is empty
// and keeps none.
func (g *Group) drop(gone []record.TopicPartition, out *Output) {
	var ws []OffsetWrite
	for _, tp := range gone {
		if _, ok := g.offsets[tp]; ok {
			ws = append(ws, OffsetWrite{TopicPartition: tp})
		}
	}
	last := g.state == Empty && len(g.pending) == 0 && len(g.inFlight) == 0 && len(ws) == len(g.offsets)
	if len(ws) == 0 && !last {
		return
	}
	sortWrites(ws)
	g.write(out, Write{Offsets: ws, Delete: last}, func(now time.Time, err error, _ *Output) {
		if err != nil {
			return // the next round tries again
		}
		g.apply(ws)
		if last && g.state == Empty && len(g.offsets) == 0 && len(g.inFlight) == 0 {
			g.enter(now, Dead)
		}
	})
}

// Delete handles DeleteGroups: everything goes, if there are no members.
func (g *Group) Delete(t Ticket) (out Output) {
	switch {
	case g.state == Dead:
		out.fail(t, ErrNotFound)
		return out
	case len(g.members)+len(g.pending) > 0 || g.state != Empty:
		out.fail(t, ErrNotEmpty)
		return out
	}
	var ws []OffsetWrite
	for tp := range g.offsets {
		ws = append(ws, OffsetWrite{TopicPartition: tp})
	}
	sortWrites(ws)
	g.write(&out, Write{Offsets: ws, Delete: true}, func(now time.Time, err error, out *Output) {
		if err == nil {
			g.apply(ws)
			if g.state == Empty && len(g.offsets) == 0 && len(g.inFlight) == 0 {
				g.enter(now, Dead)
			}
		}
		out.answer(Answer{Ticket: t, Err: err})
	})
	return out
}

func sortWrites(ws []OffsetWrite) {
	slices.SortFunc(ws, func(a, b OffsetWrite) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
