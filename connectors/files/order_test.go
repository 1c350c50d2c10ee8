package files

import (
	"context"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// stepsOf are the changes that a keeper makes, in their order.
func (l *lakeside) stepsOf(t *testing.T) string {
	var steps []string
	c := &cutStore{store: l.store(), left: -1, before: func(what string) {
		if what != "list" && what != "write" {
			steps = append(steps, what)
		}
	}}
	if err := l.keeper(c).Keep(t.Context(), l.standings()); err != nil {
		t.Fatal(err)
	}
	return strings.Join(steps, "\n")
}

// hourOf loads two plans of one hour, and ends the hour.
func hourOf(t *testing.T, more map[string]any) *lakeside {
	l := newLakeside(t, "/lake", more)
	l.inMemory()
	for _, minute := range []int{5, 50, 70} {
		l.add(0, day.Add(time.Duration(minute)*time.Minute), connectors.Kept)
		if err := l.load(l.store(), 0); err != nil {
			t.Fatal(err)
		}
		l.now = day.Add(time.Duration(minute) * time.Minute)
		if minute == 70 { // what comes late counts as now
			l.add(0, l.now, connectors.Kept)
			if err := l.load(l.store(), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	return l
}

// TestOrderOfClosing holds the order that the guarantee rests on: a version is
// there before its copy, and the copy before the mark of success; merged files
// are complete before the version that has them, published after it, and their
// parts go last.
func TestOrderOfClosing(t *testing.T) {
	l := hourOf(t, compacting)
	want := `put new _MANIFEST.000001.json
put
put new _SUCCESS
remove`
	if got := l.stepsOf(t); !strings.HasPrefix(got, want[:strings.LastIndex(want, "\n")]) {
		t.Errorf("an hour is closed by\n%s", got)
	}
	l.now = l.now.Add(31 * time.Minute)
	want = `put new _SUCCESS
create
complete
put new _MANIFEST.000002.json
publish
put
put new _SUCCESS
remove
remove`
	if got := l.stepsOf(t); !strings.HasPrefix(got, want) {
		t.Errorf("files are merged by\n%s\nwant\n%s", got, want)
	}
}

// TestKeeperThatComesSecond: while one keeper is about to put a version with
// late rows, another one that has not heard of them puts one with merged files
// under the same number, and removes the parts. The first takes that one, and
// makes the next.
func TestKeeperThatComesSecond(t *testing.T) {
	l := hourOf(t, compacting)
	rival := l.keeper(l.store())
	if err := rival.Keep(t.Context(), l.standings()); err != nil {
		t.Fatal(err)
	}
	l.now = l.now.Add(31 * time.Minute)
	l.add(0, day.Add(time.Minute), connectors.Kept)
	if err := l.load(l.store(), 0); err != nil {
		t.Fatal(err)
	}
	const folder = "dt=2015-05-17/hr=00"
	met := false
	first := &cutStore{store: l.store(), left: -1}
	first.before = func(what string) {
		if what != "put new _MANIFEST.000002.json" || met {
			return
		}
		met = true
		rival.shelves[folder].settled = false
		if err := rival.visit(t.Context(), folder, view{now: l.now, mark: instantOf(l.now), topic: "clicks"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.keeper(first).Keep(t.Context(), l.standings()); err != nil {
		t.Fatal(err)
	}
	if err := l.honest(); err != nil || !met {
		t.Error(met, err)
	}
	l.now = l.now.Add(11 * time.Minute)
	if err := l.keeper(l.store()).Keep(t.Context(), l.standings()); err != nil {
		t.Fatal(err)
	}
	if m := l.manifest(folder); m.Version != 3 || m.Totals.Rows != 3 || m.Totals.Late != 1 {
		t.Errorf("version %d, %+v", m.Version, m.Totals)
	}
	if err := l.honest(); err != nil {
		t.Error(err)
	}
}

// TestOwnerThatComesAfterTheMerge: an owner that stood still before it wrote a
// plan does so when another has done it and its file was merged away. It adds
// nothing: a part that came back now would stay, as the folder is settled.
func TestOwnerThatComesAfterTheMerge(t *testing.T) {
	l := newLakeside(t, "/lake", compacting)
	l.inMemory()
	former, err := l.writer(l.store(), 0)
	if err != nil {
		t.Fatal(err)
	}
	put := func(w connectors.Writer, from, to int64) {
		t.Helper()
		p, b := l.batch(0, from, to)
		if bad, err := w.Write(t.Context(), p, b); err != nil || len(bad) > 0 {
			t.Fatal(bad, err)
		}
	}
	for _, minute := range []int{5, 50} {
		l.add(0, day.Add(time.Duration(minute)*time.Minute), connectors.Kept)
	}
	put(former, 0, 1) // so it knows where the ledger ends
	next, err := l.writer(l.store(), 0)
	if err != nil {
		t.Fatal(err)
	}
	put(next, 1, 2)
	l.loaded[0] = 2
	k := l.keeper(l.store())
	if err := l.settleAll(k); err != nil {
		t.Fatal(err)
	}
	put(former, 1, 2)
	if err := l.closed(1); err != nil {
		t.Error(err)
	}
	names, err := l.store().List(t.Context(), "dt=2015-05-17/hr=00")
	if want := []string{"_MANIFEST.000001.json", "_MANIFEST.000002.json", manifestName, successName, "clicks+0+0+2.ndjson"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("the folder has %q, %v, want %q", names, err, want)
	}
}

// torn is a store whose first listing of the ledger was read while entries were
// put: it has a later one and not the one before.
type torn struct {
	store
	without string
}

func (s *torn) List(ctx context.Context, folder string) ([]string, error) {
	names, err := s.store.List(ctx, folder)
	if path.Dir(folder) == ledgerFolder && s.without != "" {
		names = slices.DeleteFunc(names, func(name string) bool { return name == s.without })
		s.without = ""
	}
	return names, err
}

// TestTornListing: an hour is not closed without the records of a plan that a
// listing has missed. They were filtered, so no file tells of them.
func TestTornListing(t *testing.T) {
	l := newLakeside(t, "/lake", nil)
	l.inMemory()
	for i, fate := range []connectors.Fate{connectors.Filtered, connectors.Kept, connectors.Kept} {
		l.now = day.Add(time.Duration(10+i*40) * time.Minute)
		l.add(0, l.now, fate)
		if err := l.load(l.store(), 0); err != nil {
			t.Fatal(err)
		}
	}
	k := l.keeper(&torn{l.store(), "clicks+0+0+1.json"})
	if err := l.settleAll(k); err != nil {
		t.Fatal(err)
	}
	if err := l.closed(0); err != nil {
		t.Error(err)
	}
}
