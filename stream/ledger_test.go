package stream

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// TestLedgerAgainstAModel settles messages in random order and compares the
// prefix with a plain list.
func TestLedgerAgainstAModel(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 3))
		l := newLedger(prefix{Counters: Counters{Read: 5, Produced: 5}, Ends: map[topicPartition]int64{tp("t", 0): 40}})
		type model struct {
			seq     int64
			outcome outcome
			p       int32
			offset  int64
		}
		var all []*model
		var open []*model
		next := [3]int64{40, 0, 0}
		for n := range 20_000 {
			if rng.IntN(2) == 0 || len(open) == 0 {
				m := &model{p: int32(rng.IntN(3))}
				m.seq = l.add(position(n), connectors.Origin{Name: "f", Line: int64(n)})
				m.offset, next[m.p] = next[m.p], next[m.p]+1 // outputs of a partition are in order
				all, open = append(all, m), append(open, m)
			} else {
				i := rng.IntN(min(len(open), 1+rng.IntN(100)))
				m := open[i]
				open = append(open[:i], open[i+1:]...)
				m.outcome = []outcome{produced, filtered, dead}[rng.IntN(3)]
				l.settle(m.seq, m.outcome, tp("t", m.p), m.offset)
			}
			if n%997 != 0 {
				continue
			}
			want := Counters{Read: 5, Produced: 5}
			ends := map[int32]int64{0: 40}
			settled := 0
			for _, m := range all {
				if m.outcome == pending {
					break
				}
				settled++
				want.Read++
				switch m.outcome {
				case produced:
					want.Produced++
				case filtered:
					want.Filtered++
					continue
				case dead:
					want.DeadLetters++
				}
				ends[m.p] = m.offset + 1
			}
			got := l.snapshot()
			if got.Counters != want || l.pending() != len(all)-settled {
				t.Fatalf("seed %d, step %d: %+v, %d pending; want %+v, %d", seed, n, got.Counters, l.pending(), want, len(all)-settled)
			}
			for p, end := range ends {
				if got.Ends[tp("t", p)] != end {
					t.Fatalf("seed %d: partition %d ends at %d, want %d", seed, p, got.Ends[tp("t", p)], end)
				}
			}
		}
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		if got := b.next(0, 0); got != want*time.Second {
			t.Errorf("pause %d is %v, want %v s", i, got, want)
		}
	}
	if got := b.next(10*time.Minute, 0); got != time.Second {
		t.Errorf("after ten healthy minutes the pause is %v", got)
	}
	if got := b.next(0, 5*time.Minute); got != 5*time.Minute {
		t.Errorf("asked for five minutes, got %v", got)
	}
}

func TestMeter(t *testing.T) {
	var m meter
	now := time.Unix(1_000_000, 0)
	for range 30 {
		m.add(now, 50)
		now = now.Add(500 * time.Millisecond)
	}
	fresh := meter{}
	fresh.add(now, 70)
	if got := fresh.rate(now); got != 70 {
		t.Errorf("in the first second the rate is %v, want 70", got)
	}
	if got := m.rate(now); got != 100 {
		t.Errorf("rate %v, want 100", got)
	}
	if got := m.rate(now.Add(5 * time.Second)); got != 50 {
		t.Errorf("five seconds later %v, want 50", got)
	}
	if got := m.rate(now.Add(time.Hour)); got != 0 {
		t.Errorf("an hour later %v", got)
	}
}
