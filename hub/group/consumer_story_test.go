package group

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// board is the topics of a site in tests.
type board struct {
	version int64
	made    byte
	topics  map[string]boardTopic
}

type boardTopic struct {
	id record.TopicID
	n  int32
}

func newBoard() *board { return &board{topics: map[string]boardTopic{}} }

// set creates a topic, gives it another number of partitions or, with none,
// deletes it.
func (b *board) set(name string, n int32) {
	b.version++
	t, ok := b.topics[name]
	switch {
	case n == 0:
		delete(b.topics, name)
		return
	case !ok:
		b.made++
		t.id = record.TopicID{b.made}
	}
	t.n = n
	b.topics[name] = t
}

func (b *board) Version() int64 { return b.version }

func (b *board) Topic(name string) (record.TopicID, int32, bool) {
	t, ok := b.topics[name]
	return t.id, t.n, ok
}

func (b *board) Name(id record.TopicID) (string, bool) {
	for name, t := range b.topics {
		if t.id == id {
			return name, true
		}
	}
	return "", false
}

func (b *board) Matching(accept func(string) bool) (names []string) {
	for n := range b.topics {
		if accept(n) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// named shows an assignment as a story writes it: t:0,1/u:2.
func (b *board) named(a Assignment) string {
	var all []string
	for id, ps := range a {
		name := fmt.Sprintf("#%d", id[0])
		for n, t := range b.topics {
			if t.id == id {
				name = n
			}
		}
		all = append(all, name+":"+strings.ReplaceAll(strings.Trim(fmt.Sprint(ps), "[]"), " ", ","))
	}
	slices.Sort(all)
	return cmp.Or(strings.Join(all, "/"), "-")
}

func (b *board) assignment(s string) *Assignment {
	a := Assignment{}
	for w := range strings.SplitSeq(s, "/") {
		name, list, ok := strings.Cut(w, ":")
		if !ok {
			continue
		}
		for p := range strings.SplitSeq(list, ",") {
			n, _ := strconv.Atoi(p)
			id := b.topics[name].id
			a[id] = append(a[id], int32(n))
		}
	}
	return &a
}

// bytes are an assignment as a leader writes it, shown the inverse.
func (b *board) bytes(s string) []byte {
	return appendAssignment(*b.assignment(s), assignmentVersion, b)
}

func (b *board) shown(assignment []byte) string {
	if a, ok := readAssignment(assignment, b); ok && len(assignment) > 0 {
		return b.named(a)
	}
	return string(assignment)
}

func (te *teller) topic(t *testing.T, a args) {
	te.board.set(a.Get("name"), int32(a.Int("partitions", 0)))
}

// hb is a heartbeat: member, epoch (0 unless given), topics, regex, instance,
// assignor, owned (t:0,1/u:2, "" for none).
func (te *teller) hb(t *testing.T, a args) {
	te.ids++
	r := ConsumerHeartbeat{
		MemberID: a.Get("member"), Epoch: int32(a.Int("epoch", 0)), Rebalance: -1, ClientID: "c", ClientHost: "/h",
	}
	text := func(key string) *string {
		if !a.Has(key) {
			return nil
		}
		s := a.Get(key)
		return &s
	}
	r.Instance, r.Assignor, r.Regex, r.Rack = text("instance"), text("assignor"), text("regex"), text("rack")
	if a.Has("topics") {
		r.Topics = strings.FieldsFunc(a.Get("topics"), func(r rune) bool { return r == ',' })
		if r.Topics == nil {
			r.Topics = []string{}
		}
	}
	if a.Has("owned") || r.Epoch == 0 {
		r.Owned = te.board.assignment(a.Get("owned"))
	}
	if r.Epoch == 0 || a.Has("rebalance") {
		r.Rebalance = a.Duration("rebalance", time.Minute)
	}
	te.take(te.g.ConsumerHeartbeat(te.now, Ticket(a.Int("t", int64(te.ids))), r, te.board))
	te.consumerState()
}

// hbAlive lets time pass while a member sends heartbeats.
func (te *teller) hbAlive(t *testing.T, a args) {
	r := ConsumerHeartbeat{MemberID: a.Get("member"), Epoch: int32(a.Int("epoch", 0)), Rebalance: -1}
	for end := te.now.Add(a.Duration("by", 0)); te.now.Before(end); te.now = te.now.Add(30 * time.Second) {
		for _, answer := range te.g.ConsumerHeartbeat(te.now, 1, r, te.board).Answers {
			if answer.Err != nil {
				t.Fatal(answer.Err)
			}
		}
	}
	te.consumerState()
}

func (te *teller) consumerState() {
	d := te.g.DescribeConsumer()
	te.say("%v epoch=%d target=%d", te.g.State(), d.Epoch, d.TargetEpoch)
	for _, m := range d.Members {
		id := m.ID
		if m.Classic != nil {
			id += " classic"
		}
		line := fmt.Sprintf("  %s%s epoch=%d has %s", id, instance(m.Instance), m.Epoch, te.board.named(m.Assigned))
		if len(m.Revoking) > 0 {
			line += " gives up " + te.board.named(m.Revoking)
		}
		if !m.Target.equal(m.Assigned) {
			line += " wants " + te.board.named(m.Target)
		}
		te.said = append(te.said, line)
	}
}

func (te *teller) consumerAnswer(a Answer) {
	c := a.Consumer
	told := "as before"
	if c.Assignment != nil {
		told = te.board.named(*c.Assignment)
	}
	te.say("-> %d: %s epoch=%d every %v: %s", a.Ticket, c.MemberID, c.Epoch, c.Interval, told)
}

// entries tells what is written of a consumer group, shortly.
func entryText(b *board, e Entry) string {
	name := map[EntryKind]string{
		GroupEntry: "epoch", MemberEntry: "member", TargetEpochEntry: "target-epoch", TargetEntry: "target", CurrentEntry: "current", RegexEntry: "regex",
	}[e.Key.Kind]
	if e.Key.Name != "" {
		name += "(" + e.Key.Name + ")"
	}
	switch v := e.Value.(type) {
	case nil:
		return name + " removed"
	case GroupEpoch:
		return fmt.Sprintf("%s=%d", name, v.Epoch)
	case TargetEpoch:
		return fmt.Sprintf("%s=%d", name, v.Epoch)
	case Target:
		return name + "=" + b.named(v.Assignment)
	case Current:
		return fmt.Sprintf("%s=%d/%d/%d:%s|%s", name, v.Epoch, v.Previous, v.State, b.named(v.Assigned), b.named(v.Revoking))
	case Resolved:
		return fmt.Sprintf("%s=%v", name, v.Topics)
	}
	return name
}

func (te *teller) keep(entries []Entry) {
	for _, e := range entries {
		if e.Value == nil {
			delete(te.entries, e.Key)
			continue
		}
		te.entries[e.Key] = e.Value
	}
}

// reloadConsumer is a restart of a consumer group.
func (te *teller) reloadConsumer(t *testing.T, offsets []OffsetWrite) {
	var es []Entry
	for k, v := range te.entries {
		es = append(es, Entry{k, v})
	}
	g, err := LoadConsumer("g", te.cfg, te.now, es, offsets)
	if err != nil {
		t.Fatal(err)
	}
	te.g = g
	te.consumerState()
}

func (te *teller) mayFetch(t *testing.T, a args) {
	te.say("%v", te.g.CheckFetch(a.Get("member"), int32(a.Int("epoch", -1))))
}

// timing sets session and interval of the group, as a coordinator does that
// found them in the group's settings.
func (te *teller) timing(t *testing.T, a args) {
	te.cfg = te.cfg.WithTiming(Timing{a.Duration("session", 45*time.Second), a.Duration("interval", 5*time.Second)})
	te.g.Configure(te.cfg)
	te.say("session %v, heartbeats every %v", te.cfg.Consumer.Session, te.cfg.Consumer.Interval)
}
