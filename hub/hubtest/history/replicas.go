package history

import (
	"fmt"
	"slices"
	"time"
)

// Replica is one node's copy of a partition's log, read from its data
// directory when it was stopped.
type Replica struct {
	Node    string
	Log     string // which log: every replica of it has the same
	Commit  uint64 // what the replica knew to be committed, on disk
	Entries []Entry
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
// the same too.
func replicas(v *view, r *Result) {
	byLog := map[string][]Replica{}
	for _, one := range v.Replicas {
		byLog[one.Log] = append(byLog[one.Log], one)
	}
	for _, copies := range byLog {
		for i := range copies {
			for j := range i {
				copies[i].compare(&copies[j], r)
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

func (e Entry) String() string {
	return fmt.Sprintf("%s at offset %d, epoch %d, sha256 %x…", e.Kind, e.Base, e.Epoch, e.Sum[:4])
}

// writable: after the last fault was healed every partition takes a write in
// time.
func writable(v *view, r *Result, limit time.Duration) {
	var took []time.Duration
	for _, p := range v.Probes {
		r.Examined++
		switch wait := p.Writable - p.Healed; {
		case p.Writable == 0:
			r.bad("%s-%d took no write after everything was healed", p.Topic, p.Partition)
		case wait >= limit:
			r.bad("%s-%d took a write %s after everything was healed, want less than %s", p.Topic, p.Partition, wait.Round(time.Millisecond), limit)
		default:
			took = append(took, wait)
		}
	}
	if len(took) > 0 {
		r.Note = fmt.Sprintf("the last one after %s", slices.Max(took).Round(time.Millisecond))
	}
}
