package conntest

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// QueueCase is one external system that hands its messages out until they are
// acknowledged (connectors.Queue).
type QueueCase struct {
	Config connectors.Config
	// Send has the system offer a message for each text, for as long as it is
	// not acknowledged. The same text is the same message: it has the same ID.
	Send func(texts ...string)
	// Text is what of a message Send was called with.
	Text func(m connectors.Message) string
	// Kept lists what the system still keeps, after the last reader is closed.
	// It may take it away.
	Kept func() []string
	// InOrder says that messages come in the order of Send, also again.
	InOrder bool
}

// Queue checks that a source keeps the contract of connectors.Queue. setup makes
// an empty system for one test.
func Queue(t *testing.T, q connectors.Queue, setup func(t *testing.T) QueueCase) {
	t.Run("spec", func(t *testing.T) {
		Spec(t, q.Spec())
		if _, ok := q.Spec().Field("dedup_window"); !ok {
			t.Error("there is no field dedup_window (connectors.DedupField)")
		}
	})
	for _, test := range []struct {
		name string
		run  func(*queueTest)
	}{
		{"window of the config", (*queueTest).windowOfTheConfig},
		{"everything, numbered", (*queueTest).everythingNumbered},
		{"one at a time", (*queueTest).oneAtATime},
		{"acknowledged is what was committed", (*queueTest).acknowledgedIsCommitted},
		{"nothing without a commit", (*queueTest).nothingWithoutCommit},
		{"commit twice and backwards", (*queueTest).commitTwice},
		{"a number of another reader", (*queueTest).numberOfAnotherReader},
		{"close in mid-read", (*queueTest).closeInMidRead},
		{"foreign position", (*queueTest).foreignPosition},
		{"close releases", (*queueTest).closeReleases},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.run(&queueTest{sourceTester: sourceTester{T: t, source: q}, QueueCase: setup(t), queue: q})
		})
	}
}

type queueTest struct {
	sourceTester
	QueueCase
	queue connectors.Queue
}

// split is the only one.
func (t *queueTest) split() connectors.Split {
	t.Helper()
	all := t.splits(t.Config)
	if len(all) != 1 {
		t.Fatalf("%d splits, want 1", len(all))
	}
	return all[0]
}

func (t *queueTest) open(from connectors.Position) connectors.Reader {
	t.Helper()
	return t.sourceTester.open(t.Config, t.split(), from)
}

// read reads n messages and checks what holds for each.
func (t *queueTest) read(r connectors.Reader, n int, limits connectors.Limits, from connectors.Position) []connectors.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	limits.Wait = patience
	var all []connectors.Message
	for len(all) < n {
		if limits.Records == 0 || limits.Records > n-len(all) {
			limits.Records = n - len(all)
		}
		b, err := r.Read(ctx, limits)
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(all), n, err)
		}
		if len(b.Messages) > limits.Records {
			t.Fatalf("%d messages, the limit is %d", len(b.Messages), limits.Records)
		}
		all = append(all, b.Messages...)
	}
	for _, m := range all {
		if len(m.ID) == 0 || m.Err != nil || m.Origin.Name == "" {
			t.Errorf("%q: ID %x, error %v, origin %q", t.Text(m), m.ID, m.Err, m.Origin.Name)
		}
		if m.Position.Compare(from) <= 0 {
			t.Fatalf("%q: position %x does not come after %x", t.Text(m), m.Position, from)
		}
		from = m.Position
	}
	return all
}

// none says that nothing comes.
func (t *queueTest) none(r connectors.Reader) {
	t.Helper()
	b, err := r.Read(t.Context(), connectors.Limits{Wait: 100 * time.Millisecond})
	if err != nil || len(b.Messages) > 0 {
		t.Errorf("%d messages more, %v", len(b.Messages), err)
	}
}

func (t *queueTest) commit(r connectors.Reader, m connectors.Message) {
	t.Helper()
	if err := r.Committed(t.Context(), m.Position); err != nil {
		t.Fatal(err)
	}
}

func (t *queueTest) texts(all []connectors.Message) []string {
	out := make([]string, len(all))
	for i, m := range all {
		out[i] = t.Text(m)
	}
	return out
}

// same compares in order where the system has one.
func (t *queueTest) same(what string, got, want []string) {
	t.Helper()
	got, want = slices.Clone(got), slices.Clone(want)
	if !t.InOrder {
		slices.Sort(got)
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// numbered are texts a00, a01, …
func numbered(prefix string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = prefix + string([]byte{'0' + byte(i/10), '0' + byte(i%10)})
	}
	return all
}

func (t *queueTest) windowOfTheConfig() {
	if w := t.queue.Dedup(t.Config); w.IDs <= 0 {
		t.Errorf("the window is %+v", w)
	}
}

func (t *queueTest) everythingNumbered() {
	want := numbered("a", 40)
	t.Send(want...)
	r := t.open(nil)
	all := t.read(r, len(want), connectors.Limits{}, nil)
	t.same("read", t.texts(all), want)
	ids := map[string]string{}
	for _, m := range all {
		if other, there := ids[string(m.ID)]; there {
			t.Errorf("%q and %q have the same ID", other, t.Text(m))
		}
		ids[string(m.ID)] = t.Text(m)
	}
	t.none(r)
	t.commit(r, all[len(all)-1])
	t.none(r)
	t.close(r)
	t.same("kept", t.Kept(), nil)
}

func (t *queueTest) oneAtATime() {
	for _, limits := range []connectors.Limits{{Records: 1}, {Bytes: 1}} {
		want := numbered("a", 9)
		t.Send(want...)
		r := t.open(nil)
		var all []connectors.Message
		var from connectors.Position
		for range want {
			one := t.read(r, 1, limits, from)
			from = one[0].Position
			all = append(all, one...)
		}
		t.same("read", t.texts(all), want)
		t.commit(r, all[len(all)-1])
		t.close(r)
	}
	t.same("kept", t.Kept(), nil)
}

// acknowledgedIsCommitted: the prefix that Committed names is forgotten, and only
// that; the rest comes again, with the same IDs and higher numbers.
func (t *queueTest) acknowledgedIsCommitted() {
	for _, committed := range []int{1, 7, 19, 20} {
		want := numbered("a", 20)
		t.Send(want...)
		r := t.open(nil)
		all := t.read(r, len(want), connectors.Limits{}, nil)
		for i := range committed / 3 { // step by step
			t.commit(r, all[i])
		}
		last := all[committed-1]
		t.commit(r, last)
		t.close(r)
		r = t.open(slices.Clone(last.Position))
		rest := t.read(r, len(want)-committed, connectors.Limits{}, last.Position)
		t.same("read again", t.texts(rest), t.texts(all[committed:]))
		ids := map[string][]byte{}
		for _, m := range all {
			ids[t.Text(m)] = m.ID
		}
		for _, m := range rest {
			if !bytes.Equal(ids[t.Text(m)], m.ID) {
				t.Errorf("%q comes again with another ID", t.Text(m))
			}
		}
		t.none(r)
		if len(rest) > 0 {
			t.commit(r, rest[len(rest)-1])
		}
		t.close(r)
	}
	t.same("kept", t.Kept(), nil)
}

func (t *queueTest) nothingWithoutCommit() {
	want := numbered("a", 20)
	t.Send(want...)
	r := t.open(nil)
	t.read(r, len(want), connectors.Limits{}, nil)
	t.close(r)
	t.same("kept", t.Kept(), want)
}

func (t *queueTest) commitTwice() {
	want := numbered("a", 10)
	t.Send(want...)
	r := t.open(nil)
	all := t.read(r, len(want), connectors.Limits{}, nil)
	for _, i := range []int{4, 4, 1} {
		t.commit(r, all[i])
	}
	t.close(r)
	t.same("kept", t.Kept(), t.texts(all[5:]))
}

// numberOfAnotherReader: what is told of an earlier reader's number acknowledges
// nothing that the present one has handed out.
func (t *queueTest) numberOfAnotherReader() {
	want := numbered("a", 10)
	t.Send(want...)
	first := t.open(nil)
	old := t.read(first, len(want), connectors.Limits{}, nil)
	t.commit(first, old[2])
	t.close(first)
	r := t.open(slices.Clone(old[9].Position))
	rest := t.read(r, 7, connectors.Limits{}, old[9].Position)
	t.commit(r, old[2])
	t.commit(r, old[9])
	t.close(r)
	t.same("kept", t.Kept(), t.texts(rest))
}

// closeInMidRead: a Read that waits ends with its context, and what came in that
// moment is not lost.
func (t *queueTest) closeInMidRead() {
	r := t.open(nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := r.Read(ctx, connectors.Limits{Wait: time.Hour}); err != nil {
				done <- err
				return
			}
		}
	}()
	t.Send(numbered("a", 10)...)
	cancel()
	select {
	case err := <-done:
		if connectors.ClassOf(err) != connectors.ClassStopped {
			t.Errorf("class %v: %v", connectors.ClassOf(err), err)
		}
	case <-time.After(patience):
		t.Fatal("Read does not end with its context")
	}
	t.close(r)
	r = t.open(nil)
	all := t.read(r, 10, connectors.Limits{}, nil)
	t.same("read", t.texts(all), numbered("a", 10))
	t.commit(r, all[9])
	t.close(r)
	t.same("kept", t.Kept(), nil)
}

func (t *queueTest) foreignPosition() { t.refusesForeign(t.Config, t.split()) }

func (t *queueTest) closeReleases() {
	released(t.T, func() {
		r := t.open(nil)
		if _, err := r.Read(t.Context(), connectors.Limits{Wait: time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		t.close(r)
	})
}
