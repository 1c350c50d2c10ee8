package replica

import (
	"cmp"
	"maps"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
)

// Markers that were lost with a part of the log. Without an abort marker a reader
// would be given what was aborted, or, told of it, skip what the producer
// committed since.

// hole is a gap in which markers may be lost.
type hole struct {
	storage.Gap
	term  uint64 // before it
	epoch int32
	// open are the transactions that were open where it begins, by producer.
	open map[int64]*openOver
	lost []lostMarker
}

// openOver is a transaction that was open where a hole begins.
type openOver struct {
	first  int64
	epoch  int16
	coord  int32
	ended  bool // a marker of the producer came since
	commit bool
	at     int64 // of that marker
	begun  bool  // it has begun another one since
	same   bool  // it cannot have begun another one before that marker
	goesOn bool  // it wrote more with the same epoch
}

// lostMarker is one that was in a hole.
type lostMarker struct {
	MendedTxn
	epoch int16
	coord int32
}

func (m *mender) newHole(g storage.Gap) *hole {
	h := &hole{Gap: g, term: m.tail.term, epoch: max(m.epoch, 0), open: map[int64]*openOver{}}
	for id, p := range m.tail.producers.byID {
		if p.open >= 0 {
			h.open[id] = &openOver{first: p.open, epoch: p.epoch, coord: p.coordinator}
		}
	}
	if b := g.Head; b != nil {
		if o := h.open[b.ProducerID()]; o != nil && b.IsControl() {
			// Which of the two it was is in what is damaged.
			m.ends(b, false)
			h.lose(MendedTxn{Producer: b.ProducerID(), First: o.first, Marker: b.BaseOffset(), Guessed: true}, b.ProducerEpoch(), o.coord)
			m.tail.producers.byID[b.ProducerID()].open = -1
		}
		h.open = nil // nothing else is lost
	}
	return h
}

func (h *hole) lose(t MendedTxn, epoch int16, coord int32) {
	for i := range h.lost {
		if o := &h.lost[i]; o.Producer == t.Producer && (o.Marker == t.Marker || t.Marker < 0) {
			o.Commit, o.Guessed = t.Commit, t.Guessed
			return
		}
	}
	h.lost = append(h.lost, lostMarker{t, max(epoch, 0), max(coord, 0)})
}

// holds reports whether an offset is one of those lost.
func (h *hole) holds(offset int64) bool { return h.Offset <= offset && offset < h.NextOffset }

// suspect looks at a batch behind holes: it may tell that a transaction which was
// open before one of them had ended in it.
func (m *mender) suspect(b record.Batch) {
	if m.again || !b.IsTransactional() || !ofProducer(b) {
		return
	}
	if commit, _, err := b.Marker(); err == nil {
		m.ends(b, commit)
	}
	if b.IsControl() {
		return
	}
	for _, h := range m.holes {
		// An epoch rises with each marker (KIP-890), or when another one takes over.
		if o := h.open[b.ProducerID()]; o != nil && !o.ended {
			o.goesOn = o.goesOn || b.ProducerEpoch() == o.epoch
			if b.ProducerEpoch() > o.epoch && !o.begun {
				o.begun = true
				m.tail.producers.byID[b.ProducerID()].open = -1 // this is the first batch of another one
			}
		}
	}
}

// ends takes a producer's marker that comes behind holes.
func (m *mender) ends(b record.Batch, commit bool) {
	for _, h := range m.holes {
		if o := h.open[b.ProducerID()]; o != nil && !o.ended {
			o.ended, o.commit, o.at = true, commit, b.BaseOffset()
			o.begun = o.begun || b.ProducerEpoch() > o.epoch+1
			o.same = b.ProducerEpoch() == o.epoch+1
		}
	}
}

// resolveAt knows how the transactions ended, from the state that the header
// behind the holes holds.
func (m *mender) resolveAt(ps *producers) {
	for _, h := range m.holes {
		for i := range h.lost {
			if l := &h.lost[i]; l.Marker >= ps.aborted.from {
				l.Commit, l.Guessed = true, false // unless it is in the list, see below
			}
		}
		for _, t := range ps.aborted.txns {
			if h.holds(t.marker) {
				h.lose(MendedTxn{Producer: t.producer, First: t.first, Marker: t.marker}, h.epochOf(t.producer, ps), h.coordOf(t.producer, ps))
			}
		}
		for id, p := range ps.byID {
			if !h.holds(p.marker) || slices.ContainsFunc(ps.aborted.txns, func(t abortedTxn) bool { return t.marker == p.marker }) {
				continue
			}
			first := p.marker
			if o := h.open[id]; o != nil {
				first = o.first
			}
			h.lose(MendedTxn{Producer: id, First: first, Marker: p.marker, Commit: p.marker >= ps.aborted.from, Guessed: p.marker < ps.aborted.from}, p.epoch, p.coordinator)
		}
	}
	for i, h := range m.holes {
		for id, o := range h.open {
			o.begun = m.nextLost(i, id, o) == nil && h.committed(id, o, ps)
		}
	}
	m.place(MendedTxn{Marker: -1, Commit: true})
	for _, h := range m.holes {
		m.fillHole(h)
	}
}

// nextLost finds the hole with a producer's next marker, if that is lost, from one
// on in which it had a transaction open. It is nil if the marker is not lost, or if
// nothing says where it was; then o says how the transaction ended.
func (m *mender) nextLost(from int, id int64, o *openOver) *hole {
	for i, h := range m.holes[from:] {
		for _, l := range h.lost {
			if l.Producer != id || l.Marker < 0 || o.ended && o.at <= l.Marker {
				continue
			}
			if i == 0 || l.Commit {
				return h
			}
			o.ended, o.commit, o.at = true, false, l.Marker
		}
	}
	return nil
}

// committed reports whether a transaction ended in a hole in a commit whose place
// is not known: the producer has begun another one since.
func (h *hole) committed(id int64, o *openOver, ps *producers) bool {
	if o.ended && !o.commit {
		return slices.ContainsFunc(ps.aborted.txns, func(t abortedTxn) bool {
			return t.producer == id && t.marker == o.at && t.first >= h.Offset
		})
	}
	p := ps.byID[id]
	return !o.ended && p != nil && p.open >= h.Offset
}

func (h *hole) epochOf(id int64, ps *producers) int16 {
	if o := h.open[id]; o != nil {
		return o.epoch
	}
	if p := ps.byID[id]; p != nil {
		return p.epoch
	}
	return 0
}

func (h *hole) coordOf(id int64, ps *producers) int32 {
	if p := ps.byID[id]; p != nil {
		return p.coordinator
	}
	return 0
}

// resolveEnd decides about the holes behind the newest header: of a transaction
// that certainly ended in one, and nobody knows how, nothing is shown.
func (m *mender) resolveEnd() {
	m.place(MendedTxn{Marker: -1, Guessed: true})
	for _, h := range m.holes {
		for _, id := range slices.Sorted(maps.Keys(h.open)) {
			if o := h.open[id]; !o.begun && o.ended && !o.same && h.NextOffset > h.Offset {
				m.out.Joined = append(m.out.Joined, MendedTxn{Producer: id, First: o.first, Marker: o.at, Commit: o.commit, Guessed: true})
			}
		}
		m.fillHole(h)
	}
	slices.SortFunc(m.out.Fill, func(a, b storage.Entry) int { return cmp.Compare(a.Index, b.Index) })
}

// place finds a hole for the marker of each transaction that certainly ended in one.
func (m *mender) place(as MendedTxn) {
	due := m.endedSomewhere()
	for i, h := range m.holes {
		for _, c := range due {
			if h.room() > 0 && c.from <= i && i <= c.to && !c.placed {
				c.placed, as.Producer, as.First = true, c.id, c.first
				h.lose(as, c.epoch, c.coord)
			}
		}
	}
}

// endedIn is a transaction that ended in one of some holes that follow each other.
type endedIn struct {
	*openOver
	id       int64
	from, to int
	placed   bool
}

// endedSomewhere lists the transactions that ended in a hole, those first whose
// last hole comes first: so all find room that can.
func (m *mender) endedSomewhere() (due []*endedIn) {
	for i, h := range m.holes {
		for _, id := range slices.Sorted(maps.Keys(h.open)) {
			o := h.open[id]
			if !o.begun {
				continue
			}
			at := slices.IndexFunc(due, func(c *endedIn) bool { return c.id == id && c.first == o.first })
			if at < 0 {
				at, due = len(due), append(due, &endedIn{openOver: o, id: id, from: i})
			}
			c := due[at]
			if c.goesOn {
				c.from, c.openOver = i, o // it had not ended before
			}
			c.to = i
		}
	}
	slices.SortStableFunc(due, func(a, b *endedIn) int { return cmp.Compare(a.to, b.to) })
	return due
}

// room is how many more markers may have been in a hole.
func (h *hole) room() int64 {
	return min(h.NextOffset-h.Offset, int64(h.NextIndex-h.Index)) - int64(len(h.lost))
}

// fillHole makes the entries that take the place of lost markers.
func (m *mender) fillHole(h *hole) {
	taken := map[int64]bool{}
	for _, l := range h.lost {
		taken[l.Marker] = true
	}
	free := h.Offset
	for i := range h.lost {
		l := &h.lost[i]
		for ; l.Marker < 0 && free < h.NextOffset; free++ {
			if !taken[free] {
				l.Marker, taken[free] = free, true
			}
		}
	}
	slices.SortFunc(h.lost, func(a, b lostMarker) int { return cmp.Compare(a.Marker, b.Marker) })
	index := h.Index
	for _, l := range h.lost {
		if l.Marker < 0 || index >= h.NextIndex {
			continue // there is no room for one more: it cannot have been there
		}
		b := record.TransactionMarker{ProducerID: l.Producer, ProducerEpoch: l.epoch, Commit: l.Commit, CoordinatorEpoch: l.coord}.Batch(max(h.Before, 0))
		b.SetBaseOffset(l.Marker)
		b.SetLeaderEpoch(h.epoch)
		m.out.Fill = append(m.out.Fill, storage.Entry{Index: index, Term: h.term, Kind: storage.KindData, BaseOffset: l.Marker, LeaderEpoch: h.epoch, Payload: b})
		m.out.Ended = append(m.out.Ended, l.MendedTxn)
		index++
	}
}

// stillOpen are the transactions that are open at the end, and were where a hole
// begins that may hold their markers.
func (m *mender) stillOpen(ps *producers) (all []MendedTxn) {
	newest := int64(-1)
	for _, h := range m.holes {
		if h.Head == nil && h.NextOffset > h.Offset {
			newest = h.Offset
		}
	}
	for _, p := range ps.info() {
		if p.TxnFirst >= 0 && p.TxnFirst < newest {
			all = append(all, MendedTxn{Producer: p.ID, First: p.TxnFirst, Marker: -1})
		}
	}
	return all
}
