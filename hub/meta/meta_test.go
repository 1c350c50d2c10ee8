package meta

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
)

// applied is a group that has applied up to an index.
type applied uint64

func (a *applied) Changed() <-chan struct{} { return nil }
func (a *applied) Status() replica.Status   { return replica.Status{Applied: uint64(*a)} }

// TestAnswers: a node that asked another for a command gets the result of its own
// machine, also when it applies the command before it hears of it, and is told
// when it cannot know.
func TestAnswers(t *testing.T) {
	cmd := func(c catalog.Command) []byte {
		b, err := catalog.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	synctest.Test(t, func(t *testing.T) {
		a, at := newAnswers(), applied(0)
		got := make(chan catalog.Result, 1)
		go func() {
			r, err := a.wait(t.Context(), 3, &at)
			if err != nil {
				t.Error(err)
			}
			got <- r
		}()
		a.Apply(2, cmd(catalog.SiteInit{Site: "s", SiteID: 1}))
		synctest.Wait()
		select {
		case r := <-got:
			t.Fatalf("the result of entry 2 is taken for that of 3: %+v", r)
		default:
		}
		a.Apply(3, cmd(catalog.RegisterNode{Name: "n", Site: "s"}))
		at = 3
		if r := <-got; r.Err != nil || r.Value != (catalog.Registered{ID: 1}) {
			t.Errorf("%+v", r)
		}
		if r, err := a.wait(t.Context(), 2, &at); err != nil || r.Err != nil {
			t.Errorf("an earlier command: %+v, %v", r, err)
		}
		// One that came with a snapshot, and one so old that it is forgotten.
		at = 9
		if _, err := a.wait(t.Context(), 7, &at); !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a command in a snapshot: %v", err)
		}
		a.Apply(2+keepAnswers, cmd(catalog.SetJob{Name: "j", Desired: catalog.JobPaused}))
		if _, err := a.wait(t.Context(), 2, &at); !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a forgotten command: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.wait(ctx, 1<<40, &at); !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a caller that has gone: %v", err)
		}
	})
}

// TestExpected: who waits for a topic hears that it was made, also if it is gone
// again, and that it is not known when commands came with a snapshot.
func TestExpected(t *testing.T) {
	apply := func(a *answers, index uint64, c catalog.Command) {
		b, err := catalog.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		if r := a.Apply(index, b).(answer).result; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	want := func(what string, made func() (*catalog.Topic, bool), there, sure bool) {
		if topic, s := made(); (topic != nil) != there || s != sure {
			t.Errorf("%s: %v, sure %v", what, topic, s)
		}
	}
	a := newAnswers()
	apply(a, 2, catalog.SiteInit{Site: "s", SiteID: 1})
	apply(a, 3, catalog.RegisterNode{Name: "n", Site: "s"})
	mine, end := a.expected.add(record.TopicID{1})
	other, endOther := a.expected.add(record.TopicID{2})
	want("nothing yet", mine, false, true)
	apply(a, 4, catalog.CreateTopic{Name: "t", ID: record.TopicID{1}, Partitions: 1, Replicas: 1})
	apply(a, 5, catalog.DeleteTopic{Name: "t"})
	apply(a, 6, catalog.CreateTopic{Name: "t", ID: record.TopicID{3}, Partitions: 1, Replicas: 1})
	want("made and deleted", mine, true, true)
	want("another of that name", other, false, true)
	if err := a.Restore(a.Snapshot()); err != nil {
		t.Fatal(err)
	}
	want("made before the snapshot", mine, true, true)
	want("made in the snapshot, or not", other, false, false)
	end()
	endOther()
	if n := len(a.expected.byID); n > 0 {
		t.Errorf("%d are still expected", n)
	}
}

// TestForwarded: only what was surely not proposed is asked for again.
func TestForwarded(t *testing.T) {
	index, err := asked(2, binary.AppendUvarint([]byte{forwardDone}, 300), nil)
	if index != 300 || err != nil {
		t.Errorf("%d, %v", index, err)
	}
	if _, err := asked(2, append([]byte{forwardRefused}, "not me"...), nil); !errors.Is(err, errNotProposed) {
		t.Error(err)
	}
	for _, b := range [][]byte{append([]byte{forwardFailed}, "?"...), {}, {forwardDone}, {forwardDone, 0x80}, {forwardDone, 1, 1}, {9}} {
		if _, err := asked(2, b, nil); err == nil || errors.Is(err, errNotProposed) {
			t.Errorf("%v: %v", b, err)
		}
	}
}

// TestInsist: a node of several that starts asks the catalog again, not without a
// pause, while its leader changes or its own copy is damaged, and takes a refusal.
func TestInsist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := []error{
			undecided(record.ErrNotLeader), undecided(record.ErrLeaderUnknown), errors.Join(record.ErrQuarantined), record.ErrTimeout,
			undecided(record.ErrInvalidRequest),
		}
		begin, asked, waited := time.Now(), 0, 0
		err := Insist(t.Context(), func() error { asked++; return answers[asked-1] }, func(error) bool { waited++; return true })
		if asked != len(answers) || waited != asked-1 || !errors.Is(err, record.ErrInvalidRequest) {
			t.Errorf("asked %d times: %v", asked, err)
		}
		if got, want := time.Since(begin), time.Duration(len(answers)-1)*proposeAgain; got < want {
			t.Errorf("asked again within %s, want %s or more", got, want)
		}
		if err := Insist(t.Context(), func() error { return record.ErrTimeout }, func(error) bool { return false }); !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a node that has nobody to wait for: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Insist(ctx, func() error { return record.ErrTimeout }, func(error) bool { return true }); !errors.Is(err, record.ErrTimeout) {
			t.Errorf("a node that ends: %v", err)
		}
	})
}
