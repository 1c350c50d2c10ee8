package history

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// site is one that keeps its promises: it makes histories that are correct,
// with failures and unknown ends of every kind.
type site struct {
	h    History
	rng  *rand.Rand
	now  time.Duration
	n    int // values made
	logs map[place][]Read
	gone map[string]bool // values of aborted transactions
	// from, copied and groups are what the pipe and the group have come to.
	copied, group map[int32]int64
	topics        map[string]topicState
}

const partitions = 3

// generate makes a history out of a seed.
func generate(seed uint64, steps int) *History {
	s := &site{
		rng: rand.New(rand.NewPCG(seed, 0)), logs: map[place][]Read{}, gone: map[string]bool{},
		copied: map[int32]int64{}, group: map[int32]int64{}, topics: map[string]topicState{},
	}
	s.h.Nodes = []string{"a", "b", "c"}
	s.h.Topics = map[string]Topic{"in": {Partitions: partitions}, "out": {Partitions: partitions}}
	s.h.Pipes = []Pipe{{In: "in", Out: "out", Group: "copiers"}}
	for i := range steps {
		switch s.rng.IntN(8) {
		case 0, 1, 2:
			s.send("in", fmt.Sprintf("p%d", s.rng.IntN(3)), "", "")
		case 3:
			s.copy(fmt.Sprintf("t%d", i))
		case 4:
			s.consume(fmt.Sprintf("c%d", i), "", s.rng.IntN(2) == 0, false, place{[]string{"in", "out"}[s.rng.IntN(2)], s.rng.Int32N(partitions)}, int64(s.rng.IntN(20)))
		case 5:
			s.groupRead()
		case 6:
			s.change()
		case 7:
			s.abandon(fmt.Sprintf("a%d", i))
		}
	}
	s.end()
	return &s.h
}

// span is an operation's, which overlaps with those around it.
func (s *site) span() Span {
	s.now += time.Duration(1 + s.rng.IntN(10))
	return Span{s.now - time.Duration(s.rng.IntN(3)), s.now + time.Duration(s.rng.IntN(3))}
}

func (s *site) append(at place, r Read) int64 {
	r.Offset, r.Epoch = 0, int32(s.now/50)
	if log := s.logs[at]; len(log) > 0 {
		r.Offset = log[len(log)-1].Offset + 1
		if s.rng.IntN(20) == 0 {
			r.Offset++ // gaps are free
		}
	}
	s.logs[at] = append(s.logs[at], r)
	return r.Offset
}

func (s *site) outcome() Outcome {
	return []Outcome{OK, OK, OK, OK, OK, Unknown, Failed}[s.rng.IntN(7)]
}

// send sends one value and returns how it ended.
func (s *site) send(topic, producer, txn, from string) Outcome {
	s.n++
	one := Send{Span: s.span(), Producer: producer, Txn: txn, Topic: topic, Partition: s.rng.Int32N(partitions), Value: fmt.Sprint("v", s.n), From: from, Outcome: s.outcome(), Offset: -1}
	if one.Outcome == OK || one.Outcome == Unknown && s.rng.IntN(2) == 0 {
		offset := s.append(one.place(), Read{Value: one.Value})
		if one.Outcome == OK {
			one.Offset = offset
		}
	}
	s.h.Sends = append(s.h.Sends, one)
	return one.Outcome
}

// copy copies some records of one partition of the pipe in a transaction.
func (s *site) copy(txn string) {
	p := s.rng.Int32N(partitions)
	at := s.copied[p]
	good, first := true, s.n
	for _, r := range s.logs[place{"in", p}] {
		if r.Offset >= s.copied[p] && s.n < first+5 {
			at = r.Offset + 1
			good = s.send("out", "copier", txn, r.Value) == OK && good
		}
	}
	if at == s.copied[p] {
		return
	}
	t := Txn{Span: s.span(), Name: txn, Commit: good, Outcome: OK}
	done := good
	if s.rng.IntN(4) == 0 {
		t.Outcome, done = Unknown, good && s.rng.IntN(2) == 0
	}
	s.finish(txn, done)
	s.h.Txns = append(s.h.Txns, t)
	if good {
		s.h.Offsets = append(s.h.Offsets, Offset{Span: t.Span, Group: "copiers", Topic: "in", Partition: p, At: at, Outcome: t.Outcome})
	}
	if done {
		s.copied[p] = at
	}
}

// finish writes the markers of a transaction.
func (s *site) finish(txn string, commit bool) {
	touched := map[place]bool{}
	for i := range s.h.Sends {
		if one := &s.h.Sends[i]; one.Txn == txn {
			touched[one.place()] = true
			s.gone[one.Value] = !commit
		}
	}
	for at := range touched {
		s.append(at, Read{Control: true})
	}
}

// abandon begins a transaction whose producer dies, or that is aborted.
func (s *site) abandon(txn string) {
	for range 1 + s.rng.IntN(3) {
		s.send("out", txn, txn, "nothing")
	}
	s.finish(txn, false)
	t := Txn{Span: s.span(), Name: txn, Outcome: OK}
	if s.rng.IntN(2) == 0 {
		t.Commit, t.Outcome = true, Unknown
	}
	s.h.Txns = append(s.h.Txns, t)
}

// consume lets a consumer read what is there from an offset on, in polls.
func (s *site) consume(name, group string, committed, final bool, at place, from int64) {
	log := s.logs[at]
	high := int64(0)
	if n := len(log); n > 0 {
		high = log[n-1].Offset + 1
	}
	for len(log) > 0 {
		n := 1 + s.rng.IntN(len(log))
		p := Poll{Span: s.span(), Consumer: name, Group: group, Topic: at.topic, Partition: at.partition, Committed: committed, Final: final, High: high}
		for _, r := range log[:n] {
			if r.Offset >= from && !(committed && s.gone[r.Value] && !r.Control) {
				p.Reads = append(p.Reads, r)
			}
		}
		s.h.Polls, log = append(s.h.Polls, p), log[n:]
	}
	if high == 0 {
		s.h.Polls = append(s.h.Polls, Poll{Span: s.span(), Consumer: name, Group: group, Topic: at.topic, Partition: at.partition, Committed: committed, Final: final})
	}
}

// groupRead lets a member of a group read and commit.
func (s *site) groupRead() {
	p := s.rng.Int32N(partitions)
	at := place{"in", p}
	s.h.Offsets = append(s.h.Offsets, Offset{Span: s.span(), Group: "readers", Topic: "in", Partition: p, Ask: true, At: answer(s.group[p]), Outcome: OK})
	s.consume(fmt.Sprint("member", s.now), "readers", false, false, at, s.group[p])
	if log := s.logs[at]; len(log) > 0 {
		end, o := log[len(log)-1].Offset+1, s.outcome()
		if o == OK || o == Unknown && s.rng.IntN(2) == 0 {
			s.group[p] = end
		}
		s.h.Offsets = append(s.h.Offsets, Offset{Span: s.span(), Group: "readers", Topic: "in", Partition: p, At: end, Outcome: o})
	}
}

func (s *site) change() {
	c := Change{Span: s.span(), Client: s.rng.IntN(3), Topic: fmt.Sprint("m", s.rng.IntN(2)), Verb: []Verb{Create, Delete, Set, Get}[s.rng.IntN(4)], Value: fmt.Sprint(s.now), Outcome: s.outcome()}
	state := s.topics[c.Topic]
	if c.Outcome == OK || c.Outcome == Unknown && s.rng.IntN(2) == 0 {
		s.topics[c.Topic] = state.after(c)
	}
	if c.Outcome == OK {
		c.Found = state.there
		if c.Verb == Get {
			c.Value = state.value
		}
	}
	s.h.Changes = append(s.h.Changes, c)
}

// end reads everything, and asks the groups where they are.
func (s *site) end() {
	for topic := range s.h.Topics {
		for p := range int32(partitions) {
			at := place{topic, p}
			s.consume("final", "", false, true, at, 0)
			s.consume("final committed", "", true, true, at, 0)
			s.h.Probes = append(s.h.Probes, Probe{Topic: topic, Partition: p, Healed: s.now, Writable: s.now + time.Second})
			for _, node := range s.h.Nodes {
				s.h.Replicas = append(s.h.Replicas, s.replica(node, at))
			}
		}
	}
	for p := range int32(partitions) {
		s.h.Offsets = append(s.h.Offsets, Offset{Span: s.span(), Group: "copiers", Topic: "in", Partition: p, Ask: true, At: answer(s.copied[p]), Outcome: OK})
		s.h.Offsets = append(s.h.Offsets, Offset{Span: s.span(), Group: "readers", Topic: "in", Partition: p, Ask: true, At: answer(s.group[p]), Outcome: OK})
	}
}

func answer(at int64) int64 {
	if at == 0 {
		return -1
	}
	return at
}

// replica is a node's copy, whose end may be older than that of the others.
func (s *site) replica(node string, at place) Replica {
	r := Replica{Node: node, Log: at.String(), Topic: at.topic, Partition: at.partition}
	for i, one := range s.logs[at] {
		r.Entries = append(r.Entries, Entry{Index: uint64(i + 1), Term: uint64(one.Epoch + 1), Kind: "data", Base: one.Offset, Epoch: one.Epoch, Sum: [32]byte{byte(i)}})
	}
	r.Commit = uint64(len(r.Entries))
	if n := len(r.Entries); n > 2 && s.rng.IntN(3) == 0 {
		r.Commit = uint64(n - 1)
		r.Entries[n-1].Term, r.Entries[n-1].Sum = r.Entries[n-1].Term+1, [32]byte{99} // never committed
		r.Entries[n-1].Term += uint64(node[0])
	}
	return r
}
