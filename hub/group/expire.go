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
		if now.Sub(since) >= g.cfg.Retention && !g.Unstable(tp) {
			gone = append(gone, tp)
		}
	}
	g.drop(gone, 0, &out)
	return out
}

// Forget removes the offsets of a topic that was deleted.
func (g *Group) Forget(topic string) (out Output) {
	var gone []record.TopicPartition
	for tp := range g.kept() {
		if tp.Topic == topic {
			gone = append(gone, tp)
		}
	}
	g.drop(gone, 0, &out)
	return out
}

// kept are the partitions that the group has an offset for, or may get one by
// the end of a transaction.
func (g *Group) kept() map[record.TopicPartition]bool {
	all := g.UnstablePartitions()
	for tp := range g.offsets {
		all[tp] = true
	}
	return all
}

// DeleteOffsets handles OffsetDelete (KIP-496) for a group without members. It
// is answered when the offsets are gone.
func (g *Group) DeleteOffsets(t Ticket, tps []record.TopicPartition) (out Output) {
	switch {
	case g.state == Dead:
		out.end(t, ErrNotFound)
	case len(g.members) > 0:
		out.end(t, ErrSubscribed)
	default:
		g.drop(tps, t, &out)
	}
	return out
}

// drop writes tombstones for offsets, and one for the group when it is empty
// and keeps none. t, unless it is 0, is answered afterwards.
func (g *Group) drop(gone []record.TopicPartition, t Ticket, out *Output) {
	left := g.kept()
	var ws []OffsetWrite
	for _, tp := range gone {
		if left[tp] {
			delete(left, tp)
			ws = append(ws, OffsetWrite{TopicPartition: tp})
		}
	}
	last := g.state == Empty && len(g.pending) == 0 && len(g.inFlight) == 0 && len(left) == 0
	if len(ws) == 0 && !last {
		out.end(t, nil)
		return
	}
	sortWrites(ws)
	g.write(out, g.removal(ws, last), func(now time.Time, err error, out *Output) {
		if err == nil { // or else the next round tries again
			g.apply(ws)
			g.overtake(ws)
			g.dieIf(now, last)
		}
		out.end(t, err)
	})
}

// removal is the write that removes offsets, and with all the group itself.
func (g *Group) removal(ws []OffsetWrite, all bool) Write {
	w := Write{Offsets: ws, Delete: all && g.consumer == nil}
	if all && g.consumer != nil {
		w.Entries, w.Delete = g.consumer.tombs(), g.consumer.classic
	}
	return w
}

// dieIf ends a group whose records are all removed, unless something came to
// it in the meantime.
func (g *Group) dieIf(now time.Time, removed bool) {
	if removed && g.state == Empty && len(g.offsets)+len(g.undecided)+len(g.pending)+len(g.inFlight) == 0 {
		g.enter(now, Dead)
	}
}

// Delete handles DeleteGroups: everything goes, if there are no members.
func (g *Group) Delete(t Ticket) (out Output) {
	switch {
	case g.state == Dead:
		out.end(t, ErrNotFound)
		return out
	case len(g.members)+len(g.pending) > 0 || g.state != Empty:
		out.end(t, ErrNotEmpty)
		return out
	}
	var ws []OffsetWrite
	for tp := range g.kept() {
		ws = append(ws, OffsetWrite{TopicPartition: tp})
	}
	sortWrites(ws)
	g.write(&out, g.removal(ws, true), func(now time.Time, err error, out *Output) {
		if err == nil {
			g.apply(ws)
			g.overtake(ws)
			g.dieIf(now, true)
		}
		out.end(t, err)
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
