package quota

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

func ptr(s string) *string { return &s }

func limit(user, client *string, rate float64) catalog.Quota {
	return catalog.Quota{User: user, Client: client, Limits: map[string]float64{catalog.QuotaProduce: rate}}
}

// The most special quota holds, in the order of Kafka's documentation.
func TestPrecedence(t *testing.T) {
	all := []catalog.Quota{
		limit(ptr("u"), ptr("c"), 1), limit(ptr("u"), ptr(""), 2), limit(ptr("u"), nil, 3), limit(ptr(""), ptr("c"), 4),
		limit(ptr(""), ptr(""), 5), limit(ptr(""), nil, 6), limit(nil, ptr("c"), 7), limit(nil, ptr(""), 8),
	}
	for i := range all {
		b := New(all[i:])
		_, got, ok := b.Limit("u", "c", catalog.QuotaProduce)
		if !ok || got != float64(i+1) {
			t.Errorf("without the first %d the limit is %v, want %d", i, got, i+1)
		}
		if _, _, ok := b.Limit("u", "c", catalog.QuotaFetch); ok {
			t.Error("a limit of another kind holds")
		}
	}
	if _, _, ok := New(nil).Limit("u", "c", catalog.QuotaProduce); ok {
		t.Error("there is a limit without any quota")
	}
	if _, got, _ := New(all).Limit("v", "d", catalog.QuotaProduce); got != 5 {
		t.Errorf("somebody else's limit is %v, want the default of both", got)
	}
}

// Who shares a quota shares its bucket.
func TestSharing(t *testing.T) {
	now := time.Unix(1000, 0)
	for what, c := range map[string]struct {
		q      catalog.Quota
		shared bool // by two clients of one user
		users  bool // by two users of one client
	}{
		"a user's":       {limit(ptr("u"), nil, 100), true, false},
		"default user's": {limit(ptr(""), nil, 100), true, false},
		"a client's":     {limit(nil, ptr("c"), 100), false, true},
		"of both":        {limit(ptr(""), ptr(""), 100), false, false},
	} {
		b := New([]catalog.Quota{c.q})
		b.Charge(now, "u", "c", catalog.QuotaProduce, 100)
		if got := b.Charge(now, "u", "d", catalog.QuotaProduce, 100) > 0; got != c.shared {
			t.Errorf("%s quota is shared by two clients: %v", what, got)
		}
		b = New([]catalog.Quota{c.q})
		b.Charge(now, "u", "c", catalog.QuotaProduce, 100)
		if got := b.Charge(now, "v", "c", catalog.QuotaProduce, 100) > 0; got != c.users {
			t.Errorf("%s quota is shared by two users: %v", what, got)
		}
	}
}

// A client that is quiet for as long as it is told gets its rate, whatever
// sizes it sends.
func TestRateOverTime(t *testing.T) {
	for _, rate := range []float64{100, 1 << 20, 0.5} {
		rng := rand.New(rand.NewPCG(1, uint64(rate)))
		b := New([]catalog.Quota{limit(ptr("u"), nil, rate)})
		begin := time.Unix(1000, 0)
		now, sent := begin, 0.0
		for now.Sub(begin) < time.Hour {
			amount := rate * 3 * rng.Float64()
			sent += amount
			now = now.Add(b.Charge(now, "u", "c", catalog.QuotaProduce, amount)).Add(time.Duration(rng.IntN(2)) * time.Millisecond)
		}
		if got := sent / now.Sub(begin).Seconds(); got > rate*1.01 || got < rate*0.97 {
			t.Errorf("%v a second, the quota is %v", got, rate)
		}
	}
}

// A client that was quiet for long may not make up for it.
func TestNothingIsSavedUp(t *testing.T) {
	b := New([]catalog.Quota{limit(ptr("u"), nil, 100)})
	now := time.Unix(1000, 0)
	b.Charge(now, "u", "c", catalog.QuotaProduce, 1)
	if d := b.Charge(now.Add(time.Hour), "u", "c", catalog.QuotaProduce, 300); d != 2*time.Second {
		t.Errorf("after an hour of silence three seconds' worth is throttled for %v, want 2s", d)
	}
}

func TestThrottleIsBounded(t *testing.T) {
	b := New([]catalog.Quota{limit(ptr("u"), nil, 1)})
	now := time.Unix(1000, 0)
	if d := b.Charge(now, "u", "c", catalog.QuotaProduce, 1e12); d != MaxThrottle {
		t.Errorf("%v, want %v", d, MaxThrottle)
	}
	if d := b.Charge(now.Add(MaxThrottle), "u", "c", catalog.QuotaProduce, 1); d != MaxThrottle {
		t.Errorf("what was owed is forgotten: %v", d)
	}
	b.Set(nil)
	if d := b.Charge(now, "u", "c", catalog.QuotaProduce, 1e12); d != 0 {
		t.Errorf("%v without a quota", d)
	}
}

// A client that comes by a new name each time fills no memory.
func TestNamesAreForgotten(t *testing.T) {
	b := New([]catalog.Quota{limit(nil, ptr(""), 10)})
	now := time.Unix(1000, 0)
	for i := range 3 * maxBuckets {
		b.Charge(now, "u", fmt.Sprint(i), catalog.QuotaProduce, 1)
	}
	if n := len(b.buckets); n > maxBuckets {
		t.Errorf("%d buckets, want %d at most", n, maxBuckets)
	}
}

// Topics come in bursts: a client that was quiet may create eleven seconds'
// worth of partitions at once, and an amount of 0 asks.
func TestPartitionsComeInBursts(t *testing.T) {
	b := New([]catalog.Quota{{User: ptr("u"), Limits: map[string]float64{catalog.QuotaMutation: 2}}})
	now := time.Unix(1000, 0)
	if d := b.Charge(now, "u", "c", catalog.QuotaMutation, 22); d != 0 {
		t.Errorf("22 partitions at 2 a second: throttled for %v, want not", d)
	}
	if d := b.Charge(now, "u", "c", catalog.QuotaMutation, 5); d != 2500*time.Millisecond {
		t.Errorf("5 more: throttled for %v, want 2.5s", d)
	}
	for _, after := range []time.Duration{500 * time.Millisecond, 2500 * time.Millisecond} {
		if d := b.Charge(now.Add(after), "u", "c", catalog.QuotaMutation, 0); d != 2500*time.Millisecond-after {
			t.Errorf("after %v there are %v left, want %v", after, d, 2500*time.Millisecond-after)
		}
	}
}
