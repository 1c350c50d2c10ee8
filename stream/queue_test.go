package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// fakeQueue is a broker with one queue, which a test holds: it offers every
// message that is not acknowledged to each new reader, and now and then one
// that is.
type fakeQueue struct {
	*fakeSource // for Spec and Validate
	mu          sync.Mutex
	total       int
	acked       map[int]bool
	rng         *rand.Rand
	window      int
}

func (q *fakeQueue) Dedup(connectors.Config) connectors.Window {
	return connectors.Window{IDs: q.window}
}

func (q *fakeQueue) Pace(connectors.Config) connectors.Limits {
	return connectors.Limits{Records: 200, Wait: 20 * time.Millisecond}
}

func (q *fakeQueue) Splits(context.Context, connectors.Config) (<-chan []connectors.Split, error) {
	out := make(chan []connectors.Split, 1)
	out <- []connectors.Split{{ID: "orders"}}
	close(out)
	return out, nil
}

func (q *fakeQueue) Open(_ context.Context, _ connectors.TaskContext, _ connectors.Split, from connectors.Position) (connectors.Reader, error) {
	r := &queueReader{queue: q, next: 1, tags: map[uint64]int{}}
	if from != nil {
		r.next = binary.BigEndian.Uint64(from) + 1
	}
	r.low = r.next
	q.mu.Lock()
	defer q.mu.Unlock()
	for n := range q.total {
		if !q.acked[n] || q.rng.IntN(10) == 0 {
			r.offer = append(r.offer, n)
		}
	}
	return r, nil
}

type queueReader struct {
	queue     *fakeQueue
	next, low uint64 // numbers: of the next message, of the first that is not acknowledged
	tags      map[uint64]int
	offer     []int
}

func (r *queueReader) Read(ctx context.Context, limits connectors.Limits) (connectors.Batch, error) {
	q := r.queue
	q.mu.Lock()
	size, broken := 1+q.rng.IntN(60), q.rng.IntN(60) == 0
	q.mu.Unlock()
	if broken {
		return connectors.Batch{}, connectors.Retry(0, fmt.Errorf("the connection is lost"))
	}
	if len(r.offer) == 0 {
		select {
		case <-time.After(limits.Wait):
			return connectors.Batch{}, nil
		case <-ctx.Done():
			return connectors.Batch{}, ctx.Err()
		}
	}
	var b connectors.Batch
	for range min(size, len(r.offer)) {
		n := r.offer[0]
		r.offer = r.offer[1:]
		text := fmt.Appendf(nil, `{"k":"0/%d","n":%d}`, n%7, n)
		r.tags[r.next] = n
		b.Messages = append(b.Messages, connectors.Message{Value: text, Original: text, ID: fmt.Appendf(nil, "id-%d", n),
			Position: binary.BigEndian.AppendUint64(nil, r.next), Timestamp: connectors.NoTimestamp, Origin: connectors.Origin{Name: "orders"}})
		r.next++
	}
	return b, nil
}

func (r *queueReader) Committed(_ context.Context, upTo connectors.Position) error {
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	for ; r.low <= binary.BigEndian.Uint64(upTo); r.low++ {
		r.queue.acked[r.tags[r.low]] = true
	}
	return nil
}

func (r *queueReader) Close(context.Context) error { return nil }

// TestQueueIsExactThroughCrashes: every message is in the topic once, or
// filtered, though its broker offers it again after each crash and at times
// for no reason; and every one is acknowledged at last.
func TestQueueIsExactThroughCrashes(t *testing.T) {
	eachSeed(t, func(t *testing.T, rng *rand.Rand) {
		w := newWorld(t)
		defer w.close()
		w.createTopic("out", 3)
		q := &fakeQueue{fakeSource: newFakeSource(false, nil), total: rng.IntN(3000), acked: map[int]bool{}, rng: child(rng), window: 5000}
		reg := registry(nil, nil)
		reg.Sources["lines"] = q
		job := parseOne(t, reg, linesJob)
		done := func(JobStatus) bool {
			q.mu.Lock()
			defer q.mu.Unlock()
			return len(q.acked) == q.total
		}
		for crashes := 0; ; crashes++ {
			w.trouble(rng, "out", CheckpointTopic)
			l := w.start(time.Nanosecond, job)
			if crashes < 10 {
				cut := l.arm(rng, 120)
				if !l.sinkSurvives(cut, done) {
					l.crash()
					continue
				}
			}
			l.await("pairs", time.Hour, done)
			l.end()
			break
		}
		want := 0
		for n := range q.total {
			if n%10 != 9 {
				want++
			}
		}
		checkOnce(t, w.records("out"), want)
		checkOnce(t, w.committed("out"), want)
	})
}

// TestDedupWindow: what is out of the window is written again, and what lies
// in the checkpoint topic stays bounded.
func TestDedupWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, w := range []connectors.Window{{IDs: 1}, {IDs: 1000}, {IDs: 1024}, {IDs: 5000}, {IDs: 5000, Age: time.Hour}, {}} {
		stored := map[int64]dedupCheckpoint{}
		d := newDedup(w)
		now := time.UnixMilli(1_000_000)
		for n := range 20_000 {
			d.add(fmt.Appendf(nil, "%d", n), now)
			if rng.IntN(300) == 0 {
				for slot, ck := range d.changed() {
					stored[slot] = ck
				}
				d.saved()
				again := newDedup(w)
				var all []dedupCheckpoint
				for _, ck := range stored {
					all = append(all, ck)
				}
				if err := again.load(all); err != nil {
					t.Fatal(err)
				}
				d = again
			}
			if n%997 == 0 {
				for back := range min(w.IDs, n+1) {
					if !d.has(fmt.Appendf(nil, "%d", n-back), now) {
						t.Fatalf("%+v: after %d, the ID %d before is forgotten", w, n, back)
					}
				}
				if len(d.all) > w.IDs+dedupChunk {
					t.Fatalf("%+v: %d IDs are remembered", w, len(d.all))
				}
			}
		}
		if int64(len(stored)) > d.slots {
			t.Errorf("%+v: %d chunks are stored, want %d at most", w, len(stored), d.slots)
		}
		if now = now.Add(2 * time.Hour); w.Age > 0 && d.has([]byte("19999"), now) {
			t.Errorf("%+v: an ID is remembered after two hours", w)
		}
	}
}
