package mirror

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// three batches of 10 records from offset 0 on.
func threeBatches() (l *fakeLog, raw []byte) {
	l = newFakeLog()
	rng := rand.New(rand.NewPCG(3, 4))
	for range 3 {
		l.add(rng, record.None, 10, 0)
	}
	return l, l.read(0, 1<<20)
}

func TestSplitAnswer(t *testing.T) {
	l, raw := threeBatches()
	n0, n1 := len(l.batches[0]), len(l.batches[1])
	change := func(at int, to byte) []byte {
		b := bytes.Clone(raw)
		b[at] = to
		return b
	}
	for _, c := range []struct {
		name string
		raw  []byte
		want int
		err  error
	}{
		{"whole", raw, 3, nil},
		{"nothing", nil, 0, nil},
		{"cut in the last batch", raw[:len(raw)-1], 2, nil},
		{"cut in the last header", raw[:n0+n1+20], 2, nil},
		{"cut in the first batch", raw[:n0-1], 0, record.ErrCorruptBatch},
		{"cut in the first header", raw[:30], 0, record.ErrCorruptBatch},
		{"a flipped record", change(n0+100, raw[n0+100]^1), 1, record.ErrCorruptBatch},
		{"another magic", change(n0+16, 1), 1, record.ErrInvalidBatch},
		{"a length too short", change(n0+11, 3), 1, record.ErrCorruptBatch},
		{"a length that lies past the end looks cut off", change(n0+9, 9), 1, nil},
	} {
		got, err := splitAnswer(c.raw)
		if len(got) != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %d batches, %v; want %d, %v", c.name, len(got), err, c.want, c.err)
		}
	}
}

// Every single bit of an answer is either harmless or seen: by the checksum,
// or because what comes does not follow on.
func TestEveryFlippedBitIsSeen(t *testing.T) {
	l, raw := threeBatches()
	for bit := range len(raw) * 8 {
		damaged := bytes.Clone(raw)
		damaged[bit/8] ^= 1 << (bit % 8)
		p := newPartition(&topic{name: "clicks"}, 0)
		p.phase = running
		a := p.ask(1 << 20)
		a.leaderEpoch = 0
		batches, corrupt := splitAnswer(damaged)
		p.fetched(time.Unix(1, 0), a, answer{start: 0, end: 30, batches: batches, corrupt: corrupt})
		for _, ch := range p.queue {
			for _, b := range ch.batches {
				if !l.has(b) {
					t.Fatalf("bit %d of byte %d: batch %d to %d was taken", bit%8, bit/8, b.BaseOffset(), b.LastOffset())
				}
			}
		}
	}
}

func FuzzSplitAnswer(f *testing.F) {
	_, raw := threeBatches()
	f.Add(raw)
	f.Add(raw[:len(raw)-7])
	f.Add(raw[:40])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		batches, err := splitAnswer(raw)
		rest := raw
		for _, b := range batches {
			if !bytes.HasPrefix(rest, b) {
				t.Fatal("a batch that is not in the answer")
			}
			if err := b.Check(); err != nil {
				t.Fatal(err)
			}
			rest = rest[len(b):]
		}
		if err == nil && len(batches) == 0 && len(raw) > 0 {
			t.Fatal("bytes without a batch and without an error")
		}
	})
}

// Answers of a hostile or broken broker are refused or harmless. What decodes
// the frame is the client library's; this is what is made of it.
func FuzzFetchAnswer(f *testing.F) {
	_, raw := threeBatches()
	f.Add(byte(0), int32(0), int16(0), int64(30), int64(0), int32(-1), int64(-1), raw)
	f.Add(byte(1), int32(0), int16(1), int64(-1), int64(-1), int32(2), int64(7), raw[:100])
	f.Fuzz(func(t *testing.T, id byte, number int32, code int16, end, start int64, epoch int32, epochEnd int64, raw []byte) {
		resp := kmsg.NewPtrFetchResponse()
		rt, rp := kmsg.NewFetchResponseTopic(), kmsg.NewFetchResponseTopicPartition()
		rt.TopicID[15], rp.Partition, rp.ErrorCode, rp.RecordBatches = id, number, code, raw
		rp.HighWatermark, rp.LogStartOffset = end, start
		rp.DivergingEpoch.Epoch, rp.DivergingEpoch.EndOffset = epoch, epochEnd
		rt.Partitions = append(rt.Partitions, rp)
		resp.Topics = append(resp.Topics, rt)
		p := newPartition(&topic{name: "clicks"}, 0)
		p.phase = running
		a := p.ask(1 << 20)
		answers, _, err := readAnswers([]ask{a}, resp)
		if (err == nil) != (id == 0 && number == 0) {
			t.Fatalf("topic %d partition %d: %v", id, number, err)
		}
		if err != nil {
			return
		}
		p.fetched(time.Unix(1, 0), a, answers[0])
		if p.end() < p.next || p.from < p.end() || p.end() > max(end, 0) {
			t.Fatalf("offsets %d, %d, %d do not rise, or pass the source's end %d", p.next, p.end(), p.from, end)
		}
	})
}

func TestLag(t *testing.T) {
	at := time.Unix(1000, 0)
	sec := func(n float64) time.Time { return at.Add(time.Duration(n * float64(time.Second))) }
	var l lag
	want := func(now time.Time, s float64) {
		t.Helper()
		if got := l.seconds(now); got == nil || *got != s {
			t.Errorf("lag %v, want %v", got, s)
		}
	}
	l.saw(sec(0), 100, 40)
	if got := l.seconds(sec(1)); got != nil {
		t.Errorf("a backlog of unknown age is told as %v s", *got)
	}
	l.saw(sec(1), 120, 60)
	l.reached(100)
	want(sec(1.5), 0.5) // 120 was first seen at second 1
	l.saw(sec(2), 150, 100)
	l.reached(120)
	want(sec(5), 3)
	l.reached(150)
	want(sec(9), 0)
	l.saw(sec(10), 160, 150) // nobody looked for 8 s: it may be that old
	want(sec(10), 8)
	l.saw(sec(11), 155, 155) // the end went back
	want(sec(12), 0)
	for i := range int64(1000) { // bounded, and never told too short
		l.saw(sec(20+float64(i)/10), 200+i, 155)
	}
	if len(l.samples) > maxSamples {
		t.Errorf("%d samples", len(l.samples))
	}
	l.reached(1000)
	if got := *l.seconds(sec(120)); got < 20 {
		t.Errorf("lag %v s, at least 20 are true", got)
	}
}

func TestMeter(t *testing.T) {
	var m meter
	at := time.Unix(1000, 0)
	for i := range 20 {
		m.add(at.Add(time.Duration(i)*time.Second), 500)
	}
	if got := m.rate(at.Add(19 * time.Second)); got != 500 {
		t.Errorf("rate %v, want 500", got)
	}
	if got := m.rate(at.Add(24 * time.Second)); got != 250 {
		t.Errorf("rate after 5 quiet seconds %v, want 250", got)
	}
	if got := m.rate(at.Add(time.Hour)); got != 0 {
		t.Errorf("rate after an hour %v", got)
	}
}

func TestLinkTakes(t *testing.T) {
	l := DefaultLink("east")
	if !l.takes("orders.eu") || l.takes("__consumer_offsets") {
		t.Error("the default link takes all topics but the hub's own")
	}
	l.Topics = []string{"orders.*", "clicks"}
	if !l.takes("orders.eu") || !l.takes("clicks") || l.takes("clicks2") {
		t.Error("patterns")
	}
	for _, bad := range []Link{{}, {Name: "a"}, {Name: "a", Source: "b", Kind: "merge"},
		{Name: "a", Source: "b", Kind: KindMirror}, {Name: "a", Source: "b", Kind: KindMirror, OnGap: GapStop, Topics: []string{"["}}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if err := l.Validate(); err != nil {
		t.Error(err)
	}
}

func TestBadConfig(t *testing.T) {
	for _, bad := range []Config{{}, {Site: "w", Poll: -1}, {Site: "w", OnGap: "jump"}, {Site: "w", HoldBytes: -1}} {
		if _, err := New(bad, newMemSite()); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
