package group

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Expire removes offsets that nobody has used for Config.Retention, and the
// group itself once nothing is left of it (KIP-211). Without members, time runs
// from the last member's end or a later commit; with members, from the commit,
// and for topics alone that none of them reads. The driver calls it now and
// then.
func (g *Group) Expire(now time.Time) (out Output) {
	topics, known := g.subscribed()
	if g.state != Empty && (!known || g.consumer == nil && g.state != Stable) {
		return out
	}
	var gone []record.TopicPartition
	for tp, o := range g.offsets {
		since := time.UnixMilli(o.CommitTime)
		if g.state == Empty && g.protocolType != "" && g.since.After(since) {
			since = g.since
		}
		if !topics[tp.Topic] && now.Sub(since) >= g.cfg.Retention && !g.Unstable(tp) {
			gone = append(gone, tp)
		}
	}
	g.drop(gone, Answer{}, &out)
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
	g.drop(gone, Answer{}, &out)
	return out
}

// Prune removes the offsets that are stale: of a topic that is gone, or that
// was made again since.
func (g *Group) Prune(stale func(record.TopicPartition, Offset) bool) (out Output) {
	var gone []record.TopicPartition
	for tp, o := range g.offsets {
		if stale(tp, o) {
			gone = append(gone, tp)
		}
	}
	if len(gone) > 0 {
		g.drop(gone, Answer{}, &out)
	}
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

// DeleteOffsets handles OffsetDelete (KIP-496). It is answered when the offsets
// are gone, with an error for each that stays: of topics that members read.
func (g *Group) DeleteOffsets(t Ticket, tps []record.TopicPartition) (out Output) {
	topics, known := g.subscribed()
	switch {
	case g.state == Dead:
		out.end(t, ErrNotFound)
		return out
	case !known && g.protocolType != consumerProtocol:
		out.end(t, ErrNotEmpty)
		return out
	}
	errs := make([]error, len(tps))
	var gone []record.TopicPartition
	for i, tp := range tps {
		if !known || topics[tp.Topic] {
			errs[i] = fmt.Errorf("%w: %s", ErrSubscribed, tp.Topic)
			continue
		}
		gone = append(gone, tp)
	}
	g.drop(gone, Answer{Ticket: t, Commit: errs}, &out)
	return out
}

// drop writes tombstones for offsets, and one for the group when it is empty
// and keeps none. The answer, if it has a ticket, is given afterwards.
func (g *Group) drop(gone []record.TopicPartition, a Answer, out *Output) {
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
		out.give(a, nil)
		return
	}
	sortWrites(ws)
	g.write(out, g.removal(ws, last), func(now time.Time, err error, out *Output) {
		if err == nil { // or else the next round tries again
			g.apply(ws)
			g.overtake(ws, math.MaxInt64)
			g.dieIf(now, last)
		}
		out.give(a, err)
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
			g.overtake(ws, math.MaxInt64)
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
