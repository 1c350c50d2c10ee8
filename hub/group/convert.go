package group

import (
	"fmt"
	"time"
)

// consumerProtocol is the protocol type of consumers, classic or not.
const consumerProtocol = "consumer"

// Migration says which groups with members may change their protocol (KIP-848).
// One without members changes it with the first member that joins. Its offsets
// stay in any case.
type Migration string

// The policies, by their names in Kafka's group.consumer.migration.policy.
const (
	MigrateBoth Migration = "bidirectional"
	MigrateUp   Migration = "upgrade"   // classic to consumer groups only
	MigrateDown Migration = "downgrade" // consumer to classic groups only
	MigrateNone Migration = "disabled"
)

func (p Migration) up() bool   { return p == MigrateBoth || p == MigrateUp }
func (p Migration) down() bool { return p == MigrateBoth || p == MigrateDown }

// becomeConsumer makes an empty classic group a consumer group. The record of
// the classic one goes with the first write.
func (g *Group) becomeConsumer(now time.Time) {
	g.consumer = newConsumers()
	g.consumer.classic = g.generation > 0
	g.generation, g.protocol, g.leader = 0, "", ""
	g.protocolType = consumerProtocol
	g.enter(now, Empty)
}

// becomeClassic makes an empty consumer group a classic one and removes its
// records. If that fails, those of the classic group come later in the log and
// count.
func (g *Group) becomeClassic(now time.Time, out *Output) {
	tombs := g.consumer.tombs()
	g.consumer, g.protocolType = nil, ""
	g.enter(now, Empty)
	g.write(out, Write{Entries: tombs}, func(time.Time, error, *Output) {})
}

// upgrade makes a classic group with members a consumer group of classic
// members, for the first one that joins with the consumer protocol. They have
// what the last assignment gave them; a rebalance that is under way ends, and
// the new one that the joining member brings takes its place.
func (g *Group) upgrade(now time.Time, topics Topics, out *Output) error {
	switch {
	case !g.cfg.Migration.up():
		return fmt.Errorf("%w: its members use the classic protocol, and group.consumer.migration.policy is %s", ErrOtherProtocol, g.cfg.Migration)
	case len(g.members) > 0 && g.protocolType != consumerProtocol:
		return fmt.Errorf("%w: the protocol type of its members is %q", ErrOtherProtocol, g.protocolType)
	}
	c := newConsumers()
	for _, m := range g.members {
		if m.isNew {
			continue // has nothing, and perhaps no ID that it knows
		}
		if err := c.takeOver(m, g.generation, topics); err != nil {
			return err
		}
		c.byID[m.id].session = latest(m.deadline, now.Add(m.session))
	}
	for _, m := range g.members {
		end := ErrRebalancing
		if m.isNew {
			end = ErrUnknownMember
		}
		out.end(m.join, end)
		out.end(m.sync, end)
	}
	c.epoch, c.target = g.generation, g.generation
	c.touch(GroupEntry, "")
	c.touch(TargetEpochEntry, "")
	g.members, g.gone = nil, false
	clear(g.byID)
	clear(g.statics)
	clear(g.pending)
	g.becomeConsumer(now)
	c.classic, g.consumer = g.consumer.classic, c
	g.settle(now)
	return nil
}

// takeOver makes a member of a classic group one of a consumer group.
func (c *consumers) takeOver(old *member, epoch int32, topics Topics) error {
	sub, known := readSubscription(old.protocols[0].Metadata)
	has, kept := readAssignment(old.assignment, topics)
	if !known || !kept {
		return fmt.Errorf("%w: the assignor of its classic members is not one of Kafka's: member %s", ErrOtherProtocol, old.id)
	}
	// A cooperative member works on what it joined with until it has heard of the
	// assignment, and the rebalance may have ended before.
	has = has.plus(fromNames(sub.owned, topics))
	m := c.add(old.id)
	m.ConsumerMember = ConsumerMember{
		Instance: old.instance, Rack: sub.rack, ClientID: old.clientID, ClientHost: old.clientHost,
		Topics: sortedSet(sub.topics), Rebalance: old.rebalance,
		Classic: &ClassicMember{Session: old.session, Protocols: old.protocols},
	}
	if m.Instance != "" {
		c.statics[m.Instance] = m
	}
	m.current, m.target = Current{Epoch: epoch, Previous: epoch, Assigned: has}, has
	c.claim(m)
	for _, k := range []EntryKind{MemberEntry, TargetEntry, CurrentEntry} {
		c.touch(k, m.id)
	}
	return nil
}

// downgrade makes a consumer group whose last member of the consumer protocol
// is gone a classic group, and rebalances it. It reports whether it did; the
// answer is then given when that is durable.
func (g *Group) downgrade(now time.Time, topics Topics, a Answer, out *Output) bool {
	c := g.consumer
	if !g.cfg.Migration.down() || len(c.byID) == 0 || !c.classicBut(nil) {
		return false
	}
	g.consumer, g.generation, g.leader = nil, c.epoch, ""
	for _, m := range c.sorted() {
		sub, _ := readSubscription(m.Classic.Protocols[0].Metadata)
		g.add(&member{
			id: m.id, instance: m.Instance, clientID: m.ClientID, clientHost: m.ClientHost,
			session: m.Classic.Session, rebalance: m.Rebalance, protocols: m.Classic.Protocols, synced: true, deadline: m.session,
			assignment: appendAssignment(m.current.Assigned.plus(m.current.Revoking), sub.version, topics),
		})
		c.remove(m)
	}
	g.protocol = g.selectProtocol()
	g.enter(now, Stable)
	md := g.snapshot(nil)
	md.Leader, g.gone = "", false // see recordGone
	g.write(out, Write{Entries: c.tombs(), Metadata: md}, func(_ time.Time, err error, out *Output) { out.give(a, err) })
	g.rebalance(now, out)
	return true
}

// makeWay lets a classic member into a consumer group that has no members, or
// none of the consumer protocol any more: a static member that comes back with
// the classic protocol may have been the last one.
func (g *Group) makeWay(now time.Time, r JoinRequest, topics Topics, out *Output) {
	c := g.consumer
	if old := c.statics[r.Instance]; old != nil && r.MemberID == "" && old.Classic == nil && g.cfg.Migration.down() && c.classicBut(old) {
		c.remove(old)
		g.downgrade(now, topics, Answer{}, out)
	}
	if g.consumer != nil && len(c.byID) == 0 {
		g.becomeClassic(now, out)
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
