package share

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const lock = 10 * time.Second

func at(s int) time.Time { return time.Unix(int64(s), 0) }

func (w *Window) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "start %d", w.start)
	for _, r := range w.runs {
		fmt.Fprintf(&b, " [%d-%d %s x%d", r.first, r.last, map[State]string{Available: "free", Acquired: "held by " + r.member, Acknowledged: "done", Archived: "archived"}[r.state], r.count)
		b.WriteString("]")
	}
	return b.String()
}

func expect(t *testing.T, w *Window, want string) {
	t.Helper()
	if got := w.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWindowLife(t *testing.T) {
	w := NewWindow(0, Default())
	held := w.Acquire(at(0), "a", 3, lock, 0, []Range{{First: 0, Last: 9}})
	if !slices.Equal(held, []Held{{0, 2, 1}}) {
		t.Fatalf("%v", held)
	}
	expect(t, w, "start 0 [0-2 held by a x1] [3-9 free x0]")
	if held = w.Acquire(at(1), "b", 4, lock, 3, []Range{{First: 0, Last: 9}}); !slices.Equal(held, []Held{{3, 6, 1}}) {
		t.Fatalf("%v", held)
	}
	if err := w.Acknowledge(at(1), "b", lock, []Ack{{0, 0, []int8{Accept}}}, false); err == nil {
		t.Fatal("b acknowledged what a holds")
	}
	if err := w.Acknowledge(at(1), "a", lock, []Ack{{0, 2, []int8{Accept, Release, Reject}}}, false); err != nil {
		t.Fatal(err)
	}
	expect(t, w, "start 1 [1-1 free x1] [2-2 archived x1] [3-6 held by b x1] [7-9 free x0]")
	if !w.Tick(at(11)) || w.Tick(at(11)) {
		t.Error("the lock of b did not end once")
	}
	expect(t, w, "start 1 [1-1 free x1] [2-2 archived x1] [3-6 free x1] [7-9 free x0]")
	start, batches := w.Snapshot()
	again, err := Restore(start, batches, Default())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, again, "start 1 [1-1 free x1] [2-2 archived x1] [3-6 free x1]")
	if w.Trim(5); w.Start() != 5 {
		t.Errorf("start %d after a trim to 5", w.Start())
	}
}

// What compaction has removed, and control batches, are passed over; records
// behind a window that was lost are not.
func TestWindowHoles(t *testing.T) {
	w := NewWindow(0, Default())
	w.Acquire(at(0), "a", 99, lock, 0, []Range{{First: 4, Last: 5}, {First: 6, Last: 6, Skip: true}, {First: 8, Last: 8}})
	expect(t, w, "start 4 [4-5 held by a x1] [6-7 archived x0] [8-8 held by a x1]")
	if held := w.Acquire(at(0), "a", 99, lock, 10, []Range{{First: 12, Last: 14}}); held != nil {
		t.Errorf("%v behind a hole that nobody has read", held)
	}
	if err := w.Acknowledge(at(0), "a", lock, []Ack{{4, 5, []int8{Release}}}, false); err != nil {
		t.Fatal(err)
	}
	w.Acquire(at(0), "b", 99, lock, 4, []Range{{First: 5, Last: 5}}) // 4 was compacted away since
	expect(t, w, "start 5 [5-5 held by b x2] [6-7 archived x0] [8-8 held by a x1]")
}

func TestWindowBounds(t *testing.T) {
	w := NewWindow(0, Limits{Deliveries: 2, InFlight: 5})
	if held := w.Acquire(at(0), "a", 99, lock, 0, []Range{{First: 0, Last: 9}}); !slices.Equal(held, []Held{{0, 4, 1}}) {
		t.Errorf("%v, want five", held)
	}
	if _, ok := w.Next(); ok {
		t.Error("more than five in flight")
	}
	w.Release("a")
	w.Acquire(at(0), "a", 99, lock, 0, []Range{{First: 0, Last: 9}})
	w.Release("a") // delivered twice: given up
	expect(t, w, "start 5")
	for _, acks := range [][]Ack{
		{{3, 2, []int8{1}}}, {{-1, 2, []int8{1}}}, {{0, 1, nil}}, {{0, 2, []int8{1, 1}}}, {{0, 0, []int8{9}}}, {{0, 0, []int8{Renew}}},
		{{2, 3, []int8{1}}, {3, 4, []int8{1}}}, {{5, 5, []int8{1}}}, {{0, 1 << 60, []int8{1}}},
	} {
		if err := w.Acknowledge(at(0), "a", lock, acks, false); err == nil {
			t.Errorf("%v was taken", acks)
		}
	}
}

// model is what an independent observer knows of one record.
type model struct {
	holder    string
	until     time.Time
	delivered int
	over      bool // accepted, rejected or given up
	accepted  int
}

// A random life: no two members hold one record, none is handed out after it was
// accepted or more often than allowed, none is lost, and what was written
// survives a crash.
func TestWindowRandom(t *testing.T) {
	for seed := range uint64(300) {
		randomLife(t, rand.New(rand.NewPCG(seed, 932)))
	}
}

func randomLife(t *testing.T, rng *rand.Rand) {
	l := Limits{Deliveries: 3, InFlight: 40}
	const n = 200
	w, now := NewWindow(0, l), 0
	records := make([]model, n)
	var held []Held
	free := func(m *model) {
		if m.holder = ""; m.delivered >= int(l.Deliveries) {
			m.over = true
		}
	}
	members := []string{"a", "b", "c"}
	for range 3000 {
		member := members[rng.IntN(3)]
		switch rng.IntN(8) {
		case 0, 1, 2:
			from, ok := w.Next()
			if !ok || from >= n {
				continue
			}
			first := from - min(from, rng.Int64N(3))
			held = w.Acquire(at(now), member, 1+rng.Int64N(9), lock, from, []Range{{First: first, Last: min(n-1, from+rng.Int64N(12))}})
			for _, h := range held {
				for o := h.First; o <= h.Last; o++ {
					m := &records[o]
					if m.holder != "" || m.over || m.accepted > 0 {
						t.Fatalf("offset %d handed to %s: %+v", o, member, *m)
					}
					if m.delivered++; m.delivered != int(h.Count) || m.delivered > int(l.Deliveries) {
						t.Fatalf("offset %d: delivery %d, told %d", o, m.delivered, h.Count)
					}
					m.holder, m.until = member, at(now).Add(lock)
				}
			}
		case 3, 4, 5:
			o := w.Start() + rng.Int64N(40)
			if o >= n {
				continue
			}
			kind := int8(1 + rng.IntN(4))
			err := w.Acknowledge(at(now), member, lock, []Ack{{o, o, []int8{kind}}}, true)
			m := &records[o]
			if (err == nil) != (m.holder == member) {
				t.Fatalf("offset %d, %+v, %s says %d: %v", o, *m, member, kind, err)
			}
			switch {
			case err != nil:
			case kind == Renew:
				m.until = at(now).Add(lock)
			case kind == Release:
				free(m)
			default:
				m.holder, m.over = "", true
				if kind == Accept {
					m.accepted++
				}
			}
		case 6:
			now += rng.IntN(6)
			w.Tick(at(now))
			for i := range records {
				if m := &records[i]; m.holder != "" && !at(now).Before(m.until) {
					free(m)
				}
			}
		case 7:
			if rng.IntN(2) == 0 {
				w.Release(member)
				for i := range records {
					if records[i].holder == member {
						free(&records[i])
					}
				}
				continue
			}
			start, batches := w.Snapshot()
			again, err := Restore(start, batches, l)
			if err != nil {
				t.Fatal(err)
			}
			w = again
			for i := range records {
				if records[i].holder != "" {
					free(&records[i])
				}
			}
		}
		for o := range w.Start() {
			if !records[o].over && records[o].delivered < int(l.Deliveries) {
				t.Fatalf("offset %d is lost: %+v, the start is %d", o, records[o], w.Start())
			}
		}
	}
	for o, m := range records {
		if m.accepted > 1 {
			t.Fatalf("offset %d accepted %d times", o, m.accepted)
		}
	}
}
