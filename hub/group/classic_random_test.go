package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

// TestMigrationNeverSharesAPartition plays the same against clients of both
// protocols: eager and cooperative classic ones, and those of the consumer
// protocol. The wind turns now and then, and clients are restarted one by one
// with the protocol of the day, so that the group becomes a consumer group and
// a classic one again, in the middle of rebalances too. The checker holds them
// to the same.
func TestMigrationNeverSharesAPartition(t *testing.T) {
	turns := map[bool]int{} // of the group's kind
	for seed := range uint64(400) {
		s := newSim(t, seed)
		classic := []string{"eager", "cooperative"}[seed%2]
		s.wind = classic
		was := s.g.IsConsumer()
		for i := range 600 {
			if i%120 == 119 {
				s.wind = map[string]string{"": classic, classic: ""}[s.wind]
			}
			s.disturb()
			s.turn()
			if is := s.g.IsConsumer(); is != was && s.busy() {
				turns[is]++
				was = is
			}
		}
		s.converge()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if turns[true] < 400 || turns[false] < 100 {
		t.Errorf("groups with members became consumer groups %d times and classic ones %d times: the test lacks occasions", turns[true], turns[false])
	}
}

func (s *sim) busy() bool {
	return s.g.consumer != nil && len(s.g.consumer.byID) > 1 || len(s.g.members) > 0
}

// simClassic is what a client of the classic protocol has on top.
type simClassic struct {
	cooperative bool
	generation  int32
	leader      bool
	joined      bool // has its assignment
	again       bool // is to join again
	sync        *SyncRequest
	lost        bool  // the answer that it waits for was lost
	version     int64 // of the topics when it last joined
}

func (c *simClient) begin(mode string) {
	c.classic = &simClassic{cooperative: mode == "cooperative"}
	c.id, c.regex = "", ""
	if len(c.topics) == 0 {
		c.topics = []string{"t"}
	}
}

// restart brings clients to the protocol of the day, one at a time.
func (s *sim) restart() {
	for _, c := range slices.Clone(s.clients) {
		if mode := c.classic == nil; mode != (s.wind == "") && s.chance(60) {
			if c.instance != "" {
				s.drop(c) // static members do not leave
				if c.classic == nil {
					s.take(s.g.ConsumerHeartbeat(s.now, 0, ConsumerHeartbeat{MemberID: c.id, Instance: &c.instance, Epoch: epochAway, Rebalance: -1}, s.board))
				}
				s.come(c.instance)
				return
			}
			s.leave(c)
			s.come("")
			return
		}
	}
}

// lose is a classic client that learns that it has nothing any more.
func (c *simClient) lose() {
	c.owned, c.classic.joined, c.classic.again = map[partition]bool{}, false, true
}

func (s *sim) turnClassic(c *simClient) {
	k := c.classic
	switch {
	case c.ticket != 0:
		if k.lost && s.now.Sub(c.asked) > time.Second { // the connection broke
			delete(s.waiting, c.ticket)
			c.ticket = 0
		}
		return
	case s.now.Before(c.next) && !(k.again && s.now.After(c.slow)):
		return
	case c.told && !s.now.Before(c.slow):
		s.revoked(c)
	case k.sync != nil:
		s.sendClassic(c, func(t Ticket) Output { return s.g.Sync(s.now, t, *k.sync, s.board) })
	case !k.joined || k.again && !s.now.Before(c.slow):
		s.joinClassic(c)
	case k.leader && k.version != s.board.version:
		k.again = true
	default:
		s.heartbeatClassic(c)
	}
}

// revoked follows the callbacks of a cooperative client.
func (s *sim) revoked(c *simClient) {
	c.told = false
	for p := range c.owned {
		if !c.assigned[p] {
			c.classic.again = true
		}
	}
	c.owned = maps.Clone(c.assigned)
}

func (s *sim) heartbeatClassic(c *simClient) {
	c.next = s.now.Add(3 * time.Second)
	err := s.g.Heartbeat(s.now, HeartbeatRequest{MemberID: c.id, Instance: c.instance, Generation: c.classic.generation})
	switch {
	case errors.Is(err, ErrRebalancing):
		if !c.classic.again && s.chance(2) {
			c.slow = s.now.Add(time.Duration(s.rng.IntN(8000)) * time.Millisecond)
		}
		c.classic.again = true
	case errors.Is(err, ErrFencedInstance):
		s.drop(c)
	case errors.Is(err, ErrUnknownMember):
		c.id = ""
		c.lose()
	case errors.Is(err, ErrIllegalGen):
		c.lose()
	}
}

func (s *sim) joinClassic(c *simClient) {
	k := c.classic
	if !k.cooperative {
		c.owned = map[partition]bool{}
	}
	if c.told { // what it was told before counts no more
		c.told = false
	}
	k.joined, k.again, k.version = false, false, s.board.version
	s.born++
	r := JoinRequest{
		MemberID: c.id, NewID: fmt.Sprintf("c%d", s.born), Instance: c.instance, ClientID: "c",
		Session: 45 * time.Second, Rebalance: time.Minute, ProtocolType: consumerProtocol, NeedID: s.rng.IntN(2) == 0, CanSkip: true,
		Protocols: []Protocol{{"any", s.metadata(c)}},
	}
	s.sendClassic(c, func(t Ticket) Output { return s.g.Join(s.now, t, r, s.board) })
}

// metadata is a subscription of version 1.
func (s *sim) metadata(c *simClient) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0, 1}, uint32(len(c.topics)))
	for _, t := range c.topics {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(t))), t...)
	}
	b = append(b, 0xff, 0xff, 0xff, 0xff)
	return append(b, appendAssignment(setOf(c.owned), 1, s.board)[2:]...)
}

func (s *sim) sendClassic(c *simClient, send func(Ticket) Output) {
	s.ticket++
	c.ticket, c.asked = s.ticket, s.now
	if c.classic.lost = s.chance(15); !c.classic.lost {
		s.waiting[c.ticket] = c
	}
	s.take(send(c.ticket))
}

func (s *sim) hearClassic(c *simClient, a Answer) {
	k := c.classic
	required := (*NewMemberID)(nil)
	switch {
	case errors.As(a.Err, &required):
		c.id = required.ID
	case errors.Is(a.Err, ErrFencedInstance):
		s.drop(c)
	case errors.Is(a.Err, ErrUnknownMember):
		c.id, k.sync = "", nil
		c.lose()
	case errors.Is(a.Err, ErrIllegalGen):
		k.sync = nil
		c.lose()
	case errors.Is(a.Err, ErrRebalancing):
		k.sync, k.again = nil, true
	case a.Err != nil:
		k.sync, k.again, c.next = nil, true, s.now.Add(time.Second)
	case a.Join != nil:
		c.id, k.generation, k.leader = a.Join.MemberID, a.Join.Generation, a.Join.Leader == a.Join.MemberID
		k.sync = &SyncRequest{MemberID: c.id, Instance: c.instance, Generation: k.generation}
		if k.leader && !a.Join.Skip {
			k.sync.Assignments = s.lead(a.Join.Members)
		}
	case a.Sync != nil:
		k.sync, k.joined = nil, true
		got, ok := readAssignment(a.Sync.Assignment, s.board)
		if !ok {
			s.t.Errorf("an assignment cannot be read: %q", a.Sync.Assignment)
		}
		c.told, c.assigned, c.slow = true, map[partition]bool{}, s.now
		for p := range got.all() {
			c.assigned[p] = true
		}
		if k.cooperative && s.chance(3) {
			c.slow = s.now.Add(time.Duration(s.rng.IntN(8000)) * time.Millisecond)
		}
	}
}

// lead is a leader's assignor: partitions in turn, but nothing that another
// member has not given up.
func (s *sim) lead(members []JoinedMember) map[string][]byte {
	owner, subs := map[partition]string{}, map[string]subscription{}
	for _, m := range members {
		sub, _ := readSubscription(m.Metadata)
		subs[m.ID] = sub
		for p := range fromNames(sub.owned, s.board).all() {
			owner[p] = m.ID
		}
	}
	given, at := map[string][]partition{}, 0
	for _, name := range slices.Sorted(maps.Keys(s.board.topics)) {
		var of []string
		for _, m := range members {
			if slices.Contains(subs[m.ID].topics, name) {
				of = append(of, m.ID)
			}
		}
		for n := range s.board.topics[name].n {
			if len(of) == 0 {
				continue
			}
			p, to := partition{s.board.topics[name].id, n}, of[at%len(of)]
			at++
			if o := owner[p]; o == "" || o == to {
				given[to] = append(given[to], p)
			}
		}
	}
	out := map[string][]byte{}
	for _, m := range members {
		out[m.ID] = appendAssignment(collect(given[m.ID]), 1, s.board)
	}
	return out
}
