package conntest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// SinkCase is one empty destination.
type SinkCase struct {
	Config connectors.Config
	// Rows lists the ids that are visible at the destination, in any order.
	// The suite writes records of the form {"id":1,"name":"row 1"}, keyed by
	// the id as text, with times an hour apart for every 50.
	Rows func(t *testing.T) []int64
	// State is the destination's whole content as a text; two destinations
	// that hold the same have the same.
	State func(t *testing.T) string
	// Poison makes a message one that the destination cannot take. Without it
	// values that are not JSON are: a sink that takes any bytes says here what
	// it refuses.
	Poison func(m *connectors.Message)
	// Remembers says that the destination keeps the offset, so that Resume
	// knows it and an older epoch is fenced.
	Remembers bool
}

// Sink checks that a sink keeps the contract. setup makes a destination for
// one test.
func Sink(t *testing.T, s connectors.Sink, setup func(t *testing.T) SinkCase) {
	t.Run("spec", func(t *testing.T) { Spec(t, s.Spec()) })
	for _, test := range []struct {
		name string
		run  func(*sinkTest)
	}{
		{"batching", (*sinkTest).batching},
		{"every record once", (*sinkTest).everyRecordOnce},
		{"a plan twice", (*sinkTest).aPlanTwice},
		{"a plan twice after a crash", (*sinkTest).aPlanTwiceAfterACrash},
		{"the same plan gives the same content", (*sinkTest).sameContent},
		{"gaps and nothing", (*sinkTest).gapsAndNothing},
		{"poison is all or nothing", (*sinkTest).poison},
		{"cancelled writes nothing", (*sinkTest).cancelled},
		{"resume", (*sinkTest).resume},
		{"an older owner is fenced", (*sinkTest).fenced},
		{"close releases", (*sinkTest).closeReleases},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(&sinkTest{T: t, sink: s, setup: setup, SinkCase: setup(t)})
		})
	}
}

type sinkTest struct {
	*testing.T
	SinkCase
	sink  connectors.Sink
	setup func(t *testing.T) SinkCase
}

var partitions = []record.TopicPartition{{Topic: "rows", Partition: 0}, {Topic: "rows", Partition: 1}}

func (t *sinkTest) open() connectors.Writer {
	t.Helper()
	w, err := t.sink.Open(t.Context(), Task(t.Config), partitions)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (t *sinkTest) close(w connectors.Writer) {
	t.Helper()
	if err := w.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// batch makes records of offsets [from, to) of a partition, and the plan for
// them. Their ids are the offset plus a million for each partition.
func batch(partition int, from, to int64) (connectors.Plan, connectors.Batch) {
	tp := partitions[partition]
	p := connectors.Plan{Partition: tp, From: from, To: to, Epoch: 1, ID: fmt.Sprintf("conntest/%s/%d/%d", tp, from, to)}
	var b connectors.Batch
	for o := from; o < to; o++ {
		id := o + 1_000_000*int64(partition)
		b.Messages = append(b.Messages, connectors.Message{
			Key: fmt.Append(nil, id), Value: fmt.Appendf(nil, `{"id":%d,"name":"row %d"}`, id, id),
			Timestamp: 1431857103000 + o/50*3600_000, Partition: tp, Offset: o,
		})
	}
	return p, b
}

func (t *sinkTest) write(w connectors.Writer, p connectors.Plan, b connectors.Batch) {
	t.Helper()
	refused, err := w.Write(t.Context(), p, b)
	if err != nil || len(refused) > 0 {
		t.Fatalf("%s: %v, refused %v", p, err, refused)
	}
}

// rows compares what is visible with the ids of the batches.
func (t *sinkTest) rows(want ...connectors.Batch) {
	t.Helper()
	var ids []int64
	for _, b := range want {
		for _, m := range b.Messages {
			ids = append(ids, m.Offset+1_000_000*int64(m.Partition.Partition))
		}
	}
	got := t.Rows(t.T)
	slices.Sort(got)
	slices.Sort(ids)
	if !slices.Equal(got, ids) {
		t.Fatalf("%d rows at the destination, want %d: %.200s", len(got), len(ids), fmt.Sprint(got))
	}
}

func (t *sinkTest) batching() {
	if l := t.sink.Batching(t.Config); l.Wait <= 0 || l.Records <= 0 && l.Bytes <= 0 {
		t.Errorf("%+v: a plan needs an age and a size at which it is cut", l)
	}
}

func (t *sinkTest) everyRecordOnce() {
	w := t.open()
	p, a := batch(0, 0, 120)
	q, b := batch(1, 7, 90)
	r, c := batch(0, 120, 121)
	t.write(w, p, a)
	t.rows(a)
	t.write(w, q, b)
	t.write(w, r, c)
	t.close(w)
	t.rows(a, b, c)
}

func (t *sinkTest) aPlanTwice() {
	w := t.open()
	p, a := batch(0, 0, 120)
	t.write(w, p, a)
	before := t.State(t.T)
	t.write(w, p, a)
	t.close(w)
	t.rows(a)
	if after := t.State(t.T); after != before {
		t.Errorf("the destination changed from\n%.400s\nto\n%.400s", before, after)
	}
}

func (t *sinkTest) aPlanTwiceAfterACrash() {
	p, a := batch(0, 0, 120)
	w := t.open()
	t.write(w, p, a)
	before := t.State(t.T)
	next := t.open() // the first writer is still there, as after a long pause
	p.Epoch = 2
	t.write(next, p, a)
	t.close(next)
	t.close(w)
	t.rows(a)
	if after := t.State(t.T); after != before && !t.Remembers { // the epoch may show
		t.Errorf("the destination changed from\n%.400s\nto\n%.400s", before, after)
	}
}

func (t *sinkTest) sameContent() {
	other := &sinkTest{T: t.T, sink: t.sink, setup: t.setup, SinkCase: t.setup(t.T)}
	var states []string
	for _, one := range []*sinkTest{t, other} {
		w := one.open()
		for _, from := range []int64{0, 100} {
			p, b := batch(0, from, from+100)
			one.write(w, p, b)
		}
		one.close(w)
		states = append(states, one.State(t.T))
	}
	if states[0] != states[1] {
		t.Errorf("two destinations of the same plans differ:\n%.400s\n%.400s", states[0], states[1])
	}
}

// gapsAndNothing: compacted topics have gaps, and a plan may hold no record
// at all.
func (t *sinkTest) gapsAndNothing() {
	w := t.open()
	p, a := batch(0, 0, 100)
	a.Messages = slices.DeleteFunc(a.Messages, func(m connectors.Message) bool { return m.Offset%3 == 0 })
	t.write(w, p, a)
	q, _ := batch(0, 100, 150)
	t.write(w, q, connectors.Batch{})
	t.write(w, q, connectors.Batch{})
	r, c := batch(0, 150, 160)
	t.write(w, r, c)
	t.close(w)
	t.rows(a, c)
}

// poison: the record is named, nothing of the plan is visible, and the plan
// goes through without it.
func (t *sinkTest) poison() {
	w := t.open()
	first, good := batch(0, 0, 10)
	t.write(w, first, good)
	p, b := batch(0, 10, 110)
	b.Messages[42].Value = []byte(`{"id":52,"name":"row 5`)
	b.Messages[77].Value = []byte("not JSON")
	if t.Poison != nil {
		t.Poison(&b.Messages[42])
		t.Poison(&b.Messages[77])
	}
	for range 2 { // a crash before the dead letters: it is found again
		refused, err := w.Write(t.Context(), p, b)
		if err != nil || len(refused) != 2 {
			t.Fatalf("refused %v, %v; want two records", refused, err)
		}
		for i, index := range []int{42, 77} {
			if r := refused[i]; r.Index != index || r.Offset != b.Messages[index].Offset || connectors.ClassOf(r.Err) != connectors.ClassPoison {
				t.Errorf("refused index %d offset %d: %v (class %v), want index %d", r.Index, r.Offset, r.Err, connectors.ClassOf(r.Err), index)
			}
		}
		t.rows(good)
	}
	b.Messages = slices.Delete(b.Messages, 77, 78)
	b.Messages = slices.Delete(b.Messages, 42, 43)
	t.write(w, p, b)
	t.close(w)
	t.rows(good, b)
}

func (t *sinkTest) cancelled() {
	w := t.open()
	p, b := batch(0, 0, 100)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Write(ctx, p, b); err == nil {
		t.rows(b) // done before it was noticed
	} else if c := connectors.ClassOf(err); c == connectors.ClassPoison || c == connectors.ClassFatal {
		t.Errorf("class %v: %v", c, err)
	} else {
		t.rows()
	}
	t.write(w, p, b)
	t.close(w)
	t.rows(b)
}

func (t *sinkTest) resume() {
	w := t.open()
	p, b := batch(0, 5, 100)
	t.write(w, p, b)
	t.close(w)
	w = t.open()
	defer t.close(w)
	next, known, err := w.Resume(t.Context(), partitions[0])
	if err != nil || known != t.Remembers || known && next != 100 {
		t.Errorf("partition 0: next %d, known %t, %v", next, known, err)
	}
	if next, known, err := w.Resume(t.Context(), partitions[1]); err != nil || known {
		t.Errorf("partition 1 was never written: next %d, known %t, %v", next, known, err)
	}
}

// fenced: what an owner of an older epoch does after a later one has written
// changes nothing.
func (t *sinkTest) fenced() {
	if !t.Remembers {
		t.Skip("this destination keeps no offset; the names of files do")
	}
	old, next := t.open(), t.open()
	p, a := batch(0, 0, 50)
	t.write(old, p, a)
	q, b := batch(0, 50, 60)
	q.Epoch = 2
	t.write(next, q, b)
	r, c := batch(0, 60, 70)
	if _, err := old.Write(t.Context(), r, c); connectors.ClassOf(err) != connectors.ClassFatal || !errors.Is(err, connectors.ErrFenced) {
		t.Errorf("the old owner's plan: %v (class %v), want fenced", err, connectors.ClassOf(err))
	}
	t.rows(a, b)
	t.close(old)
	t.close(next)
}

func (t *sinkTest) closeReleases() {
	from := int64(0)
	released(t.T, func() {
		w := t.open()
		p, b := batch(0, from, from+10)
		from += 10
		t.write(w, p, b)
		t.close(w)
	})
}
