package history

import "fmt"

// place is a partition.
type place struct {
	topic     string
	partition int32
}

func (p place) String() string { return fmt.Sprintf("%s-%d", p.topic, p.partition) }

// fate is what became of a transaction, or of a send, as far as was told.
type fate int

const (
	undecided fate = iota
	committed
	gone // aborted, or failed for certain
)

// view is a history with what the checks look up in it.
type view struct {
	*History
	sends map[string]*Send // by value
	fates map[string]fate  // of transactions
	// first is the first read of each offset.
	first map[place]map[int64]Read
	// at is where each value was read first.
	at map[place]map[string]int64
	// final is what is there in the end: all records, and those that are shown
	// under read_committed. nil: nobody read it to the end.
	final, shown map[place]*ending
}

// ending is what the final read of a partition found.
type ending struct {
	values map[string]int64 // offsets
	keys   map[string]int64 // the last offset of each
	order  []Read           // without markers
	last   int64            // the last offset, be it a marker's
}

func look(h *History) *view {
	v := &view{
		History: h, sends: make(map[string]*Send, len(h.Sends)), fates: make(map[string]fate, len(h.Txns)),
		first: map[place]map[int64]Read{}, at: map[place]map[string]int64{}, final: map[place]*ending{}, shown: map[place]*ending{},
	}
	for i := range h.Sends {
		v.sends[h.Sends[i].Value] = &h.Sends[i]
	}
	for _, t := range h.Txns {
		switch {
		case !t.Commit:
			v.fates[t.Name] = gone // whatever became of the abort: nobody asked for a commit
		case t.Outcome == OK:
			v.fates[t.Name] = committed
		}
	}
	for i := range h.Polls {
		v.poll(&h.Polls[i])
	}
	return v
}

func (p *Poll) place() place { return place{p.Topic, p.Partition} }
func (s *Send) place() place { return place{s.Topic, s.Partition} }

func (v *view) poll(p *Poll) {
	at := p.place()
	if v.first[at] == nil {
		v.first[at], v.at[at] = map[int64]Read{}, map[string]int64{}
	}
	for _, r := range p.Reads {
		if _, ok := v.first[at][r.Offset]; !ok {
			v.first[at][r.Offset] = r
		}
		if _, ok := v.at[at][r.Value]; !ok && !r.Control {
			v.at[at][r.Value] = r.Offset
		}
	}
	if p.Final {
		all := v.final
		if p.Committed {
			all = v.shown
		}
		if all[at] == nil {
			all[at] = &ending{values: map[string]int64{}, keys: map[string]int64{}}
		}
		all[at].add(p.Reads)
	}
}

func (e *ending) add(reads []Read) {
	for _, r := range reads {
		if e.last = max(e.last, r.Offset); r.Control {
			continue
		}
		e.order = append(e.order, r)
		if _, ok := e.values[r.Value]; !ok {
			e.values[r.Value] = r.Offset
		}
		if r.Key != "" {
			e.keys[r.Key] = max(e.keys[r.Key], r.Offset)
		}
	}
}

// superseded reports whether compaction may have taken a record of the key that
// was at the offset.
func (v *view) superseded(at place, key string, offset int64, e *ending) bool {
	return v.Topics[at.topic].Compacted && key != "" && e.keys[key] > offset
}

// fate is what became of a record as far as was told: one that was acknowledged
// outside of a transaction is committed.
func (v *view) fate(s *Send) fate {
	switch {
	case s.Outcome == Failed:
		return gone
	case s.Txn != "" && v.fates[s.Txn] != committed:
		return v.fates[s.Txn]
	case s.Outcome == OK:
		return committed
	}
	return undecided
}
