package files

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// cutStore is a store in a process that ends at a step: before it, or after it
// and before its answer. From then on nothing happens any more.
type cutStore struct {
	store
	left   int  // steps until the end; negative: none
	after  bool // the last step is done
	before func(what string)
}

func (c *cutStore) step(what string, do func() error) error {
	if c.before != nil {
		c.before(what)
	}
	if c.left == 0 {
		return errCut
	}
	if c.left--; c.left == 0 {
		if c.after {
			_ = do()
		}
		return errCut
	}
	return do()
}

func (c *cutStore) Create(ctx context.Context, tmp, target string) (p pending, err error) {
	err = c.step("create", func() error { p, err = c.store.Create(ctx, tmp, target); return err })
	return &cutPending{p, c}, err
}

func (c *cutStore) PutNew(ctx context.Context, tmp, name string, text []byte) error {
	return c.step("put new "+path.Base(name), func() error { return c.store.PutNew(ctx, tmp, name, text) })
}

func (c *cutStore) Put(ctx context.Context, tmp, name string, text []byte) error {
	return c.step("put", func() error { return c.store.Put(ctx, tmp, name, text) })
}

func (c *cutStore) Remove(ctx context.Context, name string) error {
	return c.step("remove", func() error { return c.store.Remove(ctx, name) })
}

func (c *cutStore) List(ctx context.Context, folder string) (names []string, err error) {
	err = c.step("list", func() error { names, err = c.store.List(ctx, folder); return err })
	return names, err
}

// fault keeps the error as it is.
func (c *cutStore) fault(what, name string, err error) error { return c.store.fault(what, name, err) }

type cutPending struct {
	pending
	store *cutStore
}

func (p *cutPending) Write(b []byte) (n int, err error) {
	err = p.store.step("write", func() error { n, err = p.pending.Write(b); return err })
	return n, err
}

func (p *cutPending) Complete(ctx context.Context) error {
	return p.store.step("complete", func() error { return p.pending.Complete(ctx) })
}

func (p *cutPending) Publish(ctx context.Context) error {
	return p.store.step("publish", func() error { return p.pending.Publish(ctx) })
}

func (p *cutPending) Discard(ctx context.Context) error {
	if p.pending == nil || p.store.left == 0 {
		return errCut
	}
	return p.pending.Discard(ctx)
}

// folders lists what the truth has.
func (l *lakeside) folders() (all []string) {
	for folder := range l.truth() {
		all = append(all, folder)
	}
	slices.Sort(all)
	return all
}

// honest holds every manifest that a reader finds now to its files: all are
// there, with the bytes and the rows that it says, and no row is in two.
func (l *lakeside) honest() error {
	st, ctx := l.store(), l.t.Context()
	for _, folder := range l.folders() {
		text, err := st.Read(ctx, path.Join(folder, manifestName))
		if err != nil {
			continue
		}
		var m manifest
		if err := json.Unmarshal(text, &m); err != nil {
			return err
		}
		if err := m.check(); err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
		ids, err := l.ids(folder, func(name string) bool {
			return slices.ContainsFunc(m.Files, func(f listed) bool { return f.Name == name })
		}, m.Files)
		if err != nil {
			return fmt.Errorf("%s, version %d: %w", folder, m.Version, err)
		}
		if n := len(ids); int64(n) != m.Totals.Rows {
			return fmt.Errorf("%s, version %d has %d rows, its files %d", folder, m.Version, m.Totals.Rows, n)
		}
	}
	return nil
}

// ids reads the rows of a folder's files, each of which may be there once.
func (l *lakeside) ids(folder string, wanted func(string) bool, says []listed) (map[string]bool, error) {
	st, ctx := l.store(), l.t.Context()
	names, err := st.List(ctx, folder)
	if err != nil {
		return nil, err
	}
	all, seen := map[string]bool{}, 0
	for _, name := range names {
		if _, ok := parseName(name); !ok || !wanted(name) {
			continue
		}
		seen++
		text, err := st.Read(ctx, path.Join(folder, name))
		if err != nil {
			return nil, err
		}
		for _, f := range says {
			if sum := fmt.Sprintf("%x", sha256.Sum256(text)); f.Name == name && f.SHA256 != sum {
				return nil, fmt.Errorf("%s has the sum %s, not %s", name, sum, f.SHA256)
			}
		}
		for line := range bytes.Lines(text) {
			var row struct{ ID, Hr string }
			if err := json.Unmarshal(line, &row); err != nil {
				return nil, err
			}
			if !strings.HasSuffix(folder, "hr="+row.Hr) {
				return nil, fmt.Errorf("%s has row %s of hour %s", name, row.ID, row.Hr)
			}
			if all[row.ID] {
				return nil, fmt.Errorf("%s: row %s is there twice", name, row.ID)
			}
			all[row.ID] = true
		}
	}
	if says != nil && seen != len(says) {
		return nil, fmt.Errorf("%d of %d files are there", seen, len(says))
	}
	return all, nil
}

// closed holds every folder to the truth: the manifest's counts are the
// topic's, and the folder has the manifest's files and no others.
func (l *lakeside) closed(most int) error {
	if err := l.honest(); err != nil {
		return err
	}
	for folder, want := range l.truth() {
		m := l.manifest(folder)
		if m.Totals.counts != want {
			return fmt.Errorf("%s, version %d: %+v, the topic has %+v", folder, m.Version, m.Totals.counts, want)
		}
		ids, err := l.ids(folder, func(string) bool { return true }, nil)
		if err != nil || int64(len(ids)) != want.Rows {
			return fmt.Errorf("%s has %d rows, the topic %d: %w", folder, len(ids), want.Rows, err)
		}
		if there, err := l.store().Exists(l.t.Context(), path.Join(folder, successName)); err != nil || !there {
			return fmt.Errorf("%s has no %s: %w", folder, successName, err)
		}
		if most > 0 && len(m.Files) > most {
			return fmt.Errorf("%s has %d files, want %d at most", folder, len(m.Files), most)
		}
	}
	return nil
}

// all makes one keeper after the other work, with time passing, until a whole
// day has nothing left to do.
func (l *lakeside) settleAll(k *keeper) error {
	for range 8 {
		l.now = l.now.Add(time.Hour)
		k.next = time.Time{}
		if err := k.Keep(l.t.Context(), l.standings()); err != nil {
			return err
		}
	}
	return nil
}

var compacting = map[string]any{"compact": map[string]any{"target": 1 << 20, "after": 30 * time.Minute}}

// TestClosingIsCutAtEveryStep ends the process at each step of loading,
// closing, issuing again with late rows, and merging; before the step, or after
// it without its answer. What a reader finds then is whole, and the next
// process comes to the same end.
func TestClosingIsCutAtEveryStep(t *testing.T) {
	for _, after := range []bool{false, true} {
		steps := 0
		for ; ; steps++ {
			l := newLakeside(t, "/lake", compacting)
			l.inMemory()
			cut := &cutStore{store: l.store(), left: steps + 1, after: after}
			run := func(st store) (err error) {
				k := l.keeper(st)
				try := func(e error) {
					if err == nil {
						err = e
					}
				}
				for hour := range 3 {
					for p := range int32(2) {
						for range 2 {
							if len(l.topic[p]) < 6+6*hour {
								for minute := range 3 {
									l.add(p, day.Add(time.Duration(hour*60+minute*17)*time.Minute), connectors.Kept)
								}
								if hour == 2 {
									l.add(p, day.Add(time.Minute), connectors.Kept) // late
								}
							}
							try(l.load(st, p))
						}
					}
					if err != nil {
						return err
					}
					l.now = max2(l.now, day.Add(time.Duration(hour+1)*time.Hour+10*time.Minute))
					k.next = time.Time{}
					try(k.Keep(t.Context(), l.standings()))
				}
				if err == nil {
					err = l.settleAll(k)
				}
				return err
			}
			err := run(cut)
			if err != nil && !errors.Is(err, errCut) {
				t.Fatalf("step %d: %v", steps, err)
			}
			if honest := l.honest(); honest != nil {
				t.Fatalf("step %d, after %t: what is there is not whole: %v", steps, after, honest)
			}
			if again := run(l.store()); again != nil {
				t.Fatalf("step %d, after %t: the next process: %v", steps, after, again)
			}
			if wrong := l.closed(2); wrong != nil {
				t.Fatalf("step %d, after %t: %v", steps, after, wrong)
			}
			if err == nil {
				break
			}
		}
		if steps < 100 {
			t.Errorf("only %d steps were seen", steps)
		}
		t.Logf("%d steps", steps)
	}
}

func max2(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// TestClosingAtRandom loads and closes with several processes at once that end
// or stand still at any step, plans that are executed again, and rows that are
// late, early, filtered and dead. At no time does a reader find a manifest
// that is wrong, and at the end each hour's counts are the topic's.
func TestClosingAtRandom(t *testing.T) {
	for seed := range uint64(seeds()) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 4))
			l := newLakeside(t, "/lake", map[string]any{"compact": map[string]any{"target": 1024 + rng.IntN(4096), "after": 20 * time.Minute}})
			l.inMemory()
			const partitions = 3
			for p := range int32(partitions) {
				l.topic[p] = nil
			}
			k := l.keeper(l.store())
			// disturbed is a store whose process stands still at some steps, while
			// another keeper works, and ends at one.
			var disturbed func(depth int) *cutStore
			disturbed = func(depth int) *cutStore {
				c := &cutStore{store: l.store(), left: 1 + rng.IntN(60), after: rng.IntN(2) == 0}
				if depth < 2 {
					c.before = func(string) {
						if rng.IntN(25) == 0 {
							_ = l.keeper(disturbed(depth+1)).Keep(t.Context(), l.standings())
						}
					}
				}
				return c
			}
			for minute := 0; minute < 8*60; minute += 1 + rng.IntN(9) {
				l.now = max2(l.now, day.Add(time.Duration(minute)*time.Minute))
				for range rng.IntN(6) {
					at := time.Duration(minute)*time.Minute - time.Duration(rng.IntN(300))*time.Second
					if rng.IntN(20) == 0 {
						at = time.Duration(rng.IntN(minute+200)) * time.Minute // late, or from the future
					}
					l.add(int32(rng.IntN(partitions)), day.Add(max(at, 0)), connectors.Fate(max(0, rng.IntN(12)-9)))
				}
				p := int32(rng.IntN(partitions))
				switch rng.IntN(10) {
				case 0, 1:
					was := l.loaded[p]
					if err := l.load(disturbed(0), p); err == nil && rng.IntN(3) == 0 {
						l.loaded[p] = was // the answer is lost
					} else if err != nil && !errors.Is(err, errCut) {
						t.Fatal(err)
					}
				case 2, 3, 4:
					if err := l.load(l.store(), p); err != nil {
						t.Fatal(err)
					}
				case 5:
					if err := l.keeper(disturbed(0)).Keep(t.Context(), l.standings()); err != nil && !errors.Is(err, errCut) && connectors.ClassOf(err) == connectors.ClassFatal {
						t.Fatal(err)
					}
				case 6:
					k = l.keeper(l.store())
				default:
					if err := k.Keep(t.Context(), l.standings()); err != nil {
						t.Fatal(err)
					}
				}
				if err := l.honest(); err != nil {
					t.Fatalf("minute %d: %v", minute, err)
				}
			}
			for p := range int32(partitions) {
				for range 2 { // a plan that was left, and what came after it
					if err := l.load(l.store(), p); err != nil {
						t.Fatal(err)
					}
				}
			}
			for range 3 {
				if err := l.settleAll(k); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.closed(0); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// seeds is how many random runs there are.
func seeds() int { return conntest.Size(40, 1000) }
