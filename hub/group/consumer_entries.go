package group

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// EntryKind is what a record of a consumer group is about. The numbers are the
// versions of the records' keys in Kafka's __consumer_offsets.
type EntryKind int16

// The kinds of records. Those with a member's or an expression's name are one
// for each.
const (
	GroupEntry       EntryKind = 3  // GroupEpoch
	MemberEntry      EntryKind = 5  // ConsumerMember
	TargetEpochEntry EntryKind = 6  // TargetEpoch
	TargetEntry      EntryKind = 7  // Target
	CurrentEntry     EntryKind = 8  // Current
	RegexEntry       EntryKind = 16 // Resolved
)

// EntryKey names one record of a consumer group.
type EntryKey struct {
	Kind EntryKind
	Name string // a member's ID, or the regular expression; "" for the group's own
}

// Entry is one record of a consumer group. A nil Value removes it.
type Entry struct {
	Key   EntryKey
	Value EntryValue
}

// EntryValue is one of the six kinds below.
type EntryValue interface{ entryValue() }

// GroupEpoch is the group's own record.
type GroupEpoch struct {
	Epoch int32
	Hash  int64 // of the topics that are subscribed to
}

// ConsumerMember is what a member told about itself.
type ConsumerMember struct {
	Instance   string // group.instance.id, "" for a dynamic member
	Rack       string
	ClientID   string
	ClientHost string
	Topics     []string // sorted
	Regex      string
	Rebalance  time.Duration
	Assignor   string         // "" for whatever the others want
	Classic    *ClassicMember // nil for a member of the consumer protocol
}

// TargetEpoch is the group epoch for which the targets were computed.
type TargetEpoch struct{ Epoch int32 }

// Target is what a member is to have in the end.
type Target struct{ Assignment Assignment }

// Current is what a member has.
type Current struct {
	Epoch    int32
	Previous int32 // the epoch before
	State    MemberState
	Assigned Assignment
	Revoking Assignment // not yet given up
}

// Resolved is what a regular expression stands for.
type Resolved struct {
	Topics  []string // sorted
	Version int64    // Topics.Version when it was looked up
	At      int64    // milliseconds
}

func (GroupEpoch) entryValue()     {}
func (ConsumerMember) entryValue() {}
func (TargetEpoch) entryValue()    {}
func (Target) entryValue()         {}
func (Current) entryValue()        {}
func (Resolved) entryValue()       {}

// value is the present content of a record, nil if it is to be removed.
func (c *consumers) value(k EntryKey) EntryValue {
	switch k.Kind {
	case GroupEntry:
		return GroupEpoch{c.epoch, c.hash}
	case TargetEpochEntry:
		return TargetEpoch{c.target}
	case RegexEntry:
		if p := c.regexes[k.Name]; p != nil {
			return p.Resolved
		}
		return nil
	}
	m := c.byID[k.Name]
	if m == nil {
		return nil
	}
	switch k.Kind {
	case MemberEntry:
		return m.ConsumerMember
	case TargetEntry:
		return Target{m.target}
	case CurrentEntry:
		return m.current
	}
	return nil
}

// waiters are the answers that wait for one write.
type waiters struct{ answers []Answer }

// persist hands out what has changed, and gives the answer once everything
// that came before it is durable. What cannot be written stays changed in
// memory and goes along with the next write.
func (g *Group) persist(out *Output, a Answer) {
	c := g.consumer
	if len(c.dirty) > 0 || c.classic {
		g.writeDirty(out)
	}
	switch {
	case c.last == nil:
		out.give(a, nil)
	case a.Ticket != 0:
		c.last.answers = append(c.last.answers, a)
	}
}

func (g *Group) writeDirty(out *Output) {
	c, w := g.consumer, &waiters{}
	keys := slices.SortedFunc(maps.Keys(c.dirty), compareKeys)
	write := Write{Delete: c.classic}
	for _, k := range keys {
		write.Entries = append(write.Entries, Entry{k, c.value(k)})
	}
	clear(c.dirty)
	c.classic = false
	c.last = w
	g.write(out, write, func(now time.Time, err error, out *Output) {
		if c.last == w {
			c.last = nil
		}
		if err != nil {
			for _, k := range keys {
				c.dirty[k] = true
			}
			c.classic = c.classic || write.Delete
		}
		for _, a := range w.answers {
			out.give(a, err)
		}
	})
}

// compareKeys is the order in which records are written and loaded: members
// before what refers to them, and the epoch of the targets after all targets. A
// write of which the first part alone is kept then has a group epoch above that
// of the targets, and they are computed again.
func compareKeys(a, b EntryKey) int {
	return cmp.Or(cmp.Compare(a.Kind.rank(), b.Kind.rank()), cmp.Compare(a.Name, b.Name))
}

func (k EntryKind) rank() EntryKind {
	if k == TargetEpochEntry {
		return RegexEntry + 1
	}
	return k
}

// tombs are the records to remove for nothing to be left of a group without
// members.
func (c *consumers) tombs() (es []Entry) {
	keys := maps.Clone(c.dirty)
	keys[EntryKey{Kind: GroupEntry}], keys[EntryKey{Kind: TargetEpochEntry}] = true, true
	for _, k := range slices.SortedFunc(maps.Keys(keys), compareKeys) {
		es = append(es, Entry{Key: k})
	}
	return es
}

// LoadConsumer returns a consumer group as it was persisted. Sessions begin
// anew.
func LoadConsumer(id string, cfg Config, now time.Time, entries []Entry, offsets []OffsetWrite) (*Group, error) {
	g := New(id, cfg, now)
	g.apply(offsets)
	g.protocolType = consumerProtocol
	c := newConsumers()
	g.consumer = c
	slices.SortFunc(entries, func(a, b Entry) int { return compareKeys(a.Key, b.Key) })
	var failed error
	for _, e := range entries {
		if err := c.load(e); err != nil {
			failed = err
		}
	}
	for _, m := range c.sorted() {
		if m.Regex != "" && c.regexes[m.Regex] == nil {
			if err := c.load(Entry{EntryKey{RegexEntry, m.Regex}, Resolved{}}); err != nil {
				failed = err
			}
		}
		c.claim(m)
		m.session = now.Add(cfg.Consumer.Session)
		if m.Classic != nil {
			m.session = now.Add(m.Classic.Session)
		}
		if m.current.State == Unrevoked {
			m.due = now.Add(m.Rebalance)
		}
	}
	g.settle(now)
	return g, failed
}

// load takes over one record. Members come before what refers to them.
func (c *consumers) load(e Entry) error {
	m := c.byID[e.Key.Name]
	switch v := e.Value.(type) {
	case GroupEpoch:
		c.epoch, c.hash = max(c.epoch, v.Epoch), v.Hash
	case ConsumerMember:
		m = c.add(e.Key.Name)
		m.ConsumerMember = v
		if m.Instance != "" {
			c.statics[m.Instance] = m
		}
	case TargetEpoch:
		c.target, c.epoch = v.Epoch, max(c.epoch, v.Epoch)
	case Target:
		if m != nil {
			m.target = v.Assignment
		}
	case Current:
		if m != nil {
			m.current, c.epoch = v, max(c.epoch, v.Epoch)
		}
	case Resolved:
		p, err := compile(&e.Key.Name)
		if err != nil {
			return fmt.Errorf("expression of a consumer group: %w", err)
		}
		p.Resolved = v
		c.regexes[p.text] = p
	}
	return nil
}

// claim gives a loaded member its partitions. Two members can be recorded with
// the same one if the write of the first one's release failed and that of the
// second one's gain did not: then the later epoch is right.
func (c *consumers) claim(m *consumer) {
	for _, a := range []Assignment{m.current.Assigned, m.current.Revoking} {
		for p := range a.all() {
			o := c.owners[p]
			if o != nil && o.current.Epoch >= m.current.Epoch {
				c.yield(m, p)
				continue
			}
			if o != nil {
				c.yield(o, p)
			}
			c.owners[p], m.gained[p] = m, m.current.Epoch
		}
	}
}

func (c *consumers) yield(m *consumer, p partition) {
	other := func(q partition) bool { return q != p }
	m.current.Assigned, m.current.Revoking = m.current.Assigned.only(other), m.current.Revoking.only(other)
	c.touch(CurrentEntry, m.id)
}
