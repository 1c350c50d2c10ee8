package history

import (
	"slices"
	"testing"
	"time"
)

// span is from millisecond a to b.
func ms(a, b int) Span {
	return Span{time.Duration(a) * time.Millisecond, time.Duration(b) * time.Millisecond}
}

// small is a history in which everything went well, to plant a violation in.
// Partition t-0 holds a, b, c (aborted, with its marker), d; partition u-0 the
// copy of a.
func small() *History {
	send := func(begin int, producer, txn, topic, value, from string, offset int64) Send {
		return Send{Span: ms(begin, begin+1), Producer: producer, Txn: txn, Topic: topic, Value: value, From: from, Outcome: OK, Offset: offset}
	}
	a, b, c, d := Read{0, 1, "", "a", false}, Read{1, 1, "", "b", false}, Read{2, 1, "", "c", false}, Read{4, 2, "", "d", false}
	abort, commit := Read{Offset: 3, Epoch: 1, Control: true}, Read{Offset: 1, Epoch: 1, Control: true}
	copied := Read{0, 1, "", "A", false}
	poll := func(begin int, consumer, group, topic string, isolated, final bool, high int64, reads ...Read) Poll {
		return Poll{Span: ms(begin, begin+1), Consumer: consumer, Group: group, Topic: topic, Committed: isolated, Final: final, High: high, Reads: reads}
	}
	offset := func(begin int, group string, ask bool, at int64) Offset {
		return Offset{Span: ms(begin, begin+1), Group: group, Topic: "t", Ask: ask, At: at, Outcome: OK}
	}
	entry := func(i, term uint64, base int64) Entry {
		return Entry{Index: i, Term: term, Kind: "data", Base: base, Sum: [32]byte{byte(i)}}
	}
	kept := func(index uint64, offset int64, key byte) Record {
		return Record{Index: index, Offset: offset, Key: [32]byte{key}, Value: [32]byte{byte(offset)}}
	}
	return &History{
		Topics: map[string]Topic{"t": {Partitions: 1}, "u": {Partitions: 1}},
		Sends: []Send{
			send(0, "p", "", "t", "a", "", 0), send(10, "p", "", "t", "b", "", 1), send(20, "q", "tx", "t", "c", "", 2), send(30, "p", "", "t", "d", "", 4),
			send(40, "copier", "copy", "u", "A", "a", 0),
		},
		Txns: []Txn{{ms(25, 26), "tx", false, OK}, {ms(41, 42), "copy", true, OK}},
		Polls: []Poll{
			poll(50, "r", "", "t", true, false, 3, a, b), poll(60, "r", "", "t", true, false, 5, d),
			poll(50, "m", "g", "t", true, false, 5, a), poll(55, "m2", "g", "t", true, false, 5, b, d),
			poll(90, "f", "", "t", false, true, 5, a, b, c, abort, d), poll(90, "fc", "", "t", true, true, 5, a, b, abort, d),
			poll(90, "f", "", "u", false, true, 2, copied, commit), poll(90, "fc", "", "u", true, true, 2, copied, commit),
		},
		Offsets: []Offset{offset(41, "copiers", false, 1), offset(80, "copiers", true, 1), offset(52, "g", false, 1), offset(56, "g", false, 5), offset(80, "g", true, 5)},
		Pipes:   []Pipe{{In: "t", Out: "u", Group: "copiers"}},
		Changes: []Change{
			{Span: ms(0, 5), Topic: "m", Verb: Create, Value: "1", Outcome: OK}, {Span: ms(6, 7), Topic: "m", Verb: Get, Value: "1", Found: true, Outcome: OK},
			{Span: ms(8, 9), Topic: "m", Verb: Set, Value: "2", Found: true, Outcome: OK}, {Span: ms(10, 11), Topic: "m", Verb: Delete, Outcome: Unknown},
		},
		Probes: []Probe{{"kill -9", "t", 0, time.Second, 2 * time.Second}},
		Nodes:  []string{"x", "y"},
		Replicas: []Replica{
			{"x", "t-0 of 1", "t", 0, 2, []Entry{entry(1, 1, 0), entry(2, 1, 4), entry(3, 1, 5)}, nil},
			{"y", "t-0 of 1", "t", 0, 3, []Entry{entry(1, 1, 0), entry(2, 1, 4), entry(3, 2, 5)}, nil},
			{"x", "u-0 of 2", "u", 0, 2, []Entry{entry(1, 1, 0), entry(2, 1, 1)}, nil}, {"y", "u-0 of 2", "u", 0, 2, []Entry{entry(1, 1, 0), entry(2, 1, 1)}, nil},
			{"x", "k-0 of 3", "k", 0, 9, nil, []Record{kept(1, 0, 7), kept(2, 1, 8), kept(3, 2, 7), kept(9, 8, 9)}},
			{"y", "k-0 of 3", "k", 0, 8, nil, []Record{kept(2, 1, 8), kept(3, 2, 7)}}, // 0 was superseded, and 8 is not there yet
		},
	}
}

func TestSmallHistoryIsCorrect(t *testing.T) {
	if _, text := violated(small()); text != "" {
		t.Error(text)
	}
}

func TestPlantedViolations(t *testing.T) {
	without := func(h *History, value string, which func(*Poll) bool) {
		for i := range h.Polls {
			if which(&h.Polls[i]) {
				h.Polls[i].Reads = slices.DeleteFunc(h.Polls[i].Reads, func(r Read) bool { return r.Value == value })
			}
		}
	}
	for _, c := range []struct {
		check, name string
		plant       func(*History)
	}{
		{"lost writes", "an acknowledged record is not there", func(h *History) { without(h, "b", func(*Poll) bool { return true }) }},
		{"lost writes", "a record of a committed transaction is not there", func(h *History) { without(h, "A", func(*Poll) bool { return true }) }},
		{"lost writes", "a committed record is there for read_uncommitted alone", func(h *History) { without(h, "d", func(p *Poll) bool { return p.Final && p.Committed }) }},
		{"lost writes", "nobody read a partition to its end", func(h *History) {
			h.Polls = slices.DeleteFunc(h.Polls, func(p Poll) bool { return p.Final && p.Topic == "u" })
		}},
		{"lost writes", "a record is at another offset than acknowledged", func(h *History) { h.Sends[3].Offset = 7 }},
		{"lost writes", "compaction took the last record of a key", func(h *History) {
			h.Topics["t"] = Topic{1, true}
			h.Sends[3].Key = "k"
			without(h, "d", func(*Poll) bool { return true })
		}},
		{"vanished reads", "a record was shown before it was committed, and went", func(h *History) {
			h.Sends = append(h.Sends, Send{Producer: "z", Topic: "t", Value: "z", Outcome: Unknown, Offset: -1})
			h.Polls[1].Reads = append(h.Polls[1].Reads, Read{5, 2, "", "z", false})
			h.Polls[1].High = 6
		}},
		{"inconsistent offsets", "two consumers were shown different values", func(h *History) { h.Polls[0].Reads[1].Value = "d" }},
		{"inconsistent offsets", "two consumers were shown different leader epochs", func(h *History) { h.Polls[0].Reads[1].Epoch = 9 }},
		{"inconsistent offsets", "an offset was acknowledged for another record", func(h *History) { h.Sends[3].Offset = 1 }},
		{"aborted reads", "read_committed shows a record of an aborted transaction", func(h *History) {
			h.Polls[0].Reads = append(h.Polls[0].Reads, Read{2, 1, "", "c", false})
		}},
		{"aborted reads", "read_committed shows a record of a transaction that was left open", func(h *History) {
			h.Txns[0].Outcome = Unknown
			h.Polls[0].Reads = append(h.Polls[0].Reads, Read{2, 1, "", "c", false})
		}},
		{"aborted reads", "a record that had failed is shown", func(h *History) { h.Sends[1].Outcome = Failed }},
		{"aborted reads", "a record is shown that nobody sent", func(h *History) { h.Sends = slices.Delete(h.Sends, 3, 4) }},
		{"aborted reads", "a record is shown in another partition", func(h *History) { h.Sends[3].Partition = 1 }},
		{"torn transactions", "half of a transaction is shown", func(h *History) {
			h.Sends = append(h.Sends, Send{Producer: "copier", Txn: "copy", Topic: "t", Value: "B", Outcome: OK, Offset: 9})
		}},
		{"duplicates", "a record is there twice", func(h *History) {
			for i := range h.Polls {
				if p := &h.Polls[i]; p.Final && p.Topic == "t" {
					p.Reads, p.High = append(p.Reads, Read{5, 2, "", "d", false}), 6
				}
			}
		}},
		{"order of producers", "two records of a producer have changed places", func(h *History) { h.Sends[0], h.Sends[1] = h.Sends[1], h.Sends[0] }},
		{"order of consumers", "a consumer is shown an offset again", func(h *History) { h.Polls[1].Reads = slices.Insert(h.Polls[1].Reads, 0, h.Polls[0].Reads[1]) }},
		{"skipped records", "a consumer is not shown a record in between", func(h *History) { without(h, "b", func(p *Poll) bool { return p.Consumer == "r" }) }},
		{"high watermark", "it goes back", func(h *History) { h.Polls[0].High = 9 }},
		{"high watermark", "a record above it is shown", func(h *History) { h.Polls[1].High = 4 }},
		{"group offsets", "an answer is lower than a commit before it", func(h *History) { h.Offsets[4].At = 1 }},
		{"group offsets", "a commit is lower than one before it", func(h *History) { h.Offsets[3].At = 0 }},
		{"group offsets", "an answer is none that was committed", func(h *History) { h.Offsets[4].At = 6 }},
		{"group offsets", "the group's offset is gone", func(h *History) { h.Offsets[4].At = -1 }},
		{"skipped by groups", "no member of the group was shown a record", func(h *History) { without(h, "b", func(p *Poll) bool { return p.Group == "g" }) }},
		{"exactly once", "a record was copied twice", func(h *History) {
			h.Sends = append(h.Sends, Send{Producer: "copier", Txn: "copy", Topic: "u", Value: "A2", From: "a", Outcome: OK, Offset: 2})
			for i := range h.Polls {
				if p := &h.Polls[i]; p.Final && p.Topic == "u" {
					p.Reads, p.High = append(p.Reads, Read{2, 1, "", "A2", false}), 3
				}
			}
		}},
		{"exactly once", "a record below the group's offset was not copied", func(h *History) { h.Offsets[1].At, h.Offsets[0].At = 2, 2 }},
		{"exactly once", "a record above the group's offset was copied", func(h *History) { h.Offsets = h.Offsets[2:] }},
		{"metadata linearizable", "a topic is created twice", func(h *History) {
			h.Changes = append(h.Changes[:1], Change{Span: ms(6, 7), Topic: "m", Verb: Create, Outcome: OK})
		}},
		{"metadata linearizable", "a topic that was created is not there", func(h *History) { h.Changes[1].Found = false }},
		{"metadata linearizable", "an answer is older than a change before it", func(h *History) {
			h.Changes[3] = Change{Span: ms(10, 11), Topic: "m", Verb: Get, Value: "1", Found: true, Outcome: OK}
		}},
		{"metadata linearizable", "a topic that was deleted comes back", func(h *History) {
			h.Changes[3] = Change{Span: ms(10, 11), Topic: "m", Verb: Delete, Found: true, Outcome: OK}
			h.Changes = append(h.Changes, Change{Span: ms(12, 13), Topic: "m", Verb: Get, Value: "2", Found: true, Outcome: OK})
		}},
		{"replicas alike", "an entry has other bytes at another node", func(h *History) { h.Replicas[0].Entries[1].Sum[31]++ }},
		{"replicas alike", "an entry has another leader epoch at another node", func(h *History) { h.Replicas[0].Entries[1].Epoch++ }},
		{"replicas alike", "an entry that both know to be committed has two terms", func(h *History) { h.Replicas[0].Commit = 3 }},
		{"replicas alike", "an entry has another offset at another node", func(h *History) { h.Replicas[0].Entries[1].Base++ }},
		{"replicas alike", "a record of a compacted log has another value at another node", func(h *History) { h.Replicas[4].Records[1].Value[0]++ }},
		{"replicas alike", "a record of a compacted log has another key at another node", func(h *History) { h.Replicas[5].Records[0].Key[0]++ }},
		{"replicas alike", "a compacted log lacks the last record of a key", func(h *History) { h.Replicas[5].Records = h.Replicas[5].Records[:1] }},
		{"replicas alike", "the last record of a key is there and another one is not", func(h *History) { h.Replicas[4].Records = h.Replicas[4].Records[2:] }},
		{"replicas whole", "a node has no replica", func(h *History) { h.Replicas = h.Replicas[1:] }},
		{"replicas whole", "a replica lacks an entry in between", func(h *History) { h.Replicas[1].Entries = slices.Delete(h.Replicas[1].Entries, 0, 1) }},
		{"replicas whole", "a replica lacks an entry without records, and has one before it", func(h *History) {
			for i := range 2 {
				h.Replicas[i].Entries[0].Kind, h.Replicas[i].Entries[1].Kind = "control", "control"
			}
			h.Replicas[1].Entries = slices.Delete(h.Replicas[1].Entries, 1, 2)
		}},
		{"replicas whole", "a replica begins behind records", func(h *History) {
			h.Replicas[0].Entries[0].Kind = "control"
			h.Replicas[1].Entries = h.Replicas[1].Entries[2:]
		}},
		{"replicas whole", "a replica lacks the end", func(h *History) { h.Replicas[1].Entries = h.Replicas[1].Entries[:1] }},
		{"replicas whole", "a compacted replica lacks the end", func(h *History) {
			h.Topics["t"] = Topic{1, true}
			h.Replicas[1].Entries = h.Replicas[1].Entries[:1]
		}},
		{"writable after healing", "a partition takes no write in time", func(h *History) { h.Probes[0].Writable = 6 * time.Second }},
		{"writable after healing", "a partition never takes a write", func(h *History) { h.Probes[0].Writable = 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := small()
			c.plant(h)
			if names, text := violated(h); !slices.Contains(names, c.check) {
				t.Errorf("want a violation of %q, got: %s", c.check, text)
			}
		})
	}
}

// TestAllowed: what looks odd and is allowed.
func TestAllowed(t *testing.T) {
	for name, change := range map[string]func(*History){
		"an unknown send is there": func(h *History) { h.Sends[1].Outcome, h.Sends[1].Offset = Unknown, -1 },
		"an unknown send is not there": func(h *History) {
			h.Sends = append(h.Sends, Send{Producer: "z", Topic: "t", Value: "z", Outcome: Unknown, Offset: -1})
		},
		"an unknown commit took effect": func(h *History) { h.Offsets[3].Outcome = Unknown },
		"an unknown commit had no effect": func(h *History) {
			h.Offsets[3].Outcome, h.Offsets[4].At = Unknown, 1
		},
		"an unknown delete took effect later": func(h *History) {
			h.Changes = append(h.Changes, Change{Span: ms(20, 21), Topic: "m", Verb: Get, Value: "2", Found: true, Outcome: OK}, Change{Span: ms(22, 23), Topic: "m", Verb: Get, Outcome: OK})
		},
		"compaction took an older record of a key": func(h *History) {
			h.Topics["t"] = Topic{1, true}
			h.Sends[1].Key, h.Sends[3].Key = "k", "k"
			for i := range h.Polls {
				p := &h.Polls[i]
				p.Reads = slices.DeleteFunc(p.Reads, func(r Read) bool { return r.Value == "b" && p.Final })
				for j := range p.Reads {
					if v := p.Reads[j].Value; v == "b" || v == "d" {
						p.Reads[j].Key = "k"
					}
				}
			}
		},
		"a client does not tell leader epochs":          func(h *History) { h.Polls[0].Reads[1].Epoch = -1 },
		"a replica lacks what came after the last read": func(h *History) { h.Replicas[1].Entries = h.Replicas[1].Entries[:2] },
		"a replica lacks the oldest entries, which have no records": func(h *History) {
			h.Replicas[0].Entries[0].Kind = "control"
			h.Replicas[1].Entries = h.Replicas[1].Entries[1:]
		},
		"a record of an aborted transaction was compacted away": func(h *History) {
			h.Replicas[4].Records[1].Transactional = true
			h.Replicas[5].Records = h.Replicas[5].Records[1:]
		},
		"a compacted replica lacks what was removed": func(h *History) {
			h.Topics["t"] = Topic{1, true}
			h.Replicas[1].Entries = h.Replicas[1].Entries[1:]
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := small()
			change(h)
			if _, text := violated(h); text != "" {
				t.Error(text)
			}
		})
	}
}
