package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func framed(id uint64, size int) frame {
	return frame{kind: kindMessage, id: id, payload: net.Buffers{make([]byte, size)}}
}

// The queue keeps the order, and its bytes are those of what is queued or was
// taken and is not done.
func TestQueue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 10_000
		q := newQueue(limit)
		next, want := uint64(0), uint64(0)
		var taken []frame
		queued := 0
		bytesOf := func(frames []frame) (n int) {
			for _, f := range frames {
				n += f.size()
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				f := framed(next, rapid.IntRange(0, limit*2).Draw(t, "size"))
				before := q.bytes()
				ok := q.put(f)
				if fits := before == 0 || before+f.size() <= limit; ok != fits {
					t.Fatalf("put %d bytes beside %d: %v", f.size(), before, ok)
				}
				if ok {
					next++
					queued += f.size()
				}
			},
			"take": func(t *rapid.T) {
				got := q.take(nil, rapid.IntRange(1, limit).Draw(t, "most"))
				if len(got) == 0 && want != next {
					t.Fatal("nothing is taken of a queue that has something")
				}
				for _, f := range got {
					if f.id != want {
						t.Fatalf("frame %d, want %d", f.id, want)
					}
					want++
				}
				taken = append(taken, got...)
			},
			"done": func(*rapid.T) {
				queued -= bytesOf(taken)
				q.done(taken)
				taken = nil
			},
			"": func(t *rapid.T) {
				if q.bytes() != queued {
					t.Fatalf("%d bytes, want %d", q.bytes(), queued)
				}
			},
		})
	})
}

// Who waits for room gets it when there is some, or hears of the end.
func TestQueueWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(100)
		written := make(chan struct{})
		first := framed(0, 100)
		first.written = written
		if !q.put(first) || q.put(framed(1, 1)) || !q.force(framed(2, 1)) {
			t.Fatal("put and force")
		}
		result := make(chan error, 1)
		wait := func(ctx context.Context) { result <- q.wait(ctx, framed(3, 50)) }
		go wait(t.Context())
		synctest.Wait()
		if len(result) != 0 {
			t.Fatal("did not wait")
		}
		q.done(q.take(nil, 1))
		<-written
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go wait(ctx)
		if err := <-result; !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		go wait(t.Context())
		synctest.Wait()
		if n := q.close(); n != 2 {
			t.Errorf("%d messages were dropped, want 2", n)
		}
		if err := <-result; !errors.Is(err, ErrDisconnected) {
			t.Error(err)
		}
		if q.put(framed(4, 1)) || q.force(framed(4, 1)) || len(q.take(nil, 1)) != 0 {
			t.Error("a closed queue takes and gives")
		}
	})
}

// Over any time a bucket gives no more than its rate, a hundredth of a second saved
// up, and one take.
func TestBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Unix(1000, 0)
		now, took, largest := start, 0, 0
		var b bucket
		rate := rapid.IntRange(1, 1<<30).Draw(t, "rate")
		b.setRate(now, float64(rate))
		for range rapid.IntRange(1, 100).Draw(t, "takes") {
			n := rapid.IntRange(1, rate).Draw(t, "n")
			now = now.Add(time.Duration(rapid.IntRange(0, int(time.Second)).Draw(t, "pass")))
			wait := b.take(now, n)
			if wait > 0 {
				now = now.Add(wait)
				if again := b.take(now, n); again != 0 {
					t.Fatalf("waited %v and have to wait %v more", wait, again)
				}
			}
			took, largest = took+n, max(largest, n)
			if most := float64(rate)*(now.Sub(start).Seconds()+0.01) + float64(largest) + 1; float64(took) > most {
				t.Fatalf("%d bytes in %v at %d/s", took, now.Sub(start), rate)
			}
		}
	})
	var b bucket
	if b.take(time.Now(), 1<<40) != 0 {
		t.Error("without a rate there is no bound")
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{first: 10, most: 100}
	for i, want := range []time.Duration{10, 20, 40, 80, 100, 100} {
		if least, most := b, b; least.after(0) != want/2 || most.after(0.999999) > want || most.after(0.5) == 0 {
			t.Errorf("step %d: %v, want from %v to %v", i, b, want/2, want)
		}
		b.after(0)
	}
	if b.reset(); b.after(0) != 5 {
		t.Error("not reset")
	}
}

func TestValidate(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"versions": func(c *Config) { c.MinVersion = 2 },
		"frame":    func(c *Config) { c.MaxFrame = 1 },
		"queue":    func(c *Config) { c.Queue[Bulk] = 0 },
		"dead":     func(c *Config) { c.Dead = c.KeepAlive },
		"stalled":  func(c *Config) { c.Stalled = c.Dead - 1 },
		"dial":     func(c *Config) { c.DialTimeout = 0 },
		"window":   func(c *Config) { c.Window = 0 },
		"tls":      func(c *Config) { c.ServerTLS = new(tls.Config) },
	} {
		cfg := Default()
		change(&cfg)
		if err := cfg.Validate(); err == nil {
			t.Errorf("%s: valid", name)
		}
		if _, err := New(cfg, identity(1), testHandler{}); err == nil {
			t.Errorf("%s: New takes it", name)
		}
	}
	for _, id := range []Identity{{}, {Name: "x", Node: 1}, {Name: "x", Cluster: cluster}} {
		if _, err := New(Default(), id, testHandler{}); err == nil {
			t.Errorf("identity %+v is taken", id)
		}
	}
}
