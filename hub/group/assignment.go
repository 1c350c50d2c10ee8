package group

import (
	"cmp"
	"iter"
	"maps"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// Assignment is a set of partitions: sorted numbers by topic, no empty lists.
// It is never changed in place.
type Assignment map[record.TopicID][]int32

// partition names one element of an Assignment.
type partition struct {
	topic record.TopicID
	n     int32
}

// all yields the partitions, topic by topic in no order.
func (a Assignment) all() iter.Seq[partition] {
	return func(yield func(partition) bool) {
		for t, ps := range a {
			for _, p := range ps {
				if !yield(partition{t, p}) {
					return
				}
			}
		}
	}
}

// Len is the number of partitions.
func (a Assignment) Len() (n int) {
	for _, ps := range a {
		n += len(ps)
	}
	return n
}

func (a Assignment) has(p partition) bool {
	_, ok := slices.BinarySearch(a[p.topic], p.n)
	return ok
}

func (a Assignment) equal(b Assignment) bool { return maps.EqualFunc(a, b, slices.Equal) }

// only is the part of a that keep accepts.
func (a Assignment) only(keep func(partition) bool) Assignment {
	out := Assignment{}
	for t, ps := range a {
		var kept []int32
		for _, p := range ps {
			if keep(partition{t, p}) {
				kept = append(kept, p)
			}
		}
		if kept != nil {
			out[t] = kept
		}
	}
	return out
}

func (a Assignment) minus(b Assignment) Assignment {
	return a.only(func(p partition) bool { return !b.has(p) })
}

// plus is the union.
func (a Assignment) plus(b Assignment) Assignment {
	out := maps.Clone(a)
	if out == nil {
		out = Assignment{}
	}
	for t, ps := range b {
		merged := slices.Concat(out[t], ps)
		slices.Sort(merged)
		out[t] = slices.Compact(merged)
	}
	return out
}

// within reports whether b has all of a.
func (a Assignment) within(b Assignment) bool {
	for p := range a.all() {
		if !b.has(p) {
			return false
		}
	}
	return true
}

func (a Assignment) touches(b Assignment) bool {
	for p := range a.all() {
		if b.has(p) {
			return true
		}
	}
	return false
}

// Topics are the topics of an assignment in the order of their IDs.
func (a Assignment) Topics() []record.TopicID {
	return slices.SortedFunc(maps.Keys(a), compareTopics)
}

func compareTopics(a, b record.TopicID) int { return slices.Compare(a[:], b[:]) }

func comparePartitions(a, b partition) int {
	return cmp.Or(compareTopics(a.topic, b.topic), cmp.Compare(a.n, b.n))
}

// collect makes an Assignment of partitions in any order, each once.
func collect(ps []partition) Assignment {
	slices.SortFunc(ps, comparePartitions)
	out := Assignment{}
	for _, p := range ps {
		out[p.topic] = append(out[p.topic], p.n)
	}
	return out
}
