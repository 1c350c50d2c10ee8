package ctl

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBench(t *testing.T) {
	addr, _ := broker(t)
	do := func(args string) []string { return append(strings.Fields(args), "--brokers", addr) }
	for _, acks := range []string{"all", "leader", "none"} {
		for _, codec := range []string{"none", "zstd"} {
			var r benchResult
			mustJSON(t, &r, do("bench produce --topic b-"+acks+" --partitions 3 --record-size 100 --records 2500 --clients 2 --acks "+acks+" --compression "+codec)...)
			if r.Records != 2500 || r.Bytes != 250000 || r.Failed != 0 || r.RecordsSecond <= 0 || r.Latency == nil || r.Latency.Max < r.Latency.P50 {
				t.Errorf("produce acks=%s %s: %+v", acks, codec, r)
			}
		}
	}
	var r benchResult
	mustJSON(t, &r, do("bench consume --topic b-all --clients 2")...)
	if r.Records != 5000 || r.Bytes != 500000 || r.Latency != nil {
		t.Errorf("consume: %+v", r)
	}
	mustJSON(t, &r, do("bench consume --topic b-all --records 100 --clients 5")...)
	if r.Records < 100 {
		t.Errorf("consume --records 100: %+v", r)
	}
	out := mustRun(t, do("bench produce --topic b-rate --record-size 10 --records 20 --rate 2000")...)
	if !strings.HasPrefix(out, "20 records of 200 B in ") || !strings.Contains(out, "latency ms: p50 ") {
		t.Errorf("produce --rate: %q", out)
	}
	out = mustRun(t, do("bench produce --topic b-time --record-size 10 --duration 100ms")...)
	if strings.HasPrefix(out, "0 records") || strings.Contains(out, "interrupted") {
		t.Errorf("produce --duration: %q", out)
	}
	got := run(t, Deps{}, do("bench consume --topic b-rate --records 21")...)
	if got.status != Failed || !strings.Contains(got.stderr, "the topic has 20 records, fewer than") {
		t.Errorf("consume of more than there is: %+v", got)
	}
	// The reference broker takes batches of a megabyte and no more.
	mustRun(t, do("topic create b-small --config max.message.bytes=100")...)
	got = run(t, Deps{}, do("bench produce --topic b-small --records 10")...)
	if got.status != Failed || !strings.Contains(got.stderr, "10 records failed; the first: MESSAGE_TOO_LARGE") {
		t.Errorf("produce of what is refused: %+v", got)
	}
}

// The histogram is wrong by no more than a thirty-second.
func TestHistogram(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h, a, b histogram
	var all []time.Duration
	for i := range 20000 {
		d := time.Duration(1+rng.Int64N(1<<rng.IntN(33))) * time.Microsecond
		all = append(all, d)
		h.add(d)
		if i%2 == 0 {
			a.add(d)
		} else {
			b.add(d)
		}
	}
	slices.Sort(all)
	a.merge(&b)
	if a != h {
		t.Error("two halves merged are not the whole")
	}
	for _, q := range []float64{0.01, 0.5, 0.95, 0.99, 0.999, 1} {
		exact := all[max(int(q*float64(len(all))+0.5)-1, 0)]
		got := h.quantile(q)
		if got < exact || float64(got) > float64(exact)*(1+1.0/32) {
			t.Errorf("quantile %v: %v, exact %v", q, got, exact)
		}
	}
	for i := range buckets - 1 {
		if edge := upperEdge(i); bucketOf(edge) != i || bucketOf(edge+1) != i+1 {
			t.Fatalf("bucket %d ends at %d, but %d is in %d and %d in %d", i, edge, edge, bucketOf(edge), edge+1, bucketOf(edge+1))
		}
	}
	var empty histogram
	if empty.quantile(0.5) != 0 {
		t.Error("no durations, but a quantile")
	}
	empty.add(-time.Second)
	empty.add(100 * time.Hour * 24)
	if empty.total != 2 {
		t.Error("durations out of range are not counted")
	}
}
