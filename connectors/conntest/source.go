package conntest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// patience is how long the suite waits for what should come at once. Nothing
// is measured by it: it only ends a test that hangs.
const patience = 30 * time.Second

// SourceCase is one external system that a source is to read.
type SourceCase struct {
	// Config reads everything once, and ends.
	Config connectors.Config
	// Want is each split's messages in order, as texts of their originals.
	Want map[string][]string
	// Waiting reads the same and then waits for more; nil when the source
	// cannot wait.
	Waiting *connectors.Config
}

// Source checks that a source keeps the contract. setup makes a system for one
// test; small ones of about a hundred messages are best, as the source is
// opened once for each of them.
func Source(t *testing.T, s connectors.Source, setup func(t *testing.T) SourceCase) {
	t.Run("spec", func(t *testing.T) { Spec(t, s.Spec()) })
	for _, test := range []struct {
		name string
		run  func(*sourceTest)
	}{
		{"splits are stable", (*sourceTest).splitsAreStable},
		{"everything in order", (*sourceTest).everythingInOrder},
		{"one at a time", (*sourceTest).oneAtATime},
		{"resume anywhere", (*sourceTest).resumeAnywhere},
		{"memory is the caller's", (*sourceTest).memoryIsTheCallers},
		{"readers are independent", (*sourceTest).readersAreIndependent},
		{"foreign position", (*sourceTest).foreignPosition},
		{"cancel while waiting", (*sourceTest).cancelWhileWaiting},
		{"close releases", (*sourceTest).closeReleases},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(&sourceTest{sourceTester{t, s}, setup(t)}) })
	}
}

type sourceTest struct {
	sourceTester
	SourceCase
}

// sourceTester is what the suites of sources have in common.
type sourceTester struct {
	*testing.T
	source connectors.Source
}

// splits reads the final list, sorted.
func (t *sourceTester) splits(cfg connectors.Config) []connectors.Split {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	lists, err := t.source.Splits(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	var last []connectors.Split
	for list := range lists {
		last = list
	}
	if ctx.Err() != nil {
		t.Fatal("the channel of a list that is final stays open")
	}
	slices.SortFunc(last, func(a, b connectors.Split) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	return last
}

func (t *sourceTester) open(cfg connectors.Config, split connectors.Split, from connectors.Position) connectors.Reader {
	t.Helper()
	r, err := t.source.Open(t.Context(), Task(cfg), split, from)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rest reads to the end, closes, and checks what holds for every message.
func (t *sourceTest) rest(r connectors.Reader, limits connectors.Limits) []connectors.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	limits.Wait = time.Second
	var all []connectors.Message
	for {
		b, err := r.Read(ctx, limits)
		if limits.Records > 0 && len(b.Messages) > limits.Records {
			t.Fatalf("%d messages, the limit is %d", len(b.Messages), limits.Records)
		}
		all = append(all, b.Messages...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := len(b.Messages); n > 0 {
			if err := r.Committed(ctx, b.Messages[n-1].Position); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.close(r)
	for i, m := range all {
		if len(m.Position) == 0 || i > 0 && all[i-1].Position.Compare(m.Position) >= 0 {
			t.Fatalf("message %d: position %x does not come after %x", i, m.Position, all[max(0, i-1)].Position)
		}
		if m.Origin.Name == "" {
			t.Fatalf("message %d does not say where it comes from", i)
		}
		if m.Err != nil && connectors.ClassOf(m.Err) != connectors.ClassPoison {
			t.Fatalf("message %d has an error that is not poison: %v", i, m.Err)
		}
	}
	return all
}

func (t *sourceTester) close(r connectors.Reader) {
	t.Helper()
	if err := r.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// same compares with a split's messages from number n on.
func (t *sourceTest) same(split string, got []connectors.Message, n int) {
	t.Helper()
	want := t.Want[split][n:]
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || string(got[i].Original) != want[i] {
			t.Fatalf("split %s after message %d: %d messages, want %d; number %d is %q, want %q",
				split, n, len(got), len(want), i, at(got, i), at(want, i))
		}
	}
}

func at[T any](all []T, i int) string {
	if i >= len(all) {
		return "nothing"
	}
	if m, ok := any(all[i]).(connectors.Message); ok {
		return string(m.Original)
	}
	return fmt.Sprint(all[i])
}

func (t *sourceTest) splitsAreStable() {
	first, again := t.splits(t.Config), t.splits(t.Config)
	if len(first) != len(t.Want) {
		t.Fatalf("%d splits, want %d", len(first), len(t.Want))
	}
	for i := range first {
		if _, ok := t.Want[first[i].ID]; !ok || first[i].ID != again[i].ID {
			t.Errorf("split %q, then %q", first[i].ID, again[i].ID)
		}
	}
}

func (t *sourceTest) everythingInOrder() {
	for _, s := range t.splits(t.Config) {
		t.same(s.ID, t.rest(t.open(t.Config, s, nil), connectors.Limits{}), 0)
	}
}

func (t *sourceTest) oneAtATime() {
	for _, s := range t.splits(t.Config) {
		t.same(s.ID, t.rest(t.open(t.Config, s, nil), connectors.Limits{Records: 1}), 0)
		t.same(s.ID, t.rest(t.open(t.Config, s, nil), connectors.Limits{Bytes: 1}), 0)
	}
}

// resumeAnywhere: opening at a position gives exactly what followed it, with
// the same positions.
func (t *sourceTest) resumeAnywhere() {
	for _, s := range t.splits(t.Config) {
		all := t.rest(t.open(t.Config, s, nil), connectors.Limits{})
		for i := range all {
			rest := t.rest(t.open(t.Config, s, slices.Clone(all[i].Position)), connectors.Limits{})
			t.same(s.ID, rest, i+1)
			for j, m := range rest {
				if m.Position.Compare(all[i+1+j].Position) != 0 {
					t.Fatalf("split %s: message %d has position %x, and %x when resumed after message %d", s.ID, i+1+j, all[i+1+j].Position, m.Position, i)
				}
			}
		}
	}
}

// memoryIsTheCallers: what was read stays as it was while reading goes on.
func (t *sourceTest) memoryIsTheCallers() {
	for _, s := range t.splits(t.Config) {
		all := t.rest(t.open(t.Config, s, nil), connectors.Limits{Records: 3})
		t.same(s.ID, all, 0)
		for i := range all { // and the caller may write to it
			clear(all[i].Position)
		}
		t.same(s.ID, t.rest(t.open(t.Config, s, nil), connectors.Limits{}), 0)
	}
}

func (t *sourceTest) readersAreIndependent() {
	s := t.splits(t.Config)[0]
	a, b := t.open(t.Config, s, nil), t.open(t.Config, s, nil)
	first, err := a.Read(t.Context(), connectors.Limits{Records: 2, Wait: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.same(s.ID, t.rest(b, connectors.Limits{}), 0)
	t.same(s.ID, append(first.Messages, t.rest(a, connectors.Limits{})...), 0)
}

func (t *sourceTest) foreignPosition() { t.refusesForeign(t.Config, t.splits(t.Config)[0]) }

// refusesForeign: a position of another source is refused, not guessed at.
func (t *sourceTester) refusesForeign(cfg connectors.Config, split connectors.Split) {
	t.Helper()
	r, err := t.source.Open(t.Context(), Task(cfg), split, connectors.Position("\x00not of this source"))
	if err == nil {
		t.close(r)
	}
	if connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("a position of another source: %v (class %v), want a fatal error", err, connectors.ClassOf(err))
	}
}

func (t *sourceTest) cancelWhileWaiting() {
	if t.Waiting == nil {
		t.Skip("this source does not wait")
	}
	s := connectors.Split{ID: t.splits(t.Config)[0].ID}
	r := t.open(*t.Waiting, s, nil)
	defer t.close(r)
	for n := 0; n < len(t.Want[s.ID]); {
		b, err := r.Read(t.Context(), connectors.Limits{Wait: patience})
		if err != nil {
			t.Fatal(err)
		}
		n += len(b.Messages)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := r.Read(ctx, connectors.Limits{Wait: time.Hour})
		done <- err
	}()
	cancel()
	select {
	case err := <-done:
		if connectors.ClassOf(err) != connectors.ClassStopped {
			t.Errorf("class %v: %v", connectors.ClassOf(err), err)
		}
	case <-time.After(patience):
		t.Fatal("Read does not end with its context")
	}
}

func (t *sourceTest) closeReleases() {
	released(t.T, func() {
		for _, s := range t.splits(t.Config) {
			r := t.open(t.Config, s, nil)
			if _, err := r.Read(t.Context(), connectors.Limits{Records: 1, Wait: patience}); err != nil {
				t.Fatal(err)
			}
			t.close(r)
		}
	})
}
