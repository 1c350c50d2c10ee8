package group

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// The consumer group protocol (KIP-848). Members send heartbeats and nothing
// else; the group computes a target assignment for each epoch, and every member
// is led towards it by the answers to its heartbeats:
//
//	member's epoch   what it has      what is left to do
//	group epoch      its target       nothing: stable
//	group epoch      part of it       waits for partitions that others still have: unreleased
//	an older one     more than it     must give up partitions first: unrevoked
//
// A partition belongs to one member at most, from the answer that gives it to
// the heartbeat that no longer names it (or until its owner is fenced).

// Topics is what the topics of the site look like at present.
type Topics interface {
	// Version is another one whenever an answer below may be.
	Version() int64
	// Topic finds a topic by name.
	Topic(name string) (id record.TopicID, partitions int32, ok bool)
	// Name is the name of a topic.
	Name(id record.TopicID) (name string, ok bool)
	// Matching lists the topics, those of the hub itself too, that accept
	// takes, sorted by name.
	Matching(accept func(name string) bool) []string
}

// MemberState is how far a member of a consumer group is with its target.
// The numbers are those that Kafka writes.
type MemberState int8

// The states of a member.
const (
	Reconciled MemberState = 0 // Kafka calls it STABLE
	Unrevoked  MemberState = 1 // has partitions that it must give up
	Unreleased MemberState = 2 // waits for partitions that others have
)

// Special epochs of a heartbeat.
const (
	epochJoin  = 0
	epochLeave = -1
	epochAway  = -2 // a static member leaves for a while
)

// consumers is the part of a Group that only consumer groups have.
type consumers struct {
	epoch   int32 // of the group: counts changes of members and topics
	target  int32 // epoch for which the targets were computed
	hash    int64 // of the topics that are subscribed to, at epoch
	seen    int64 // Topics.Version at the last look
	byID    map[string]*consumer
	statics map[string]*consumer // by instance ID
	regexes map[string]*pattern
	owners  map[partition]*consumer

	dirty   map[EntryKey]bool // changed and not yet handed out to be written
	last    *waiters          // of the newest write that is in flight
	classic bool              // the record of the classic group is still to be removed
}

func newConsumers() *consumers {
	return &consumers{
		seen: -1, byID: map[string]*consumer{}, statics: map[string]*consumer{},
		regexes: map[string]*pattern{}, owners: map[partition]*consumer{}, dirty: map[EntryKey]bool{},
	}
}

// consumer is one member of a consumer group.
type consumer struct {
	id string
	ConsumerMember
	current Current
	target  Assignment
	gained  map[partition]int32 // epoch at which each partition of current came

	session time.Time // when it is fenced without a heartbeat
	// due is when it is fenced for not having done what it was told: given up
	// partitions (Unrevoked), or, a classic member, synced or joined again.
	due     time.Time
	syncing bool // a classic member: its sync is due
}

// add makes a new member.
func (c *consumers) add(id string) *consumer {
	m := &consumer{id: id, current: Current{Previous: -1}, gained: map[partition]int32{}}
	c.byID[id] = m
	return m
}

// replace gives the place of a static member, and what it had, to a new process
// with another ID.
func (c *consumers) replace(old *consumer, id string) *consumer {
	m := c.add(id)
	m.ConsumerMember, m.target = old.ConsumerMember, old.target
	next := Current{Previous: -1, Assigned: old.current.Assigned}
	c.statics[m.Instance] = m
	c.remove(old)
	c.set(m, next)
	c.touch(TargetEntry, m.id)
	return m
}

// IsConsumer reports whether the group speaks the consumer protocol (KIP-848);
// if not, it is a classic one.
func (g *Group) IsConsumer() bool { return g.consumer != nil }

// sorted are the members in the order of their IDs.
func (c *consumers) sorted() []*consumer {
	return slices.SortedFunc(maps.Values(c.byID), func(a, b *consumer) int { return cmp.Compare(a.id, b.id) })
}

// state is where a consumer group is, by its epochs and members.
func (c *consumers) state() State {
	switch {
	case len(c.byID) == 0:
		return Empty
	case c.epoch > c.target:
		return Assigning
	}
	for _, m := range c.byID {
		if m.current.State != Reconciled || m.current.Epoch != c.target {
			return Reconciling
		}
	}
	return Stable
}

// settle takes note of the state after a change.
func (g *Group) settle(now time.Time) {
	if s := g.consumer.state(); s != g.state {
		g.enter(now, s)
	}
}

func (c *consumers) touch(kind EntryKind, name string) { c.dirty[EntryKey{kind, name}] = true }

// bump begins a new group epoch.
func (c *consumers) bump() {
	c.epoch++
	c.touch(GroupEntry, "")
}

// set gives a member its new current assignment and keeps owners true to it.
func (c *consumers) set(m *consumer, next Current) {
	c.release(m)
	m.current = next
	gained := map[partition]int32{}
	for _, a := range []Assignment{next.Assigned, next.Revoking} {
		for p := range a.all() {
			c.owners[p], gained[p] = m, next.Epoch
			if e, had := m.gained[p]; had {
				gained[p] = e
			}
		}
	}
	m.gained = gained
	c.touch(CurrentEntry, m.id)
}

func (c *consumers) release(m *consumer) {
	for _, a := range []Assignment{m.current.Assigned, m.current.Revoking} {
		for p := range a.all() {
			if c.owners[p] == m {
				delete(c.owners, p)
			}
		}
	}
}

// remove takes a member out and lets go of its partitions. The group's epoch
// is not changed by it.
func (c *consumers) remove(m *consumer) {
	c.release(m)
	delete(c.byID, m.id)
	if c.statics[m.Instance] == m {
		delete(c.statics, m.Instance)
	}
	for _, k := range []EntryKind{MemberEntry, TargetEntry, CurrentEntry} {
		c.touch(k, m.id)
	}
	c.sweepPatterns()
}

// removed follows the removal of members for good: the others get their
// partitions, or the group is a classic one again.
func (g *Group) removed(now time.Time, topics Topics, a Answer, out *Output) {
	if g.downgrade(now, topics, a, out) {
		return
	}
	g.consumer.bump()
	g.settle(now)
	g.persist(out, a)
}

// deadline is when the next member will have waited too long.
func (c *consumers) deadline() (d time.Time) {
	for _, m := range c.byID {
		for _, t := range []time.Time{m.session, m.due} {
			if !t.IsZero() && (d.IsZero() || t.Before(d)) {
				d = t
			}
		}
	}
	return d
}

// tickConsumers fences members whose session ended, and those that did not
// do in time what they were told.
func (g *Group) tickConsumers(now time.Time, topics Topics, out *Output) {
	c := g.consumer
	fenced := false
	for _, m := range c.sorted() {
		if !now.Before(m.session) || !m.due.IsZero() && !now.Before(m.due) {
			c.remove(m)
			fenced = true
		}
	}
	if fenced {
		g.removed(now, topics, Answer{}, out)
	}
}

// leaveConsumer handles a heartbeat with epoch -1 or -2.
func (g *Group) leaveConsumer(now time.Time, t Ticket, r ConsumerHeartbeat, topics Topics, out *Output) error {
	c := g.consumer
	if c == nil {
		return ErrUnknownMember
	}
	m, ok := c.byID[r.MemberID]
	if r.Instance != nil {
		if m, ok = c.statics[*r.Instance]; ok && m.id != r.MemberID {
			return fmt.Errorf("%w: %s is %s now", ErrFencedInstance, *r.Instance, m.id)
		}
	}
	a := Answer{Ticket: t, Consumer: &ConsumerAnswer{MemberID: r.MemberID, Epoch: r.Epoch}}
	switch {
	case !ok:
		return ErrUnknownMember
	case r.Epoch == epochAway:
		// It will be back: its partitions wait for it until its session ends.
		next := m.current
		next.Epoch, next.Revoking = epochAway, nil
		c.set(m, next)
		m.due = time.Time{}
		g.settle(now)
		g.persist(out, a)
	default:
		c.remove(m)
		g.removed(now, topics, a, out)
	}
	return nil
}
