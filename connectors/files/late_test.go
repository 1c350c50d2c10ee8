package files

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

// TestLateRowsOverADay: 24 hours of four partitions, with one row in twenty
// late, by up to a day. Each plan has files for many hours, and at the end there
// are at most 1.2 times as many files as there would be at best; DuckDB finds
// in each hour as many rows as its manifest has, and as the topic has.
func TestLateRowsOverADay(t *testing.T) {
	for _, c := range []struct {
		format string
		target int64
	}{{"parquet", 1 << 20}, {"csv", 1 << 10}} {
		t.Run(fmt.Sprintf("%s, %d", c.format, c.target), func(t *testing.T) {
			l := newLakeside(t, "/lake", map[string]any{
				"format": c.format, "columns": []map[string]any{{"name": "id", "type": "string"}, {"name": "hr", "type": "string"}},
				"metadata_columns": []string{"partition", "offset"},
				"compact":          map[string]any{"target": c.target, "after": 30 * time.Minute},
			})
			disk := l.inMemory()
			written := l.lateDay(rand.New(rand.NewPCG(14, 5)))
			files, best := l.files(c.target)
			t.Logf("%d files were written, %d are there, %d would be the best: %.2f times", written, files, best, float64(files)/float64(best))
			if float64(files) > 1.2*float64(best) {
				t.Errorf("%d files, want 1.2 times %d at most", files, best)
			}
			root := t.TempDir()
			disk.dump(t, root)
			l.counted(root, c.format)
		})
	}
}

// lateDay produces, loads and closes a day, and gives the number of data files
// that were written.
func (l *lakeside) lateDay(rng *rand.Rand) (written int) {
	k := l.keeper(l.store())
	const partitions, every = 4, 15
	for minute := 0; minute < 24*60; minute += every {
		for p := range int32(partitions) {
			for range 60 {
				at := minute + rng.IntN(every)
				if rng.IntN(20) == 0 {
					at = rng.IntN(at + 1)
				}
				l.add(p, day.Add(time.Duration(at)*time.Minute), connectors.Kept)
			}
			from := l.loaded[p]
			if err := l.load(l.store(), p); err != nil {
				l.t.Fatal(err)
			}
			hours := map[int64]bool{}
			for _, m := range l.topic[p][from:] {
				hours[m.Timestamp/3_600_000] = true
			}
			written += len(hours)
		}
		l.now = day.Add(time.Duration(minute+every) * time.Minute)
		if err := k.Keep(l.t.Context(), l.standings()); err != nil {
			l.t.Fatal(err)
		}
	}
	for range 2 {
		if err := l.settleAll(k); err != nil {
			l.t.Fatal(err)
		}
	}
	return written
}

// files counts the data files, and those that there would be at best: for each
// hour and partition as many as its bytes need.
func (l *lakeside) files(target int64) (files, best int) {
	for folder := range l.truth() {
		m := l.manifest(folder)
		bytes := map[int32]int64{}
		for _, f := range m.Files {
			bytes[f.Partition] += f.Bytes
		}
		for _, n := range bytes {
			best += int((n + target - 1) / target)
		}
		names, err := l.store().List(l.t.Context(), folder)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, name := range names {
			if _, ok := parseName(name); ok {
				files++
			}
		}
	}
	return files, best
}

// counted lets DuckDB count the rows of each hour, all and distinct, and
// compares with the manifests, which it reads too, and with the topic.
func (l *lakeside) counted(root, kind string) {
	l.t.Helper()
	var want []string
	for folder, c := range l.truth() {
		_, hour, _ := strings.Cut(folder, "hr=")
		want = append(want, fmt.Sprintf("%s|%d|%d|%d", hour, c.Rows, c.Rows, c.Rows))
	}
	slices.Sort(want)
	read := map[string]string{"parquet": "read_parquet('%s/dt=*/hr=*/*.parquet', filename=true)", "csv": "read_csv('%s/dt=*/hr=*/*.csv', filename=true, all_varchar=true)"}[kind]
	if read == "" {
		return
	}
	got := conntest.DuckDB(l.t.(*testing.T), fmt.Sprintf(`WITH
		data AS (SELECT regexp_extract(filename, 'hr=(..)', 1) AS hour, count(*) AS n, count(DISTINCT id) AS ids, bool_and(hr = regexp_extract(filename, 'hr=(..)', 1)) AS fits FROM `+read+` GROUP BY 1),
		said AS (SELECT right(folder, 2) AS hour, totals.rows AS n FROM read_json('%s/dt=*/hr=*/_MANIFEST.json'))
		SELECT hour, data.n, ids, said.n FROM data JOIN said USING (hour) WHERE fits ORDER BY hour`, root, root))
	if got != strings.Join(want, "\n") {
		l.t.Errorf("DuckDB counts\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// dump writes what is in memory to a real disk.
func (d *memDisk) dump(t testing.TB, root string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		to := filepath.Join(root, strings.TrimPrefix(name, "/lake"))
		var err error
		if f := d.files[name]; f.folder {
			err = os.MkdirAll(to, 0o755)
		} else {
			err = os.WriteFile(to, f.Bytes(), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestClosingInEveryStore closes, issues again and merges where files really
// are, in each format.
func TestClosingInEveryStore(t *testing.T) {
	places(t, func(t *testing.T, s store) {
		l := newLakeside(t, "/lake", compacting)
		s = keptOpen{s}
		l.store = func() store { return s }
		for minute := range 70 {
			for p := range int32(2) {
				l.add(p, day.Add(time.Duration(minute)*time.Minute), connectors.Fate(minute%17/15))
				if minute%20 == 19 {
					if err := l.load(s, p); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		k := l.keeper(s)
		for range 2 {
			l.add(0, day, connectors.Kept)
			for p := range int32(2) {
				if err := l.load(s, p); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.settleAll(k); err != nil {
				t.Fatal(err)
			}
			if err := l.closed(2); err != nil {
				t.Fatal(err)
			}
		}
		if m := l.manifest("dt=2015-05-17/hr=00"); m.Version < 4 || m.Totals.Late != 1 {
			t.Errorf("version %d has %d late rows, want 4 at least and 1", m.Version, m.Totals.Late)
		}
	})
}

// keptOpen is a store that its users do not close.
type keptOpen struct{ store }

func (keptOpen) Close(string) error { return nil }

// TestTwoSitesCountTheSame: two sites load the same topic, with other plans,
// each into a lake of its own. The manifests have the same counts, partition
// by partition, and so have those of one lake that a second site goes on with
// where the first has left it.
func TestTwoSitesCountTheSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(20, 1))
	var sites []*lakeside
	for range 3 {
		l := newLakeside(t, "/lake", compacting)
		l.inMemory()
		sites = append(sites, l)
	}
	for minute := range 5 * 60 {
		for p := range int32(3) {
			at, fate := day.Add(time.Duration(max(0, minute-rng.IntN(20)))*time.Minute), connectors.Fate(max(0, rng.IntN(30)-27))
			for i, l := range sites {
				l.add(p, at, fate)
				if minute%(7+5*i) == 0 {
					if i == 2 && minute > 150 { // another site: it knows no plan, only the lake
						w, err := l.writer(l.store(), p)
						if err != nil {
							t.Fatal(err)
						}
						last, known, err := w.(connectors.Remembering).Last(t.Context(), l.tp(p))
						if err != nil || !known {
							t.Fatal(known, err)
						}
						l.loaded[p], l.plans[p] = last.From, last.To // the plan that was begun comes first
						if err := l.load(l.store(), p); err != nil {
							t.Fatal(err)
						}
					}
					if err := l.load(l.store(), p); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	for _, l := range sites {
		for p := range int32(3) {
			if err := l.load(l.store(), p); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.settleAll(l.keeper(l.store())); err != nil {
			t.Fatal(err)
		}
		if err := l.closed(3); err != nil {
			t.Fatal(err)
		}
		for folder := range l.truth() {
			for i, p := range l.manifest(folder).Partitions {
				if want := sites[0].manifest(folder).Partitions[i]; p.counts != want.counts || p.First != want.First || p.Last != want.Last {
					t.Errorf("%s: %+v at one site, %+v at another", folder, p, want)
				}
			}
		}
	}
}
