package group

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// TestConsumersNeverShareAPartition plays clients of the consumer protocol
// against a group: they come, leave, crash, restart as static members, lose
// answers and take their time to give up partitions, while topics change,
// writes fail and the coordinator is restarted. The checker knows nothing of
// the group but what its clients were told. At no time may two clients work on
// one partition; and when the disturbances end, within a bounded time each
// partition of a subscribed topic has one owner and the owners are balanced.
func TestConsumersNeverShareAPartition(t *testing.T) {
	for seed := range uint64(400) {
		s := newSim(t, seed)
		for range 300 {
			s.disturb()
			s.turn()
		}
		s.converge()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// sim is a group with its clients and what is durable of it.
type sim struct {
	t       *testing.T
	rng     *rand.Rand
	now     time.Time
	cfg     Config
	g       *Group
	board   *board
	calm    bool
	clients []*simClient
	born    int
	ticket  Ticket
	waiting map[Ticket]*simClient
	queue   []Write // handed out and not yet durable
	kept    map[EntryKey]EntryValue
	md      *Metadata // of a classic group
	wind    string    // how clients are made and restarted: "" with the consumer protocol
	read    *simReads // what clients read and commit; nil: they do not

	deposed *Group // the coordinator before, which does not know yet
	until   time.Time
}

// simClient is one consumer: what it believes to own is what it works on.
type simClient struct {
	id, instance string
	topics       []string
	regex        string
	epoch        int32
	owned        map[partition]bool
	assigned     map[partition]bool // as it was told
	ticket       Ticket             // of the request that it waits for, 0: none
	asked        time.Time
	next         time.Time // of the next heartbeat
	slow         time.Time // gives up partitions not before
	full         bool      // tells all at the next heartbeat
	gone         bool      // after the answer: it left
	told         bool      // was told an assignment and has not yet done it
	report       bool      // tells what it has at the next heartbeat

	classic *simClassic // nil for the consumer protocol
}

func newSim(t *testing.T, seed uint64) *sim {
	s := &sim{
		t: t, rng: rand.New(rand.NewPCG(seed, 848)), now: time.UnixMilli(1e6), cfg: Default(), board: newBoard(),
		waiting: map[Ticket]*simClient{}, kept: map[EntryKey]EntryValue{},
	}
	s.g = New("g", s.cfg, s.now)
	s.board.set("t", 1+int32(s.rng.IntN(6)))
	return s
}

func (s *sim) chance(n int) bool { return !s.calm && s.rng.IntN(n) == 0 }

// disturb lets something happen that is not the protocol's.
func (s *sim) disturb() {
	s.restart()
	if len(s.clients) < 5 && (s.chance(8) || len(s.clients) == 0) {
		s.come("")
	}
	if s.chance(40) {
		s.board.set([]string{"t", "u", "log-1"}[s.rng.IntN(3)], int32(s.rng.IntN(7)))
	}
	if s.chance(60) {
		s.reload()
	}
	for _, c := range slices.Clone(s.clients) {
		switch {
		case s.chance(150): // crash: what it worked on it no longer does
			s.drop(c)
			if c.instance != "" && !c.gone { // or else its next process is there
				s.come(c.instance)
			}
		case s.chance(120):
			s.leave(c)
		case c.classic != nil:
		case s.chance(100):
			c.topics, c.regex, c.full = s.subscription()
		}
	}
}

func (s *sim) subscription() (topics []string, regex string, full bool) {
	switch s.rng.IntN(4) {
	case 0:
		return []string{"t", "u"}, "", true
	case 1:
		return []string{}, "log-.*|t", true
	}
	return []string{"t"}, "", true
}

func (s *sim) come(instance string) {
	s.born++
	c := &simClient{id: fmt.Sprintf("m%d", s.born), instance: instance, next: s.now}
	if instance == "" && s.rng.IntN(3) == 0 {
		c.instance = fmt.Sprintf("i%d", s.born)
	}
	c.reset(s.now)
	c.topics, c.regex, _ = s.subscription()
	if s.wind != "" {
		c.begin(s.wind)
	}
	s.clients = append(s.clients, c)
}

// reset is a client that has nothing and joins.
func (c *simClient) reset(now time.Time) {
	c.epoch, c.owned, c.assigned, c.next = epochJoin, map[partition]bool{}, map[partition]bool{}, now
	c.told, c.report = false, false
}

func (s *sim) drop(c *simClient) {
	s.clients = slices.DeleteFunc(s.clients, func(o *simClient) bool { return o == c })
	delete(s.waiting, c.ticket)
}

// leave sends the last heartbeat; a static member may mean to come back.
func (s *sim) leave(c *simClient) {
	if c.classic != nil {
		s.drop(c)
		if c.instance == "" { // static members do not leave
			s.take(s.g.Leave(s.now, 0, []Leaver{{MemberID: c.id}}))
		}
		return
	}
	if c.epoch == epochJoin || c.ticket != 0 {
		return
	}
	epoch := int32(epochLeave)
	if c.instance != "" && s.rng.IntN(2) == 0 {
		epoch = epochAway
	}
	clear(c.owned) // it has stopped before it says so
	c.gone = true
	s.send(c, ConsumerHeartbeat{MemberID: c.id, Instance: instancePtr(c.instance), Epoch: epoch, Rebalance: -1})
	if epoch == epochAway {
		s.come(c.instance)
	}
}

func instancePtr(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// turn lets 200 ms pass.
func (s *sim) turn() {
	s.now = s.now.Add(200 * time.Millisecond)
	if d := s.g.Deadline(); !d.IsZero() && !d.After(s.now) {
		s.take(s.g.Tick(s.now, s.board))
	}
	for _, c := range slices.Clone(s.clients) {
		switch {
		case c.classic != nil:
			s.turnClassic(c)
		case c.ticket != 0 && s.now.Sub(c.asked) > 3*time.Second: // the answer was lost
			delete(s.waiting, c.ticket)
			c.ticket, c.full, c.next = 0, true, s.now
			if c.gone {
				s.drop(c)
			}
		case c.ticket == 0:
			if s.read == nil || s.mayGiveUp(c) {
				c.giveUp(s.now)
			}
			if !s.now.Before(c.next) {
				s.heartbeat(c)
			}
		}
	}
	for len(s.queue) > 0 && !s.chance(3) {
		s.durable()
	}
	s.check()
	if s.read != nil {
		s.readOn()
	}
}

// giveUp stops the work on what the client no longer has, when it is ready.
func (c *simClient) giveUp(now time.Time) {
	if !c.told || now.Before(c.slow) {
		return
	}
	c.told, c.report, c.next = false, true, now
	c.owned = maps.Clone(c.assigned)
}

func (s *sim) heartbeat(c *simClient) {
	r := ConsumerHeartbeat{MemberID: c.id, Epoch: c.epoch, Instance: instancePtr(c.instance), Rebalance: -1, ClientID: "c"}
	if c.epoch == epochJoin || c.full {
		r.Topics, r.Regex, r.Rebalance = c.topics, &c.regex, time.Minute
	}
	if c.full || c.epoch == epochJoin || c.report {
		owned := setOf(c.owned)
		if s.read != nil && c.told { // as franz-go does: it will work on it
			owned = owned.plus(setOf(c.assigned))
		}
		r.Owned = &owned
	}
	c.full, c.report = false, false
	c.next = s.now.Add(5 * time.Second)
	s.send(c, r)
}

func (s *sim) send(c *simClient, r ConsumerHeartbeat) {
	s.ticket++
	c.ticket, c.asked = s.ticket, s.now
	if !s.chance(15) { // or else the answer is lost
		s.waiting[c.ticket] = c
	}
	if s.deposed != nil && s.chance(2) {
		s.askDeposed(c, r)
		return
	}
	s.take(s.g.ConsumerHeartbeat(s.now, c.ticket, r, s.board))
}

// askDeposed asks the coordinator before, whose writes stay under way.
func (s *sim) askDeposed(c *simClient, r ConsumerHeartbeat) {
	if !s.now.Before(s.until) {
		s.deposed = nil
		return
	}
	for _, a := range s.deposed.ConsumerHeartbeat(s.now, c.ticket, r, s.board).Answers {
		if w := s.waiting[a.Ticket]; w != nil {
			delete(s.waiting, a.Ticket)
			w.ticket = 0
			s.hear(w, a)
		}
	}
}

func (s *sim) take(out Output) {
	for _, a := range out.Answers {
		if s.read != nil {
			s.committed(a)
		}
		if c := s.waiting[a.Ticket]; c != nil {
			delete(s.waiting, a.Ticket)
			c.ticket = 0
			if c.classic != nil {
				s.hearClassic(c, a)
				continue
			}
			s.hear(c, a)
		}
	}
	s.queue = append(s.queue, out.Writes...)
	if s.g.State() == Dead {
		s.g = New("g", s.cfg, s.now)
	}
}

func (s *sim) hear(c *simClient, a Answer) {
	switch {
	case c.gone:
		s.drop(c)
	case errors.Is(a.Err, ErrUnreleasedInstance):
		c.next = s.now.Add(time.Second)
	case errors.Is(a.Err, ErrFencedInstance):
		s.drop(c)
	case errors.Is(a.Err, ErrFencedEpoch), errors.Is(a.Err, ErrUnknownMember):
		c.reset(s.now)
	case a.Err != nil:
		c.full, c.next = true, s.now.Add(time.Second)
	default:
		c.epoch = a.Consumer.Epoch
		if got := a.Consumer.Assignment; got != nil {
			c.told, c.assigned = true, map[partition]bool{}
			for p := range got.all() {
				c.assigned[p] = true
			}
			if s.chance(3) {
				c.slow = s.now.Add(time.Duration(s.rng.IntN(8000)) * time.Millisecond)
			}
		}
	}
}

func (s *sim) durable() {
	w := s.queue[0]
	s.queue = s.queue[1:]
	var err error
	if s.chance(12) {
		err = errDisk
	}
	if err == nil {
		s.keep(w)
	}
	s.take(s.g.Written(s.now, w.ID, err))
}

// keep is what a reader of the log makes of a write.
func (s *sim) keep(w Write) {
	for _, o := range w.Offsets {
		s.read.offsets[o.TopicPartition] = *o.Offset
	}
	for _, e := range w.Entries {
		if s.kept[e.Key] = e.Value; e.Value == nil {
			delete(s.kept, e.Key)
		} else if e.Key.Kind == GroupEntry {
			s.md = nil
		}
	}
	if w.Delete {
		s.md = nil
	}
	if w.Metadata != nil {
		s.md = w.Metadata
		clear(s.kept)
	}
}

// reload is a new coordinator, which knows what is durable: the first of the
// writes under way may be, though the one before heard of none. With readers it
// does not know for a while that there is another.
func (s *sim) reload() {
	for _, w := range s.queue[:s.rng.IntN(len(s.queue)+1)] {
		s.keep(w)
	}
	if s.read != nil && s.rng.IntN(2) == 0 {
		s.deposed, s.until, s.queue = s.g, s.now.Add(2*time.Second), nil
	} else {
		s.depose()
	}
	s.load()
}

func (s *sim) depose() {
	for _, w := range s.queue {
		s.take(s.g.Written(s.now, w.ID, errDisk))
	}
	s.queue, s.deposed = nil, nil
	s.take(s.g.Close(errDisk))
}

func (s *sim) load() {
	var es []Entry
	for k, v := range s.kept {
		es = append(es, Entry{k, v})
	}
	if s.kept[EntryKey{Kind: GroupEntry}] == nil {
		s.g = Load("g", s.cfg, s.now, s.md, s.read.writes())
		return
	}
	g, err := LoadConsumer("g", s.cfg, s.now, es, s.read.writes())
	if err != nil {
		s.t.Fatal(err)
	}
	s.g = g
}

// check is the guarantee.
func (s *sim) check() {
	by := map[partition]string{}
	for _, c := range s.clients {
		for p := range c.owned {
			if other, taken := by[p]; taken {
				s.t.Errorf("%v: %s and %s work on partition %d of topic %d", s.now, other, c.id, p.n, p.topic[0])
			}
			by[p] = c.id
		}
	}
}

// converge ends the disturbances. Members that are gone without a word are
// fenced after the session timeout; then two rounds of heartbeats must do.
func (s *sim) converge() {
	s.calm = true
	if len(s.clients) == 0 {
		return
	}
	bound := s.cfg.Consumer.Session + 20*time.Second
	if slices.ContainsFunc(s.clients, func(c *simClient) bool { return c.classic != nil }) {
		bound += 3 * time.Minute // rebalances that wait for one who is gone, to join and then to sync
	}
	if s.read != nil {
		bound += 10 * time.Second // commits, before partitions are given up
	}
	for end := s.now.Add(bound); s.now.Before(end); {
		s.turn()
	}
	got := map[partition]int{}
	least, most := 1<<30, 0
	for _, c := range s.clients {
		for p := range c.owned {
			got[p]++
		}
		least, most = min(least, len(c.owned)), max(most, len(c.owned))
	}
	subscribed := map[string]bool{}
	alike := true
	for _, c := range s.clients {
		for _, n := range c.topics {
			subscribed[n] = true
		}
		if c.regex != "" {
			subscribed["t"], subscribed["log-1"] = true, true
		}
		alike = alike && c.regex == s.clients[0].regex && slices.Equal(c.topics, s.clients[0].topics)
	}
	want := 0
	for name := range subscribed {
		topic := s.board.topics[name]
		want += int(topic.n)
		for n := range topic.n {
			if owners := got[partition{topic.id, n}]; owners != 1 {
				s.t.Errorf("partition %d of %s has %d owners", n, name, owners)
			}
		}
	}
	if len(got) != want {
		s.t.Errorf("%d partitions are owned, want %d", len(got), want)
	}
	if alike && most-least > 1 {
		s.t.Errorf("the members have between %d and %d partitions", least, most)
	}
	if s.g.State() != Stable {
		s.t.Errorf("the group is %v", s.g.State())
	}
}

func setOf(a map[partition]bool) Assignment {
	var ps []partition
	for p := range a {
		ps = append(ps, p)
	}
	return collect(ps)
}

// TestAssignors holds both to what they promise, with random members.
func TestAssignors(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 3000 {
		topics := map[record.TopicID]int32{}
		var ids []record.TopicID
		for i := range 1 + rng.IntN(4) {
			id := record.TopicID{byte(i + 1)}
			topics[id] = int32(rng.IntN(9))
			ids = append(ids, id)
		}
		alike := rng.IntN(2) == 0
		subs := make([]subscriber, 1+rng.IntN(6))
		for i := range subs {
			subs[i] = subscriber{id: fmt.Sprintf("m%d", i)}
			for _, id := range ids {
				if alike || rng.IntN(2) == 0 {
					subs[i].topics = append(subs[i].topics, id)
				}
			}
		}
		for name, assign := range map[string]func([]subscriber, map[record.TopicID]int32) []Assignment{Uniform: uniform, Range: ranges} {
			got := assign(subs, topics)
			checkAssigned(t, name, subs, topics, got)
			if name == Uniform {
				checkUniform(t, rng, subs, topics, got, alike)
			}
			if t.Failed() {
				t.Fatalf("%s of %+v over %v: %v", name, subs, topics, got)
			}
		}
	}
}

// checkAssigned: each partition of a subscribed topic is with one subscriber.
func checkAssigned(t *testing.T, name string, subs []subscriber, topics map[record.TopicID]int32, got []Assignment) {
	owner := map[partition]bool{}
	for i, a := range got {
		for p := range a.all() {
			if owner[p] || !slices.Contains(subs[i].topics, p.topic) || p.n >= topics[p.topic] {
				t.Errorf("%s: %v must not be with %s", name, p, subs[i].id)
			}
			owner[p] = true
		}
	}
	for id, n := range topics {
		wanted := slices.ContainsFunc(subs, func(s subscriber) bool { return slices.Contains(s.topics, id) })
		for p := range n {
			if wanted && !owner[partition{id, p}] {
				t.Errorf("%s: nobody has %d of %v", name, p, id[0])
			}
		}
	}
}

// checkUniform: no single move would make it more equal; asked again it gives
// the same; and when a member goes, nobody else loses anything.
func checkUniform(t *testing.T, rng *rand.Rand, subs []subscriber, topics map[record.TopicID]int32, got []Assignment, alike bool) {
	for i, a := range got {
		for p := range a.all() {
			for j := range subs {
				if slices.Contains(subs[j].topics, p.topic) && a.Len() >= got[j].Len()+2 {
					t.Errorf("%s has %d, %s has %d and could take %v", subs[i].id, a.Len(), subs[j].id, got[j].Len(), p)
				}
			}
		}
	}
	for i := range subs {
		subs[i].prior = got[i]
	}
	for i, a := range uniform(subs, topics) {
		if !a.equal(got[i]) {
			t.Errorf("asked again: %v, it was %v", a, got[i])
		}
	}
	if gone := rng.IntN(len(subs)); alike && len(subs) > 1 {
		left := slices.Delete(slices.Clone(subs), gone, gone+1)
		for i, a := range uniform(left, topics) {
			if !left[i].prior.within(a) {
				t.Errorf("%s lost something because another member left: %v, had %v", left[i].id, a, left[i].prior)
			}
		}
	}
}
