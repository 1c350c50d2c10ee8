package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// changedNote is the note of a split that stands for a file which is not what
// it was when it was listed first.
const changedNote = "changed"

// Splits implements connectors.Source: one split for each file, named by its
// path below the URL's folder.
func (Source) Splits(ctx context.Context, cfg connectors.Config) (<-chan []connectors.Split, error) {
	s, err := sourceSettingsOf(cfg)
	if err != nil {
		return nil, connectors.Fatal(err)
	}
	l, err := openLibrary(ctx, s)
	if err != nil {
		return nil, err
	}
	w := newWatch(s, l)
	if _, err := w.look(ctx); err != nil && (!s.follow || !errors.Is(err, os.ErrNotExist)) {
		_ = l.Close(tmpFolder)
		return nil, err
	}
	out := make(chan []connectors.Split, 1)
	out <- w.splits
	if !s.follow {
		close(out)
		return out, l.Close(tmpFolder)
	}
	go w.run(ctx, out)
	return out, nil
}

// watch looks for new files. What was listed once stays in the list: a file
// that goes while it is read is an error of its reader, not the end of its split.
type watch struct {
	sourceSettings
	library library
	mergers mergers
	known   map[string]shelved
	ranges  map[string][]piece // of the known files that the sink has named, by folder
	splits  []connectors.Split
}

// piece is a known file's range of offsets, and the number of files that it was
// made of, 1 for itself.
type piece struct {
	offsets
	files int
}

func newWatch(s sourceSettings, l library) *watch {
	return &watch{sourceSettings: s, library: l, mergers: mergers{}, known: map[string]shelved{}, ranges: map[string][]piece{}}
}

// look lists the folder and reports whether the splits are others than before.
func (w *watch) look(ctx context.Context) (bool, error) {
	found, err := w.list(ctx, w.library, time.Now(), w.mergers)
	if err != nil {
		return false, err
	}
	before := len(w.splits)
	for _, e := range found { // what was merged before its parts
		if e.merged > 0 {
			if err := w.mergedFile(e); err != nil {
				return false, err
			}
		}
	}
	for _, e := range found {
		was, known := w.known[e.name]
		switch {
		case known && was.print() != e.print():
			w.known[e.name] = e
			w.splits = append(w.splits, connectors.Split{ID: fmt.Sprintf("%s (%s %x)", e.name, changedNote, e.print()), Config: map[string]string{changedNote: w.changed(e.name, was, e)}})
		case !known && !e.part:
			w.add(e)
		}
	}
	w.splits = w.splits[:len(w.splits):len(w.splits)] // who has a list keeps it
	return len(w.splits) != before, nil
}

func (w *watch) add(e shelved) {
	w.know(e)
	w.splits = append(w.splits, connectors.Split{ID: e.name, Weight: int(min(e.size>>20+1, 1<<20))})
}

func (w *watch) know(e shelved) {
	w.known[e.name] = e
	if o, ok := parseName(path.Base(e.name)); ok {
		folder := path.Dir(e.name)
		w.ranges[folder] = append(w.ranges[folder], piece{o, max(1, e.merged)})
	}
}

// mergedFile takes up a file that was made of others. Its rows are known when
// all of the others were: some may have come and gone between two looks. Nobody
// knows of a file that was merged before the job began.
func (w *watch) mergedFile(e shelved) error {
	if _, known := w.known[e.name]; known {
		return nil
	}
	switch known := w.partsOf(e); {
	case known == e.merged: // and it is no split
		w.know(e)
	case known > 0:
		return connectors.Fatalf("%s was merged from %d files, says the manifest of its folder, and this job has listed %d of them before they went: "+
			"rows of the others are in the merged file alone. Look for new files more often than files are merged", w.whole(e.name), e.merged, known)
	case !w.sourceSettings.merged:
		return connectors.Fatalf("%s was merged from smaller files, says the manifest of its folder, and whether this job has read those is not known: "+
			"write merged: read to read it as it is, or leave it out with glob", w.whole(e.name))
	default:
		w.add(e)
	}
	return nil
}

// partsOf counts the files that a merged one was made of and that are known, by
// themselves or in one that was merged of them before.
func (w *watch) partsOf(e shelved) (known int) {
	whole, _ := parseName(path.Base(e.name))
	var parts []piece
	for _, p := range w.ranges[path.Dir(e.name)] {
		if p.within(whole) && p.ext == whole.ext {
			parts = append(parts, p)
		}
	}
	for _, p := range parts {
		if !slices.ContainsFunc(parts, func(larger piece) bool { return p.within(larger.offsets) }) {
			known += p.files
		}
	}
	return known
}

// changed says of a file what it was and what to do.
func (s sourceSettings) changed(name string, was, now shelved) string {
	return fmt.Sprintf("%s was %s when it was listed and is %s now: a file must not change once it is there. Write it under a name that begins with _ or . and rename it, or set min_age; "+
		"to read what is there now, give it another name", s.whole(name), was, now)
}

func (w *watch) run(ctx context.Context, out chan<- []connectors.Split) {
	defer close(out)
	defer func() { _ = w.library.Close(tmpFolder) }()
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		news, err := w.look(ctx)
		if connectors.ClassOf(err) == connectors.ClassFatal { // a reader tells it
			news = true
			w.splits = append(w.splits[:len(w.splits):len(w.splits)], connectors.Split{ID: "(listing)", Config: map[string]string{changedNote: err.Error()}})
		}
		if !news {
			continue // a folder that cannot be listed now; the next look tells
		}
		select {
		case out <- w.splits:
		case <-ctx.Done():
			return
		}
	}
}
