package files

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/record"
)

// book is the ledger as far as it is known: a pure value. Entries of a
// partition do not overlap; Write sees to that.
type book struct {
	names   map[string]entry
	last    map[record.TopicPartition]entry
	folders map[string]map[string]tally // by folder and name of entry
	came    map[string]int              // to a folder, counting those that are dropped
}

func newBook() *book {
	return &book{names: map[string]entry{}, last: map[record.TopicPartition]entry{}, folders: map[string]map[string]tally{}, came: map[string]int{}}
}

func (b *book) add(e entry) {
	name := e.name()
	b.names[name] = e
	if l, ok := b.last[e.tp()]; !ok || e.To > l.To {
		b.last[e.tp()] = e
	}
	for _, t := range e.Folders {
		if b.folders[t.Folder] == nil {
			b.folders[t.Folder] = map[string]tally{}
		}
		b.folders[t.Folder][name] = t
		b.came[t.Folder]++
	}
}

// drop forgets an entry that is in manifests alone now.
func (b *book) drop(name string) {
	e := b.names[name]
	delete(b.names, name)
	for _, t := range e.Folders {
		if delete(b.folders[t.Folder], name); len(b.folders[t.Folder]) == 0 {
			delete(b.folders, t.Folder)
		}
	}
}

// addition is one entry's part in a folder.
type addition struct {
	offsets
	tally
}

// since lists, by partition and offset, what has come to a folder beyond what
// a manifest accounts for. nil is no manifest.
func (b *book) since(folder string, m *manifest) (all []addition) {
	for name, t := range b.folders[folder] {
		e := b.names[name]
		if e.From >= m.accounted(e.tp()) {
			all = append(all, addition{offsets{e.tp(), e.From, e.To, ""}, t})
		}
	}
	slices.SortFunc(all, func(a, c addition) int { return a.offsets.compare(c.offsets) })
	return all
}

func (o offsets) compare(p offsets) int {
	return cmp.Or(cmp.Compare(o.Topic, p.Topic), cmp.Compare(o.Partition, p.Partition), cmp.Compare(o.from, p.from), cmp.Compare(o.to, p.to))
}

// upTo is, for each partition, the offset below which all is in the ledger.
func (b *book) upTo() map[record.TopicPartition]int64 {
	all := map[record.TopicPartition]int64{}
	for tp, e := range b.last {
		all[tp] = e.To
	}
	return all
}

// closable lists the folders, oldest first, whose period has ended by the
// watermark.
func (b *book) closable(watermark instant) (names []string) {
	ends := map[string]instant{}
	for folder, tallies := range b.folders {
		for _, t := range tallies {
			if t.End != noTime && t.End <= watermark {
				ends[folder] = t.End
			}
			break
		}
	}
	return slices.SortedFunc(maps.Keys(ends), func(a, c string) int {
		return cmp.Or(cmp.Compare(ends[a], ends[c]), cmp.Compare(a, c))
	})
}

// done lists the entries that nobody needs any more: they are in the settled
// manifest of each of their folders, and a later one of their partition is
// there, so that their plans are not executed again. Folders without a time
// have no manifest.
func (b *book) done(settled func(folder string) *manifest) (names []string) {
	for name, e := range b.names {
		if b.last[e.tp()].name() == name {
			continue
		}
		if !slices.ContainsFunc(e.Folders, func(t tally) bool {
			return t.End != noTime && settled(t.Folder).accounted(e.tp()) < e.To
		}) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// tide finds the watermark: the event time up to which all has come, as far as
// anybody can know. It is a pure value.
type tide struct {
	idle   time.Duration
	rested map[int32]rest
}

// rest says since when nothing has come to a partition that was loaded whole.
type rest struct {
	loaded int64
	since  time.Time
}

// see takes up where the partitions stand.
func (t *tide) see(now time.Time, at []connectors.Standing) {
	if t.rested == nil {
		t.rested = map[int32]rest{}
	}
	for _, s := range at {
		r, ok := t.rested[s.Partition.Partition]
		switch {
		case s.Loaded < s.End: // there is something to load
			delete(t.rested, s.Partition.Partition)
		case !ok || r.loaded != s.Loaded:
			t.rested[s.Partition.Partition] = rest{s.Loaded, now}
		}
	}
}

// watermark is the least of the partitions' event times. A partition is idle
// when all of it was loaded and nothing came for a while: then its time is the
// wall's, since what comes next is not expected to be older than that.
func (t *tide) watermark(now time.Time, at []connectors.Standing, last map[record.TopicPartition]entry) instant {
	mark := instantOf(now)
	for _, s := range at {
		e, ok := last[s.Partition]
		if !ok {
			e.High = noTime
		}
		if r, ok := t.rested[s.Partition.Partition]; ok && now.Sub(r.since) >= t.idle {
			e.High = max(e.High, instantOf(now))
		}
		mark = min(mark, e.High)
	}
	return mark
}
