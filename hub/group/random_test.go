package group

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
)

// TestEveryRequestIsAnsweredOnce plays random requests, delays and failing
// writes, and then lets time pass: each ticket must have been answered exactly
// once, no answer may precede the write it depends on, and the group must come
// to rest empty.
func TestEveryRequestIsAnsweredOnce(t *testing.T) {
	for seed := range uint64(300) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 7)), now: time.UnixMilli(1e6), asked: map[Ticket]bool{}}
		cfg := Default()
		cfg.MaxMembers = 6
		cfg.InitialDelay = time.Duration(seed%3) * time.Second
		w.g = New("g", cfg, w.now)
		for range 200 {
			w.step()
		}
		w.settle()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

type world struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Time
	g      *Group
	ids    []string
	ticket Ticket
	asked  map[Ticket]bool // answered?
	writes []uint64
}

func (w *world) take(out Output) {
	for _, a := range out.Answers {
		done, known := w.asked[a.Ticket]
		if !known || done {
			w.t.Errorf("ticket %d: answered %v, known %v, answered again with %v", a.Ticket, done, known, a.Err)
		}
		w.asked[a.Ticket] = true
		if required := (*NewMemberID)(nil); errors.As(a.Err, &required) {
			w.ids = append(w.ids, required.ID)
		}
		if a.Join != nil {
			w.ids = append(w.ids, a.Join.MemberID)
		}
	}
	for _, wr := range out.Writes {
		w.writes = append(w.writes, wr.ID)
	}
}

func (w *world) park() Ticket {
	w.ticket++
	w.asked[w.ticket] = false
	return w.ticket
}

func (w *world) id() string {
	if len(w.ids) == 0 || w.rng.IntN(10) == 0 {
		return ""
	}
	return w.ids[max(0, len(w.ids)-1-w.rng.IntN(6))]
}

func (w *world) step() {
	w.now = w.now.Add(time.Duration(w.rng.IntN(1500)) * time.Millisecond)
	if d := w.g.Deadline(); !d.IsZero() && !d.After(w.now) {
		w.take(w.g.Tick(w.now, newBoard()))
	}
	instance := ""
	if w.rng.IntN(4) == 0 {
		instance = fmt.Sprintf("i%d", w.rng.IntN(2))
	}
	generation := w.g.Generation() - int32(w.rng.IntN(20)/19)
	switch id := w.id(); w.rng.IntN(10) {
	case 0, 1, 2:
		t := w.park()
		w.take(w.g.Join(w.now, t, JoinRequest{
			MemberID: id, NewID: fmt.Sprintf("m%d", t), Instance: instance, ClientID: "c",
			Session: 10 * time.Second, Rebalance: 20 * time.Second, ProtocolType: "consumer",
			Protocols: []Protocol{{"a", []byte{byte(w.rng.IntN(2))}}, {"b", nil}}, NeedID: w.rng.IntN(2) == 0, CanSkip: w.rng.IntN(2) == 0,
		}, newBoard()))
	case 3, 4, 5:
		w.take(w.g.Sync(w.now, w.park(), SyncRequest{MemberID: id, Instance: instance, Generation: generation, Assignments: map[string][]byte{id: {1}}}, newBoard()))
	case 6:
		_ = w.g.Heartbeat(w.now, HeartbeatRequest{MemberID: id, Instance: instance, Generation: generation})
	case 7:
		w.take(w.g.Leave(w.now, w.park(), []Leaver{{MemberID: id, Instance: instance}}))
	case 8:
		o := Offset{Offset: 1, CommitTime: w.now.UnixMilli()}
		w.take(w.g.Commit(w.now, w.park(), CommitRequest{MemberID: id, Generation: generation, Offsets: []OffsetWrite{{record.TopicPartition{Topic: "t"}, &o}}}))
	case 9:
		w.take(w.g.Delete(w.park()))
		w.take(w.g.DeleteOffsets(w.park(), []record.TopicPartition{{Topic: "t"}}))
	}
	for len(w.writes) > 0 && w.rng.IntN(3) > 0 {
		w.durable()
	}
	if d := w.g.Deadline(); len(w.g.members) > 0 && d.IsZero() && w.g.State() != Dead && w.waits() {
		w.t.Error("somebody waits and nothing will ever happen")
	}
	if w.g.State() == Dead {
		w.g = New("g", w.g.cfg, w.now)
		w.writes = nil
	}
}

func (w *world) durable() {
	id := w.writes[0]
	w.writes = w.writes[1:]
	var err error
	if w.rng.IntN(5) == 0 {
		err = errors.New("failed")
	}
	w.take(w.g.Written(w.now, id, err))
}

func (w *world) waits() bool {
	for _, done := range w.asked {
		if !done {
			return true
		}
	}
	return false
}

// settle lets everything come to its end without new requests.
func (w *world) settle() {
	for range 10_000 {
		for len(w.writes) > 0 {
			w.durable()
		}
		d := w.g.Deadline()
		if d.IsZero() {
			break
		}
		w.now = d
		w.take(w.g.Tick(w.now, newBoard()))
	}
	for t, done := range w.asked {
		if !done {
			w.t.Errorf("ticket %d was never answered; the group is %v", t, w.g.State())
		}
	}
	if len(w.g.members)+len(w.g.pending) != 0 || w.g.State() != Empty && w.g.State() != Dead {
		w.t.Errorf("the group is %v with %d members", w.g.State(), len(w.g.members))
	}
}
