package history

import (
	"fmt"
	"slices"
	"time"
)

// Replica is one node's copy of a partition's log, read from its data
// directory when it was stopped.
type Replica struct {
	Node      string
	Log       string // which log: every replica of it has the same
	Topic     string
	Partition int32
	Commit    uint64 // what the replica knew to be committed, on disk
	Entries   []Entry
	Records   []Record // those that a compacted log still has, by offset
}

// Record is what is left of a record of a compacted log. Key and Value stand for
// its bytes.
type Record struct {
	Index         uint64
	Offset        int64
	Key, Value    [32]byte
	Transactional bool
}

// Entry is an entry of a log. Sum covers every byte of what it carries, and so
// the base offset and the leader epoch that a batch has.
type Entry struct {
	Index, Term uint64
	Kind        string
	Base        int64
	Epoch       int32
	Sum         [32]byte
}

// replicas: entries that have the same index and term are the same, byte by
// byte, and up to what both of two replicas know to be committed the terms are
// the same too. Of compacted logs, whose entries were rewritten, a committed record
// that one replica has and another one lacks was superseded there.
func replicas(v *view, r *Result) {
	byLog := map[string][]Replica{}
	for _, one := range v.Replicas {
		byLog[one.Log] = append(byLog[one.Log], one)
	}
	for _, copies := range byLog {
		for i := range copies {
			for j := range i {
				copies[i].compare(&copies[j], r)
				copies[i].compareRecords(&copies[j], r)
				copies[j].compareRecords(&copies[i], r)
			}
		}
	}
}

func (a *Replica) compare(b *Replica, r *Result) {
	commit := min(a.Commit, b.Commit)
	other := make(map[uint64]Entry, len(b.Entries))
	for _, e := range b.Entries {
		other[e.Index] = e
	}
	for _, e := range a.Entries {
		o, ok := other[e.Index]
		if !ok {
			continue // behind the log's start, or not there yet
		}
		r.Examined++
		switch {
		case e.Term != o.Term && e.Index <= commit:
			r.bad("%s: index %d, committed (%d at %s, %d at %s), has term %d at %s and %d at %s", a.Log, e.Index, a.Commit, a.Node, b.Commit, b.Node, e.Term, a.Node, o.Term, b.Node)
		case e.Term == o.Term && e != o:
			r.bad("%s: index %d of term %d is %s at %s and %s at %s", a.Log, e.Index, e.Term, e, a.Node, o, b.Node)
		}
	}
}

// whole: in the end every node has a replica of every partition of the topics,
// with an entry for each index from the first one that has records at any of them,
// up to the last record that was read. What comes before that is a leader's first
// entry and the like, and goes with its segment when that is sealed, which each
// replica does in its own time: of those entries it may lack the oldest, and none
// in between.
func whole(v *view, r *Result) {
	type copyOf struct {
		node string
		place
	}
	copies := map[copyOf]*Replica{}
	first, until := map[place]uint64{}, map[place]uint64{}
	for i := range v.Replicas {
		one := &v.Replicas[i]
		at := place{one.Topic, one.Partition}
		e := v.final[at]
		if e == nil || len(one.Entries) == 0 {
			continue // lost says so, or not whole below
		}
		copies[copyOf{one.Node, at}] = one
		if begin := slices.IndexFunc(one.Entries, Entry.hasRecords); begin >= 0 {
			if from, ok := first[at]; !ok || one.Entries[begin].Index < from {
				first[at] = one.Entries[begin].Index
			}
		}
		for _, entry := range one.Entries {
			if entry.Base <= e.last && entry.Index <= one.Commit {
				until[at] = max(until[at], entry.Index)
			}
		}
	}
	for at := range v.final {
		for _, node := range v.Nodes {
			r.Examined++
			if one := copies[copyOf{node, at}]; one == nil {
				r.bad("%s: %s has no replica", at, node)
			} else if next, ok := one.gap(first[at], until[at], v.Topics[at.topic].Compacted); ok {
				r.bad("%s: %s lacks index %d and begins with %d, others have records from %d to %d", one.Log, node, next, one.Entries[0].Index, first[at], until[at])
			}
		}
	}
}

func (e Entry) hasRecords() bool { return e.Kind == "data" }

// gap is the first index that the replica lacks from first, or from where it
// begins if that is before, to until. Of one that is compacted only the end has
// to be there.
func (a *Replica) gap(first, until uint64, compacted bool) (uint64, bool) {
	if end := a.Entries[len(a.Entries)-1].Index; compacted {
		return end + 1, end < until
	}
	first = min(first, a.Entries[0].Index)
	for _, e := range a.Entries {
		if e.Index == first {
			first++
		}
	}
	return first, first <= until
}

// compareRecords compares what is left of a record wherever it is.
func (a *Replica) compareRecords(b *Replica, r *Result) {
	commit := min(a.Commit, b.Commit)
	other, newest := make(map[int64]Record, len(b.Records)), map[[32]byte]int64{}
	for _, one := range b.Records {
		other[one.Offset], newest[one.Key] = one, one.Offset
	}
	for _, one := range a.Records {
		if one.Index > commit || len(b.Records) == 0 {
			continue
		}
		r.Examined++
		o, ok := other[one.Offset]
		switch {
		case ok && o != one:
			r.bad("%s: the record at offset %d is another one at %s than at %s", a.Log, one.Offset, a.Node, b.Node)
		case !ok && newest[one.Key] <= one.Offset && !one.Transactional: // its transaction may be aborted
			r.bad("%s: the record at offset %d, the last one of its key, is at %s and not at %s", a.Log, one.Offset, a.Node, b.Node)
		}
	}
}

func (e Entry) String() string {
	return fmt.Sprintf("%s at offset %d, epoch %d, sha256 %x…", e.Kind, e.Base, e.Epoch, e.Sum[:4])
}

// writable: after a fault was healed every partition takes a write in time.
func writable(v *view, r *Result, limit time.Duration) {
	var took []time.Duration
	for _, p := range v.Probes {
		r.Examined++
		switch wait := p.Writable - p.Healed; {
		case p.Writable == 0:
			r.bad("%s-%d took no write after everything was healed (%s)", p.Topic, p.Partition, p.After)
		case wait >= limit:
			r.bad("%s-%d took a write %s after everything was healed (%s), want less than %s", p.Topic, p.Partition, wait.Round(time.Millisecond), p.After, limit)
		default:
			took = append(took, wait)
		}
	}
	if slices.Sort(took); len(took) > 0 {
		r.Note = fmt.Sprintf("p50 %s, p99 %s, max %s", quantile(took, 0.5).Round(time.Millisecond), quantile(took, 0.99).Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	}
}
