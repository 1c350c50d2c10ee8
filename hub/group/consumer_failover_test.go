package group

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// TestNothingIsReadTwice lets the members of a consumer group read and commit
// while coordinators follow one another: each begins with what is durable, which
// may be some of what the one before had under way, and the one before may answer
// for a while without knowing. Members commit before they give a partition up.
// Whoever gets one then goes on exactly where the one before stopped, unless that
// one crashed, was fenced or left without a last commit; and nobody ever begins
// before an offset whose commit was acknowledged.
func TestNothingIsReadTwice(t *testing.T) {
	handed, failovers := 0, 0
	for seed := range uint64(400) {
		s := newSim(t, seed)
		s.read = &simReads{
			offsets: map[record.TopicPartition]Offset{}, at: map[readerOf]int64{}, safe: map[readerOf]int64{},
			next: map[partition]int64{}, acked: map[partition]int64{}, lost: map[partition]bool{}, commits: map[Ticket]*simCommit{},
		}
		for range 300 {
			s.disturb()
			if s.chance(30) {
				s.reload()
				failovers++
			}
			s.turn()
		}
		s.converge()
		handed += s.read.handed
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if handed < 1000 || failovers < 1000 {
		t.Errorf("%d partitions were handed on, %d failovers: too few to show anything", handed, failovers)
	}
}

// readerOf is a client with a partition.
type readerOf struct {
	c *simClient
	p partition
}

// simReads is what the clients read and commit.
type simReads struct {
	offsets map[record.TopicPartition]Offset // durable
	at      map[readerOf]int64               // where a client reads on
	safe    map[readerOf]int64               // up to where it knows that its commit is durable
	next    map[partition]int64              // behind what anybody has read
	acked   map[partition]int64              // newest commit that was acknowledged
	lost    map[partition]bool               // somebody stopped without a last commit
	commits map[Ticket]*simCommit
	late    []*simCommit // requests that arrive a second time
	handed  int          // partitions that went on without a loss
}

// simCommit is a commit under way.
type simCommit struct {
	c       *simClient
	asked   time.Time
	epoch   int32
	offsets []OffsetWrite
	of      []partition
}

func (r *simReads) writes() []OffsetWrite {
	if r == nil {
		return nil
	}
	var ws []OffsetWrite
	for tp, o := range r.offsets {
		ws = append(ws, OffsetWrite{TopicPartition: tp, Offset: &o})
	}
	return ws
}

// committing is a topic that keeps its offsets apart from one of the same name
// that was made later.
func committing(p partition) record.TopicPartition {
	return record.TopicPartition{Topic: fmt.Sprint(p.topic[0]), Partition: p.n}
}

// mayGiveUp reports whether the client has committed what it is to give up, and
// commits it if not.
func (s *sim) mayGiveUp(c *simClient) bool {
	if !c.told || s.now.Before(c.slow) {
		return true
	}
	for p := range c.owned {
		r := readerOf{c, p}
		if at, reads := s.read.at[r]; reads && !c.assigned[p] && s.read.safe[r] != at {
			s.commit(c)
			return false
		}
	}
	return true
}

// commit sends where the client is in all that it has, one request at a time.
func (s *sim) commit(c *simClient) {
	for t, other := range s.read.commits {
		if other.c == c && s.now.Sub(other.asked) < 3*time.Second {
			return
		} else if other.c == c {
			delete(s.read.commits, t) // the answer was lost
		}
	}
	one := &simCommit{c: c, asked: s.now, epoch: c.epoch}
	for p := range c.owned {
		at, reads := s.read.at[readerOf{c, p}]
		if !reads || s.read.safe[readerOf{c, p}] == at {
			continue
		}
		one.of = append(one.of, p)
		one.offsets = append(one.offsets, OffsetWrite{TopicPartition: committing(p), Offset: &Offset{Offset: at}})
	}
	if len(one.of) == 0 {
		return
	}
	s.ticket++
	s.read.commits[s.ticket] = one
	if s.chance(2) {
		s.read.late = append(s.read.late, one)
	}
	s.sendCommit(s.ticket, one)
}

func (s *sim) sendCommit(t Ticket, one *simCommit) {
	ids := map[string]record.TopicID{}
	for i, p := range one.of {
		ids[one.offsets[i].Topic] = p.topic
	}
	s.take(s.g.Commit(s.now, t, CommitRequest{MemberID: one.c.id, Generation: one.epoch, Offsets: one.offsets, IDs: ids}))
}

// arriveLate lets a commit arrive again, by another connection, when another
// client works on its partition and its member has a newer epoch: it must change
// nothing any more. Before that it does, here as in Kafka: who names its present
// epoch may commit anything. Clients wait for an answer before they commit anew.
func (s *sim) arriveLate(owners map[partition]*simClient) {
	s.read.late = slices.DeleteFunc(s.read.late, func(one *simCommit) bool {
		if m := s.g.consumer.byID[one.c.id]; m != nil && m.current.Epoch == one.epoch {
			return false
		}
		again := &simCommit{c: one.c, epoch: one.epoch}
		for i, p := range one.of {
			if o := owners[p]; o != nil && o != one.c {
				again.of, again.offsets = append(again.of, p), append(again.offsets, one.offsets[i])
			}
		}
		if len(again.of) > 0 {
			s.sendCommit(0, again)
		}
		return len(again.of) > 0
	})
}

// committed hears the answer to a commit.
func (s *sim) committed(a Answer) {
	one := s.read.commits[a.Ticket]
	delete(s.read.commits, a.Ticket)
	if one == nil || a.Err != nil {
		return
	}
	for i, p := range one.of {
		if a.Commit[i] != nil {
			continue
		}
		at := one.offsets[i].Offset.Offset
		s.read.acked[p] = max(s.read.acked[p], at)
		if _, reads := s.read.at[readerOf{one.c, p}]; reads {
			s.read.safe[readerOf{one.c, p}] = at
		}
	}
}

// readOn lets every client read one record of each partition that it has.
func (s *sim) readOn() {
	for r, at := range s.read.at {
		if slices.Contains(s.clients, r.c) && r.c.owned[r.p] {
			continue
		}
		if s.read.safe[r] != at {
			s.read.lost[r.p] = true
		}
		delete(s.read.at, r)
		delete(s.read.safe, r)
	}
	owners := map[partition]*simClient{}
	for _, c := range s.clients {
		for p := range c.owned {
			owners[p] = c
			if c.assigned[p] { // what it is to give up it reads no more
				s.readOne(c, p)
			}
		}
		if s.chance(20) {
			s.commit(c)
		}
	}
	s.arriveLate(owners)
}

func (s *sim) readOne(c *simClient, p partition) {
	r := readerOf{c, p}
	at, reads := s.read.at[r]
	if !reads {
		if s.g.CheckFetch(c.id, c.epoch) != nil {
			return // it asks again
		}
		o, _ := s.g.Offset(committing(p))
		at = o.Offset
		s.begins(c, p, at)
		s.read.safe[r] = at
	}
	if at != s.read.next[p] {
		s.t.Errorf("%v: %s reads record %d of partition %d of topic %d, the next one is %d", s.now, c.id, at, p.n, p.topic[0], s.read.next[p])
	}
	s.read.at[r], s.read.next[p] = at+1, at+1
}

// begins is the guarantee.
func (s *sim) begins(c *simClient, p partition, at int64) {
	switch {
	case at < s.read.acked[p], at > s.read.next[p]:
		s.t.Errorf("%v: %s begins partition %d of topic %d at %d; %d was acknowledged, %d is the next", s.now, c.id, p.n, p.topic[0], at, s.read.acked[p], s.read.next[p])
	case s.read.lost[p]:
		s.read.next[p], s.read.lost[p] = at, false
	case at > 0:
		s.read.handed++
	}
}
