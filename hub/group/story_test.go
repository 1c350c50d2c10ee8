package group

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storytest"
)

// TestStories plays testdata/*.txt.
func TestStories(t *testing.T) {
	storytest.Run(t, func(t *testing.T) func(string, args) string { return newTeller().command })
}

// teller drives one group, and keeps what was made durable.
type teller struct {
	g       *Group
	cfg     Config
	now     time.Time
	ids     int
	writes  map[uint64]Write
	order   []uint64
	auto    bool // writes become durable at once
	md      *Metadata
	offsets map[record.TopicPartition]*Offset
	entries map[EntryKey]EntryValue
	board   *board
	said    []string
}

func newTeller() *teller {
	c := Default()
	c.InitialDelay, c.MaxMembers = 0, 4
	return &teller{
		cfg: c, now: time.UnixMilli(0), auto: true, writes: map[uint64]Write{},
		offsets: map[record.TopicPartition]*Offset{},
		entries: map[EntryKey]EntryValue{}, board: newBoard(),
	}
}

type args = storytest.Args

func (te *teller) command(name string, a args) string {
	te.said = nil
	verb, ok := map[string]func(*testing.T, args){
		"new": te.create, "join": te.join, "sync": te.sync, "heartbeat": te.heartbeat, "leave": te.leave,
		"commit": te.commit, "written": te.written, "advance": te.advance, "offsets": te.listOffsets,
		"expire": te.expire, "forget": te.forget, "delete": te.remove, "delete-offsets": te.removeOffsets, "reload": te.reload, "describe": te.describe,
		"close": te.close, "txn-commit": te.commit, "txn-end": te.endTransaction,
		"topic": te.topic, "hb": te.hb, "may-fetch": te.mayFetch,
		"timing": te.timing, "keep-alive": te.keepAlive, "hb-alive": te.hbAlive,
	}[name]
	if !ok {
		a.T.Fatalf("no verb %q", name)
	}
	verb(a.T, a)
	return strings.Join(append(te.said, ""), "\n")
}

func (te *teller) say(format string, a ...any) { te.said = append(te.said, fmt.Sprintf(format, a...)) }

func (te *teller) create(t *testing.T, a args) {
	te.cfg.InitialDelay = a.Duration("delay", 0)
	te.cfg.Migration = Migration(cmp.Or(a.Get("policy"), string(MigrateBoth)))
	te.auto = !a.Has("manual")
	te.g, te.writes, te.order = New("g", te.cfg, te.now), map[uint64]Write{}, nil
	te.state()
}

func (te *teller) state() {
	if te.g.IsConsumer() {
		te.consumerState()
		return
	}
	te.say("%v generation=%d members=%d", te.g.State(), te.g.Generation(), len(te.g.members))
}

// take prints an output and, unless writes are manual, makes its writes durable.
func (te *teller) take(out Output) {
	for _, a := range out.Answers {
		te.answer(a)
	}
	for _, w := range out.Writes {
		te.write(w)
	}
	for te.auto && len(te.order) > 0 {
		te.durable(te.order[0], nil)
	}
}

func (te *teller) answer(a Answer) {
	switch {
	case a.Err != nil:
		te.say("-> %d: %v", a.Ticket, a.Err)
	case a.Join != nil:
		var ms []string
		for _, m := range a.Join.Members {
			ms = append(ms, fmt.Sprintf("%s%s:%s", m.ID, instance(m.Instance), topicsOf(m.Metadata)))
		}
		skip := ""
		if a.Join.Skip {
			skip = " skip"
		}
		te.say("-> %d: joined generation=%d protocol=%s leader=%s member=%s%s %v", a.Ticket, a.Join.Generation, a.Join.Protocol, a.Join.Leader, a.Join.MemberID, skip, ms)
	case a.Left != nil:
		te.say("-> left %v", a.Left)
	case a.Consumer != nil:
		te.consumerAnswer(a)
	case a.Sync != nil:
		te.say("-> %d: synced protocol=%s assignment=%q", a.Ticket, a.Sync.Protocol, te.board.shown(a.Sync.Assignment))
	default:
		te.say("-> %d: done %v", a.Ticket, a.Commit)
	}
}

func instance(s string) string {
	if s == "" {
		return ""
	}
	return "(" + s + ")"
}

func (te *teller) write(w Write) {
	te.writes[w.ID], te.order = w, append(te.order, w.ID)
	var what []string
	if w.Delete {
		what = append(what, "group removed")
	}
	if m := w.Metadata; m != nil {
		var ms []string
		for _, mm := range m.Members {
			ms = append(ms, fmt.Sprintf("%s%s:%s", mm.ID, instance(mm.Instance), te.board.shown(mm.Assignment)))
		}
		what = append(what, fmt.Sprintf("group generation=%d protocol=%s leader=%s %v", m.Generation, m.Protocol, m.Leader, ms))
	}
	for _, e := range w.Entries {
		what = append(what, entryText(te.board, e))
	}
	for _, o := range w.Offsets {
		if o.Offset == nil {
			what = append(what, fmt.Sprintf("%v removed", o.TopicPartition))
			continue
		}
		what = append(what, fmt.Sprintf("%v=%d", o.TopicPartition, o.Offset.Offset))
	}
	te.say("write %d: %s", w.ID, strings.Join(what, ", "))
}

func (te *teller) durable(id uint64, err error) {
	w := te.writes[id]
	delete(te.writes, id)
	te.order = slices.DeleteFunc(te.order, func(o uint64) bool { return o == id })
	if err == nil {
		if w.Delete {
			te.md = nil
		}
		if w.Metadata != nil {
			te.md = w.Metadata
		}
		te.keep(w.Entries)
		for _, o := range w.Offsets {
			te.offsets[o.TopicPartition] = o.Offset
		}
	}
	te.take(te.g.Written(te.now, id, err))
}

func (te *teller) join(t *testing.T, a args) {
	te.ids++
	r := JoinRequest{
		MemberID: a.Get("member"), NewID: cmp.Or(a.Get("as"), fmt.Sprintf("m%d", te.ids)), Instance: a.Get("instance"),
		ClientID: a.Get("client"), ClientHost: "/h",
		Session: a.Duration("session", 10*time.Second), Rebalance: a.Duration("rebalance", time.Minute),
		ProtocolType: "consumer", NeedID: a.Has("v4"), CanSkip: a.Has("v9"),
	}
	if a.Has("type") {
		r.ProtocolType = a.Get("type")
	}
	protocols := a.Get("protocols")
	if protocols == "" {
		protocols = "range:x"
	}
	for p := range strings.SplitSeq(protocols, ",") {
		name, md, _ := strings.Cut(p, ":")
		metadata := metadataOf(md)
		if a.Has("owned") {
			metadata = append(metadata, te.board.bytes(a.Get("owned"))[2:]...)
		}
		r.Protocols = append(r.Protocols, Protocol{Name: name, Metadata: metadata})
	}
	te.take(te.g.Join(te.now, Ticket(a.Int("t", 0)), r, te.board))
	te.state()
}

// metadataOf makes @t+u the metadata of a consumer of the topics t and u.
func metadataOf(s string) []byte {
	list, ok := strings.CutPrefix(s, "@")
	if !ok {
		return []byte(s)
	}
	topics := strings.Split(list, "+")
	b := binary.BigEndian.AppendUint32([]byte{0, 1}, uint32(len(topics)))
	for _, t := range topics {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(t))), t...)
	}
	return append(b, 0, 0, 0, 0) // no user data
}

// topicsOf is the inverse of metadataOf.
func topicsOf(metadata []byte) string {
	s, ok := readSubscription(metadata)
	if !ok {
		return string(metadata)
	}
	return "@" + strings.Join(sortedSet(s.topics), "+")
}

func (te *teller) sync(t *testing.T, a args) {
	r := SyncRequest{MemberID: a.Get("member"), Instance: a.Get("instance"), Generation: te.generation(t, a), Assignments: map[string][]byte{}}
	if a.Has("protocol") {
		p := a.Get("protocol")
		r.Protocol = &p
	}
	for w := range strings.SplitSeq(a.Get("assign"), ",") {
		if id, as, ok := strings.Cut(w, ":"); ok {
			r.Assignments[id] = []byte(as)
			if named, ok := strings.CutPrefix(as, "@"); ok {
				r.Assignments[id] = te.board.bytes(strings.ReplaceAll(named, ".", ","))
			}
		}
	}
	te.take(te.g.Sync(te.now, Ticket(a.Int("t", 0)), r, te.board))
	te.state()
}

// generation is the group's, or a classic member's own one, unless it is given.
func (te *teller) generation(t *testing.T, a args) int32 {
	now := te.g.Generation()
	for _, m := range te.g.DescribeConsumer().Members {
		if m.ID == a.Get("member") {
			now = m.Epoch
		}
	}
	return int32(a.Int("generation", int64(now)))
}

func (te *teller) heartbeat(t *testing.T, a args) {
	err := te.g.Heartbeat(te.now, HeartbeatRequest{MemberID: a.Get("member"), Instance: a.Get("instance"), Generation: te.generation(t, a)})
	te.say("%v", err)
}

// keepAlive lets time pass while a member sends heartbeats.
func (te *teller) keepAlive(t *testing.T, a args) {
	for end := te.now.Add(a.Duration("by", 0)); te.now.Before(end); te.now = te.now.Add(5 * time.Second) {
		if err := te.g.Heartbeat(te.now, HeartbeatRequest{MemberID: a.Get("member"), Generation: te.generation(t, a)}); err != nil {
			t.Fatal(err)
		}
	}
	te.state()
}

func (te *teller) leave(t *testing.T, a args) {
	var ls []Leaver
	for w := range strings.SplitSeq(a.Get("members"), ",") {
		id, inst, _ := strings.Cut(w, "/")
		ls = append(ls, Leaver{MemberID: id, Instance: inst})
	}
	te.take(te.g.Leave(te.now, Ticket(a.Int("t", 1)), ls))
	te.state()
}

func tp(s string) record.TopicPartition {
	i := strings.LastIndexByte(s, '-')
	p, _ := strconv.Atoi(s[i+1:])
	return record.TopicPartition{Topic: s[:i], Partition: int32(p)}
}

func (te *teller) commit(t *testing.T, a args) {
	r := CommitRequest{MemberID: a.Get("member"), Instance: a.Get("instance"), Generation: int32(a.Int("generation", -1))}
	for w := range strings.SplitSeq(a.Get("offsets"), ",") {
		name, off, _ := strings.Cut(w, ":")
		n, _ := strconv.Atoi(off)
		o := &Offset{Offset: int64(n), LeaderEpoch: 1, CommitTime: te.now.UnixMilli()}
		if a.Has("metadata") {
			o.Metadata = strings.Repeat("m", int(a.Int("metadata", 0)))
		}
		r.Offsets = append(r.Offsets, OffsetWrite{TopicPartition: tp(name), Offset: o})
	}
	r.OldVersion, r.IDs = a.Has("v8"), map[string]record.TopicID{}
	for name, topic := range te.board.topics {
		r.IDs[name] = topic.id
	}
	if a.Has("producer") {
		te.take(te.g.CommitTransactional(te.now, Ticket(a.Int("t", 0)), r, Transactional{ProducerID: int64(a.Int("producer", 0))}))
		return
	}
	te.take(te.g.Commit(te.now, Ticket(a.Int("t", 0)), r))
}

var errDisk = errors.New("the disk is full")

func (te *teller) written(t *testing.T, a args) {
	var err error
	if a.Has("fails") {
		err = errDisk
	}
	te.durable(uint64(a.Int("id", int64(te.order[0]))), err)
	te.state()
}

// advance lets time pass and calls Tick whenever it is due.
func (te *teller) advance(t *testing.T, a args) {
	end := te.now.Add(a.Duration("by", 0))
	for {
		d := te.g.Deadline()
		if d.IsZero() || d.After(end) {
			break
		}
		te.now = d
		te.say("at %v:", te.now.Sub(time.UnixMilli(0)))
		te.take(te.g.Tick(te.now, te.board))
		if after := te.g.Deadline(); !after.IsZero() && !after.After(d) {
			t.Fatalf("Tick at %v leaves the deadline at %v", d, after)
		}
	}
	te.now = end
	te.state()
}

func (te *teller) listOffsets(_ *testing.T, _ args) {
	var all []string
	for tp, o := range te.g.Offsets() {
		all = append(all, fmt.Sprintf("%v=%d", tp, o.Offset))
	}
	slices.Sort(all)
	te.say("%v", all)
	var unstable []string
	for tp := range te.g.UnstablePartitions() {
		unstable = append(unstable, tp.String())
	}
	if slices.Sort(unstable); len(unstable) > 0 {
		te.say("unstable: %v", unstable)
	}
}

func (te *teller) endTransaction(t *testing.T, a args) {
	te.g.EndTransaction(int64(a.Int("producer", 0)), a.Has("commit"))
	te.listOffsets(t, a)
}

func (te *teller) expire(_ *testing.T, _ args) { te.take(te.g.Expire(te.now)); te.state() }

func (te *teller) forget(_ *testing.T, a args) { te.take(te.g.Forget(a.Get("topic"))); te.state() }

func (te *teller) remove(t *testing.T, a args) {
	te.take(te.g.Delete(Ticket(a.Int("t", 0))))
	te.state()
}

func (te *teller) removeOffsets(t *testing.T, a args) {
	var tps []record.TopicPartition
	for w := range strings.SplitSeq(a.Get("of"), ",") {
		tps = append(tps, tp(w))
	}
	te.take(te.g.DeleteOffsets(Ticket(a.Int("t", 0)), tps))
	te.state()
}

// reload is a restart: what was durable comes back.
func (te *teller) reload(t *testing.T, _ args) {
	var ws []OffsetWrite
	for tp, o := range te.offsets {
		if o != nil {
			ws = append(ws, OffsetWrite{TopicPartition: tp, Offset: o})
		}
	}
	te.writes, te.order = map[uint64]Write{}, nil
	if len(te.entries) > 0 {
		te.reloadConsumer(t, ws)
		return
	}
	te.g = Load("g", te.cfg, te.now, te.md, ws)
	te.state()
}

func (te *teller) describe(_ *testing.T, _ args) {
	md := te.g.Describe()
	te.say("%v %q protocol=%s leader=%s", te.g.State(), md.ProtocolType, md.Protocol, md.Leader)
	for _, m := range md.Members {
		te.say("  %s%s %s %s subscription=%q assignment=%q", m.ID, instance(m.Instance), m.ClientID, m.ClientHost, m.Subscription, m.Assignment)
	}
}

func (te *teller) close(_ *testing.T, _ args) {
	te.take(te.g.Close(errors.New("not coordinator")))
	te.state()
}
