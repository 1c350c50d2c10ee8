package group

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// ConsumerHeartbeat is a ConsumerGroupHeartbeat request. Nil means that a field
// is as it was in the member's last one.
type ConsumerHeartbeat struct {
	MemberID   string
	Epoch      int32 // 0 joins, -1 leaves, -2 leaves for a while (static members)
	Instance   *string
	Rack       *string
	Rebalance  time.Duration // to give up partitions; negative: as it was
	Topics     []string
	Regex      *string // of topic names, in RE2's syntax
	Assignor   *string
	Owned      *Assignment
	ClientID   string
	ClientHost string

	classic *ClassicMember // of a join in this form
}

// ConsumerAnswer answers it.
type ConsumerAnswer struct {
	MemberID   string
	Epoch      int32
	Interval   time.Duration // until the next heartbeat
	Assignment *Assignment   // nil: as it was
}

// full reports whether the member tells all about itself, so that it has to be
// told all again: it may have missed an answer.
func (r *ConsumerHeartbeat) full() bool {
	return r.Epoch == epochJoin || r.Rebalance >= 0 && (r.Topics != nil || r.Regex != nil) && r.Owned != nil
}

func (r *ConsumerHeartbeat) check() error {
	bad := func(what string) error { return fmt.Errorf("%w: %s", record.ErrInvalidRequest, what) }
	empty := func(s *string) bool { return s != nil && *s == "" }
	switch {
	case r.MemberID == "":
		return bad("MemberId must not be empty")
	case r.Epoch < epochAway:
		return bad(fmt.Sprintf("MemberEpoch is %d, want -2 or more", r.Epoch))
	case empty(r.Instance), r.Epoch == epochAway && r.Instance == nil:
		return bad("InstanceId must not be empty")
	case empty(r.Rack):
		return bad("RackId must not be empty")
	case r.Epoch != epochJoin:
	case r.Rebalance < 0:
		return bad("RebalanceTimeoutMs must be in the first request")
	case r.Owned == nil || len(*r.Owned) > 0:
		return bad("TopicPartitions must be empty in the first request")
	case r.Topics == nil && r.Regex == nil:
		return bad("SubscribedTopicNames or SubscribedTopicRegex must be in the first request")
	}
	if r.Assignor != nil && assignor(*r.Assignor) == nil {
		return fmt.Errorf("%w: %q, there are %s and %s", ErrUnsupportedAssignor, *r.Assignor, Uniform, Range)
	}
	return nil
}

// ConsumerHeartbeat handles a heartbeat of the consumer protocol. It is
// answered when everything that the answer tells is durable.
func (g *Group) ConsumerHeartbeat(now time.Time, t Ticket, r ConsumerHeartbeat, topics Topics) (out Output) {
	err := r.check()
	switch {
	case err != nil:
	case g.id == "":
		err = ErrInvalidGroupID
	case g.state == Dead:
		err = ErrDead
	case r.Epoch < 0:
		err = g.leaveConsumer(now, t, r, topics, &out)
	default:
		err = g.heartbeatConsumer(now, t, r, topics, &out)
	}
	if err != nil {
		out.end(t, err)
	}
	return out
}

func (g *Group) heartbeatConsumer(now time.Time, t Ticket, r ConsumerHeartbeat, topics Topics, out *Output) error {
	expr, err := compile(r.Regex)
	if err != nil {
		return err
	}
	if err := g.admit(now, r, topics, out); err != nil {
		return err
	}
	m, came, err := g.consumer.find(r)
	if err != nil {
		return err
	}
	before := g.advance(now, m, came, r, expr, topics)
	m.wait(now, before, g.cfg.Consumer.Session)
	g.settle(now)
	a := &ConsumerAnswer{MemberID: m.id, Epoch: m.current.Epoch, Interval: g.cfg.Consumer.Interval}
	if r.full() || !before.Assigned.equal(m.current.Assigned) {
		assigned := m.current.Assigned // as it is now: the answer waits for its write
		a.Assignment = &assigned
	}
	g.persist(out, Answer{Ticket: t, Consumer: a})
	return nil
}

// advance takes over what a member tells, computes targets if they may have
// changed, and leads the member one step towards its own. It returns what the
// member had before.
func (g *Group) advance(now time.Time, m *consumer, came coming, r ConsumerHeartbeat, expr *pattern, topics Topics) (before Current) {
	c := g.consumer
	behind := c.epoch > c.target
	changed := c.takeIn(m, r, expr) || came == added
	if came != known {
		c.touch(MemberEntry, m.id)
	}
	if news := c.look(now, topics, changed || behind); changed || news && !behind {
		c.bump()
	}
	if c.epoch > c.target {
		c.retarget(topics)
	}
	before = m.current
	free := func(p partition) bool { o := c.owners[p]; return o == nil || o == m }
	if next := reconcile(m.current, c.target, m.target, r.Owned, free); !next.equal(m.current) {
		c.set(m, next)
	}
	return before
}

// wait begins the member's session anew, and the time it has to give up
// partitions when it was just told to.
func (m *consumer) wait(now time.Time, before Current, session time.Duration) {
	m.session = now.Add(session)
	switch {
	case m.current.State != Unrevoked:
		m.due = time.Time{}
	case m.due.IsZero() || !before.equal(m.current):
		m.due = now.Add(m.Rebalance)
	}
}

// admit makes sure that the group is a consumer group with room for the
// member. A classic group becomes one if it may.
func (g *Group) admit(now time.Time, r ConsumerHeartbeat, topics Topics, out *Output) error {
	if c := g.consumer; c != nil {
		known := c.byID[r.MemberID] != nil || r.Instance != nil && c.statics[*r.Instance] != nil
		if !known && r.Epoch == epochJoin && len(c.byID) >= g.cfg.MaxMembers {
			return fmt.Errorf("%w: %d", ErrMaxSize, g.cfg.MaxMembers)
		}
		return nil
	}
	switch {
	case r.Epoch != epochJoin:
		return ErrUnknownMember
	case len(g.members) == 0 && g.state == Empty && (len(g.pending) == 0 || g.cfg.Migration.up()):
		clear(g.pending)
		g.becomeConsumer(now)
		return nil
	case r.Instance != nil && g.byID[r.MemberID] != nil:
		return fmt.Errorf("%w: the member ID belongs to another member", record.ErrInvalidRequest)
	case len(g.members) >= g.cfg.MaxMembers && (r.Instance == nil || g.statics[*r.Instance] == nil):
		return fmt.Errorf("%w: %d", ErrMaxSize, g.cfg.MaxMembers)
	}
	return g.upgrade(now, topics, out)
}

// coming is how a member came to its heartbeat.
type coming uint8

const (
	known    coming = iota
	added           // it is new
	replaced        // a static member has a new ID and takes over what it had
)

// find returns the member of a heartbeat, a new one if it joins.
func (c *consumers) find(r ConsumerHeartbeat) (m *consumer, came coming, err error) {
	if r.Instance != nil {
		if old, ok := c.statics[*r.Instance]; ok {
			return c.findStatic(old, r)
		}
	}
	m, ok := c.byID[r.MemberID]
	switch {
	case r.Epoch == epochJoin && !ok:
		return c.add(r.MemberID), added, nil
	case !ok || r.Instance != nil && r.Epoch != epochJoin:
		return nil, known, ErrUnknownMember
	}
	return m, known, m.fits(r)
}

func (c *consumers) findStatic(old *consumer, r ConsumerHeartbeat) (m *consumer, came coming, err error) {
	switch {
	case old.id == r.MemberID:
		return old, known, old.fits(r)
	case r.Epoch != epochJoin:
		return nil, known, fmt.Errorf("%w: %s is %s now", ErrFencedInstance, *r.Instance, old.id)
	case old.Classic == nil && old.current.Epoch != epochAway: // classic ones do not say that they leave
		return nil, known, fmt.Errorf("%w: %s is %s, which has not left", ErrUnreleasedInstance, *r.Instance, old.id)
	case c.byID[r.MemberID] != nil:
		return nil, known, fmt.Errorf("%w: the member ID belongs to another member", record.ErrInvalidRequest)
	}
	return c.replace(old, r.MemberID), replaced, nil
}

// fits checks the epoch of a heartbeat. The one before is right too if the
// member has nothing that it should not have: the answer with the new one was
// lost.
func (m *consumer) fits(r ConsumerHeartbeat) error {
	cur := &m.current
	switch {
	case r.Epoch == epochJoin, r.Epoch == cur.Epoch:
		return nil
	case r.Epoch == cur.Previous && r.Owned != nil && r.Owned.within(cur.Assigned):
		return nil
	}
	return fmt.Errorf("%w: %d, the group has %d; give up all partitions and join again", ErrFencedEpoch, r.Epoch, cur.Epoch)
}

// takeIn takes over what a heartbeat tells of its member and reports whether
// the targets may change with it.
func (c *consumers) takeIn(m *consumer, r ConsumerHeartbeat, expr *pattern) (changed bool) {
	before := m.ConsumerMember
	next := before.with(r)
	if expr != nil {
		next.Regex = expr.text
		if next.Regex != "" && c.regexes[next.Regex] == nil {
			c.regexes[next.Regex] = expr
		}
	}
	m.ConsumerMember = next
	if next.Regex != before.Regex {
		c.sweepPatterns()
	}
	if next.Instance != before.Instance {
		delete(c.statics, before.Instance)
		c.statics[next.Instance] = m
	}
	changed = next.Instance != before.Instance || next.Assignor != before.Assignor ||
		next.Regex != before.Regex || !slices.Equal(next.Topics, before.Topics)
	if changed || next.Rack != before.Rack || next.Rebalance != before.Rebalance || !next.Classic.equal(before.Classic) {
		c.touch(MemberEntry, m.id)
	}
	return changed
}

// with is m with what a heartbeat tells, but for the regular expression.
func (m ConsumerMember) with(r ConsumerHeartbeat) ConsumerMember {
	if r.Instance != nil {
		m.Instance = *r.Instance
	}
	if r.Rack != nil {
		m.Rack = *r.Rack
	}
	if r.Rebalance >= 0 {
		m.Rebalance = r.Rebalance
	}
	if r.Topics != nil {
		m.Topics = sortedSet(r.Topics)
	}
	if r.Assignor != nil {
		m.Assignor = *r.Assignor
	}
	m.ClientID, m.ClientHost, m.Classic = r.ClientID, r.ClientHost, r.classic
	return m
}

func sortedSet(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// compile checks a regular expression of topic names; "" is none.
func compile(expr *string) (*pattern, error) {
	if expr == nil {
		return nil, nil
	}
	re, err := regexp.Compile("^(?:" + *expr + ")$")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidRegex, err)
	}
	return &pattern{text: *expr, re: re}, nil
}
