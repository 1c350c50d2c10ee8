package share

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// Topics is what the topics of the site look like at present.
type Topics interface {
	// Version is another one whenever an answer below may be.
	Version() int64
	// Topic finds a topic by name.
	Topic(name string) (id record.TopicID, partitions int32, ok bool)
}

// Assignment is partitions by topic, each list sorted.
type Assignment map[record.TopicID][]int32

// Equal reports whether two assignments are the same.
func (a Assignment) Equal(b Assignment) bool {
	return maps.EqualFunc(a, b, slices.Equal[[]int32])
}

// Heartbeat is a ShareGroupHeartbeat request.
type Heartbeat struct {
	MemberID   string
	Epoch      int32    // 0 joins, -1 leaves
	Topics     []string // nil: as before
	Rack       string
	ClientID   string
	ClientHost string
}

// Answer answers it.
type Answer struct {
	Epoch      int32
	Assignment Assignment // nil: as before
}

// Member is one member of a group.
type Member struct {
	ID, Rack, ClientID, ClientHost string
	Topics                         []string // sorted, each once
	Epoch                          int32
	Assignment                     Assignment

	previous int32
	told     Assignment
	session  time.Time // when it is out
}

// Group is the members of a share group. They are not kept: after a restart
// they come again.
type Group struct {
	epoch   int32
	seen    int64
	members map[string]*Member
	limits  Limits
}

// NewGroup is a group without members.
func NewGroup(l Limits) *Group { return &Group{seen: -1, members: map[string]*Member{}, limits: l} }

// Epoch counts the changes of members and topics.
func (g *Group) Epoch() int32 { return g.epoch }

// Members are the members by ID.
func (g *Group) Members() []*Member {
	ms := slices.Collect(maps.Values(g.members))
	slices.SortFunc(ms, func(a, b *Member) int { return cmp.Compare(a.ID, b.ID) })
	return ms
}

// Empty reports whether the group has no members.
func (g *Group) Empty() bool { return len(g.members) == 0 }

// Heartbeat hears a member. The error wraps ErrMember, ErrEpoch or ErrFull.
func (g *Group) Heartbeat(now time.Time, set Settings, h Heartbeat, topics Topics) (Answer, error) {
	m := g.members[h.MemberID]
	switch {
	case m == nil && h.Epoch != 0:
		return Answer{}, ErrMember
	case h.Epoch < 0:
		g.remove(m, topics)
		return Answer{Epoch: h.Epoch}, nil
	case m == nil && len(g.members) >= g.limits.MaxMembers:
		return Answer{}, fmt.Errorf("%w: %d", ErrFull, g.limits.MaxMembers)
	case m == nil:
		m = &Member{ID: h.MemberID}
		g.members[m.ID] = m
		g.seen = -1
		g.epoch++
	case h.Epoch != 0 && h.Epoch != m.Epoch && h.Epoch != m.previous:
		return Answer{}, fmt.Errorf("%w: %d, the group has %d", ErrEpoch, h.Epoch, m.Epoch)
	}
	g.hear(m, h, topics)
	m.session = now.Add(set.Session)
	if m.Epoch != g.epoch {
		m.previous, m.Epoch = m.Epoch, g.epoch
	}
	a := Answer{Epoch: m.Epoch}
	if h.Epoch == 0 || h.Topics != nil || h.Epoch != m.Epoch || m.told == nil || !m.told.Equal(m.Assignment) {
		m.told, a.Assignment = m.Assignment, m.Assignment
	}
	return a, nil
}

// hear takes over what a member tells, and assigns anew if that or a topic has
// changed.
func (g *Group) hear(m *Member, h Heartbeat, topics Topics) {
	m.Rack, m.ClientID, m.ClientHost = h.Rack, h.ClientID, h.ClientHost
	if h.Topics != nil {
		if want := slices.Compact(slices.Sorted(slices.Values(h.Topics))); !slices.Equal(want, m.Topics) {
			m.Topics = want
			g.seen = -1
		}
	}
	if v := topics.Version(); v != g.seen {
		g.seen = v
		g.assign(topics)
	}
}

func (g *Group) remove(m *Member, topics Topics) {
	delete(g.members, m.ID)
	g.epoch++
	g.assign(topics)
}

// Tick removes members that are not heard any more.
func (g *Group) Tick(now time.Time, topics Topics) {
	for _, m := range g.Members() {
		if !now.Before(m.session) {
			g.remove(m, topics)
		}
	}
}

// Deadline is when the next member will have been silent for too long.
func (g *Group) Deadline() (d time.Time) {
	for _, m := range g.members {
		if d.IsZero() || m.session.Before(d) {
			d = m.session
		}
	}
	return d
}

// assign gives each topic's partitions to its subscribers, so that everyone has
// one at least and no partition has many more members than another (Kafka's
// assignor "simple").
func (g *Group) assign(topics Topics) {
	subscribers := map[string][]*Member{}
	next := map[string]Assignment{}
	for _, m := range g.Members() {
		next[m.ID] = Assignment{}
		for _, t := range m.Topics {
			subscribers[t] = append(subscribers[t], m)
		}
	}
	for name, ms := range subscribers {
		id, partitions, ok := topics.Topic(name)
		if !ok || partitions < 1 {
			continue
		}
		for i := range max(len(ms), int(partitions)) {
			a := next[ms[i%len(ms)].ID]
			a[id] = append(a[id], int32(i%int(partitions)))
		}
	}
	changed := false
	for _, m := range g.members {
		for _, ps := range next[m.ID] {
			slices.Sort(ps)
		}
		if !next[m.ID].Equal(m.Assignment) {
			m.Assignment, changed = next[m.ID], true
		}
	}
	if changed {
		g.epoch++
	}
}
