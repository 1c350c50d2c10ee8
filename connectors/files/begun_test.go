package files

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// openSite opens the sink as a site does, with a failing disk at need.
func openSite(t *testing.T, root, site string, d disk) *writer {
	t.Helper()
	task := conntest.Task(conntest.Config(t, Sink{}.Spec(), map[string]any{"url": "file://" + root, "partition_by": "hr={hour(ts)}", "format": "ndjson"}))
	task.Site = site
	w, err := openDisk(task, tp, d)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func planOf(epoch, from, to int64) connectors.Plan {
	p := plan(from, to)
	p.Epoch = epoch
	return p
}

func fenced(t *testing.T, w *writer, p connectors.Plan) {
	t.Helper()
	_, err := w.Write(t.Context(), p, hours(p.From, p.To))
	if !errors.Is(err, connectors.ErrFenced) || connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("%s: %v, want fenced", p, err)
	}
}

// TestAnotherSiteGoesOn: a site that has nothing of the first one's notes finds
// the plan that was begun and not finished, finishes it as it was, and goes on.
// The first one, wherever it stood still, can add nothing that is not the same.
func TestAnotherSiteGoesOn(t *testing.T) {
	root, whole := t.TempDir(), t.TempDir()
	undisturbed := openSite(t, whole, "east", osDisk{})
	for _, p := range []connectors.Plan{planOf(1, 0, 10), planOf(1, 10, 20), planOf(2, 20, 50), planOf(2, 50, 60), planOf(2, 60, 70)} {
		write(t, undisturbed, p, hours(p.From, p.To))
	}
	links := 0
	east := openSite(t, root, "east", &hookDisk{fail: func(verb, _ string) error {
		if verb == "link" {
			links++
		}
		if verb == "link" && links == 6 { // its note of the plan 10 to 20, one of its files, and here
			return errCut
		}
		return nil
	}})
	write(t, east, planOf(1, 0, 10), hours(0, 10))
	if _, err := east.Write(t.Context(), planOf(1, 10, 20), hours(10, 20)); !errors.Is(err, errCut) {
		t.Fatalf("got %v", err)
	}
	west := openSite(t, root, "west", osDisk{})
	last, known, err := west.Last(t.Context(), tp)
	if err != nil || !known || last.From != 10 || last.To != 20 || last.Epoch != 1 || last.ID != planOf(1, 10, 20).ID {
		t.Fatalf("got %v %v %v", last, known, err)
	}
	write(t, west, planOf(2, 10, 20), hours(10, 20))
	write(t, west, planOf(2, 20, 50), hours(20, 50))

	fenced(t, east, planOf(1, 20, 30)) // where the other has decided otherwise
	write(t, east, planOf(1, 20, 50), hours(20, 50))
	write(t, west, planOf(2, 50, 60), hours(50, 60))
	write(t, west, planOf(2, 60, 70), hours(60, 70))
	fenced(t, east, planOf(1, 10, 30)) // whose note is gone, and later ones are there
	fenced(t, east, planOf(1, 0, 10))
	if got := tree(t, root); !equal(got, tree(t, whole)) {
		t.Errorf("the files are %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(tree(t, whole))))
	}
	notes, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(west.plansOf(tp))))
	if err != nil || len(notes) != 2 {
		t.Errorf("%d notes of plans are kept, %v, want 2", len(notes), err)
	}
}

// TestPlanDoneAgainLeavesNothing: a plan that was done and not noted in the hub
// comes again, and its file is there: nothing without a name may stay.
func TestPlanDoneAgainLeavesNothing(t *testing.T) {
	root := t.TempDir()
	for range 2 {
		write(t, openSite(t, root, "east", osDisk{}), planOf(1, 0, 10), hours(0, 10))
	}
	if left, err := filepath.Glob(root + "/" + tmpFolder + "/*/*"); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestAPlanIsMadeShorter: its own owner may, and nobody else.
func TestAPlanIsMadeShorter(t *testing.T) {
	root := t.TempDir()
	east, west := openSite(t, root, "east", osDisk{}), openSite(t, root, "west", osDisk{})
	if _, err := east.begin(t.Context(), planOf(1, 0, 10)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		w     *writer
		p     connectors.Plan
		class connectors.Class
	}{
		{west, planOf(1, 0, 5), connectors.ClassRetry}, // of two that are equal, west is the one to go on
		{west, planOf(2, 0, 5), connectors.ClassRetry},
		{west, planOf(0, 0, 5), connectors.ClassFatal},
		{east, planOf(2, 0, 5), connectors.ClassRetry},
		{east, planOf(1, 0, 15), connectors.ClassRetry},
		{east, planOf(0, 0, 5), connectors.ClassFatal},
	} {
		_, err := c.w.Write(t.Context(), c.p, hours(c.p.From, c.p.To))
		if connectors.ClassOf(err) != c.class || errors.Is(err, connectors.ErrFenced) != (c.class == connectors.ClassFatal) {
			t.Errorf("%s of %s in epoch %d: %v", c.p, c.w.site, c.p.Epoch, err)
		}
	}
	write(t, east, planOf(1, 0, 5), hours(0, 5))
	write(t, east, planOf(1, 5, 10), hours(5, 10))
}

// TestBrokenNote: a note that says nothing stops the job with its name.
func TestBrokenNote(t *testing.T) {
	root := t.TempDir()
	w := openSite(t, root, "east", osDisk{})
	write(t, w, planOf(1, 0, 10), hours(0, 10))
	name := filepath.Join(root, filepath.FromSlash(w.plansOf(tp)), planFile(0))
	for _, text := range []string{"", "{}", `{"from":1,"to":10}`, `{"from":0,"to":0}`, "half"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.Last(t.Context(), tp); connectors.ClassOf(err) != connectors.ClassFatal {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestSitesTakeTurns has two sites load the same partition, each with only its
// own notes, cut off at any step of the disk, one taking over from the other at
// any time, and each going on with what it had in hand when it comes back.
func TestSitesTakeTurns(t *testing.T) {
	for seed := range uint64(25) {
		takeTurns(t, seed, 60)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// site is one of them. inHand is what it was writing when it was cut off, and
// may still believe that it is to write.
type site struct {
	name   string
	epoch  int64
	next   int64
	inHand *connectors.Plan
	disk   *hookDisk
	w      *writer
}

func takeTurns(t *testing.T, seed uint64, total int64) {
	rng, root := rand.New(rand.NewPCG(seed, 7)), t.TempDir()
	sites := []*site{{name: "east"}, {name: "west"}}
	for _, s := range sites {
		s.disk = &hookDisk{}
		s.begin(t, root)
	}
	for steps := 0; sites[0].next < total || sites[1].next < total; steps++ {
		if steps > 5000 {
			t.Fatal("it does not come to an end")
		}
		s := sites[rng.IntN(2)]
		s.disk.fail = nil
		if left := rng.IntN(60); left < 40 {
			s.disk.fail = func(string, string) error {
				if left--; left < 0 {
					return errCut
				}
				return nil
			}
		}
		p := s.inHand
		if p == nil {
			if s.next >= total {
				continue
			}
			p = new(planOf(s.epoch, s.next, min(total, s.next+1+rng.Int64N(9))))
		}
		s.inHand = p
		switch _, err := s.w.Write(t.Context(), *p, hours(p.From, p.To)); {
		case err == nil:
			s.next, s.inHand = p.To, nil
		case connectors.ClassOf(err) != connectors.ClassUnknown && !errors.Is(err, errCut), rng.IntN(2) == 0: // the job begins anew, or the process
			s.disk.fail = nil
			s.begin(t, root)
		case !errors.Is(err, errCut):
			t.Fatal(err)
		}
	}
	all := tree(t, root)
	var offsets []int64
	for name := range all {
		offsets = append(offsets, offsetsIn(t, name, all[name])...)
	}
	slices.Sort(offsets)
	if int64(len(offsets)) != total || offsets[0] != 0 || offsets[total-1] != total-1 || len(slices.Compact(offsets)) != int(total) {
		t.Errorf("%d rows, want each of %d once: %v", len(offsets), total, offsets)
	}
}

// begin is what the runtime does at the start of a session.
func (s *site) begin(t *testing.T, root string) {
	t.Helper()
	s.w = openSite(t, root, s.name, s.disk)
	s.epoch++
	last, known, err := s.w.Last(t.Context(), tp)
	if err != nil {
		t.Fatal(err)
	}
	if s.epoch = max(s.epoch, last.Epoch); known && s.next < last.To {
		s.next, s.inHand = last.From, new(planOf(s.epoch, last.From, last.To))
	}
}

func offsetsIn(t *testing.T, name string, text []byte) (ids []int64) {
	t.Helper()
	for line := range lines(text) {
		var n int64
		if _, err := fmt.Sscanf(line, `{"n":%d,`, &n); err != nil {
			t.Fatalf("%s: %q: %v", name, line, err)
		}
		ids = append(ids, n)
	}
	return ids
}

func lines(text []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		for len(text) > 0 {
			at := slices.Index(text, '\n')
			if at < 0 || !yield(string(text[:at])) {
				return
			}
			text = text[at+1:]
		}
	}
}
