package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/entrepot-hub/entrepot/record"
)

// Repairing a log that no other replica can repair: it is put together anew from
// what can be read of it, in a folder of its own beside the old one.
//
//  1. Segments that are whole are there under a second name. One that is damaged
//     is written anew as a compacted segment: its header says that entries are
//     missing, where it ends, and that all in it is committed, as everything is
//     in the log of a lone voter.
//  2. Behind them stands a segment with a header alone: the state at the end of
//     the log, and a term above all in which the replica can have voted.
//  3. The folder is read again as a start reads it. Then, from when the file
//     "complete" in it is durable, it is the log.
//  4. The old folder is renamed, not deleted, and the directory synced; then the
//     new one takes its name. A start that finds a complete folder does both.
//
// So after a stop there is the old log with its quarantine or the repaired one,
// and the old files are there in any case.

// repairSuffix is behind the name of a folder in which a log is put together
// anew.
const repairSuffix = ".repaired"

// Repair puts what can be read of a log in its place: with a state at its end,
// and with entries that take the place of lost ones, by index. It returns the
// folder, beside the log's, in which the damaged files are kept.
func (s *Salvages) Repair(l *Salvage, aux Aux, fill []Entry) (kept string, err error) {
	m := &mending{Store: s.store, Salvage: l, dir: l.Dir + repairSuffix, fill: fill}
	kept, err = m.run(aux)
	if err != nil {
		return "", fmt.Errorf("repair log %s: %w", l.Log, err)
	}
	return kept, nil
}

// mending is one log that is being put together.
type mending struct {
	*Store
	*Salvage
	dir  string
	fill []Entry
}

func (m *mending) run(aux Aux) (kept string, err error) {
	if err := m.begin(); err != nil {
		return "", err
	}
	if err := m.build(aux); err != nil {
		// It is no log yet: nothing says that it is complete.
		_ = m.removeTree(m.dir)
		return "", err
	}
	if err := m.complete(m.dir, fmt.Appendf(nil, "log %s repaired to entry %d\n", m.Log, m.End.Index)); err != nil {
		return "", err
	}
	if kept, err = m.asideName(m.Dir); err != nil {
		return "", err
	}
	return kept, m.swapIn(path.Base(m.dir))
}

func (m *mending) begin() error {
	if _, err := m.fs.Stat(path.Join(m.Dir+stagingSuffix, completeName)); err == nil {
		return fmt.Errorf("%w: a copy of another replica's log is whole and waits to take its place at the next start", ErrExists)
	}
	if err := m.fs.Mkdir(m.dir); err != nil {
		return err
	}
	return m.fs.SyncDir(m.Store.dir)
}

// build makes the files, durable, and reads them again.
func (m *mending) build(aux Aux) error {
	top := segHeader{flags: flagSynced, id: m.Log, created: m.cfg.Clock().UnixMilli(), state: m.End, seq: 1, prevMaxTime: -1}
	for _, f := range m.r.files {
		top.seq = max(top.seq, f.header.seq+1)
	}
	top.seq = max(top.seq, m.stated.seq+1)
	for _, g := range m.groups {
		name := segmentName(g.head.header.seq, g.head.header.state.Index+1)
		top.seq = max(top.seq, g.tail.seq+1)
		top.prevSeq, top.prevEnd = g.tail.seq, g.tail.pos
		top.prevMaxTime, top.synced = g.end.maxTime, position{g.head.header.seq, g.end.end}
		if !g.bad {
			if err := m.fs.Link(g.head.path, path.Join(m.dir, name)); err != nil {
				return err
			}
			continue
		}
		seg, err := m.rewrite(g, path.Join(m.dir, name))
		if err != nil {
			return fmt.Errorf("write segment %s anew: %w", name, err)
		}
		top.prevMaxTime, top.synced = seg.p.maxTime, position{seg.header.seq, seg.footer}
	}
	top.state.Aux, top.state.Hard = aux, m.hard()
	var salt [4]byte
	if _, err := io.ReadFull(m.cfg.Rand, salt[:]); err != nil {
		return fmt.Errorf("draw a salt: %w", err)
	}
	top.salt = binary.BigEndian.Uint32(salt[:])
	if err := m.writeWhole(path.Join(m.dir, segmentName(top.seq, top.state.Index+1)), top.encode()); err != nil {
		return err
	}
	if err := m.fs.SyncDir(m.dir); err != nil {
		return m.goOffline(err)
	}
	return m.check(&top)
}

// hard is the hard state of the repaired log. A vote may have been lost, so it
// is in a term above all in which there can have been one.
func (m *mending) hard() HardState {
	h := m.End.Hard
	if below, _ := m.knownBelow(m.Log); below > h.Term || m.End.Term > h.Term {
		h.Term, h.Vote = max(below, m.End.Term), 0
	}
	h.Commit = m.End.Index
	return h
}

// rewrite writes a compacted segment that stands for a group.
func (m *mending) rewrite(g *group, name string) (*segment, error) {
	h := g.head.header
	clean := h.compacted.clean
	h.flags |= flagCompacted
	h.compacted = compaction{lastSeq: g.tail.seq, lastEnd: g.tail.pos, index: g.end.lastIndex, term: g.end.lastTerm, next: g.end.nextOffset, clean: clean}
	w := &rewriter{log: &Log{store: m.Store, id: m.Log, dir: m.dir}, name: name}
	err := w.create(segmentName(h.seq, h.state.Index+1), h)
	if err == nil {
		_, err = m.walk(g, func(f *frame, payload []byte) error {
			if !f.isEntry() {
				return nil
			}
			if err := m.filled(w, f.index); err != nil {
				return err
			}
			return m.put(w, entryOf(f, payload))
		}, func(Gap) error { return nil })
	}
	if err == nil {
		err = m.filled(w, g.end.lastIndex+1)
	}
	if err == nil {
		err = w.end()
	}
	if err == nil {
		w.name = "" // it stays
	}
	return w.seg, errors.Join(err, w.abandon())
}

// filled writes the entries that take the place of lost ones below an index.
func (m *mending) filled(w *rewriter, below uint64) error {
	for len(m.fill) > 0 && m.fill[0].Index < below {
		if err := m.put(w, m.fill[0]); err != nil {
			return err
		}
		m.fill = m.fill[1:]
	}
	return nil
}

func (m *mending) put(w *rewriter, e Entry) error {
	if err := w.frame(frame{kind: e.Kind, index: e.Index, term: e.Term, base: e.BaseOffset, epoch: e.LeaderEpoch}, e.Payload); err != nil {
		return err
	}
	if len(w.out) < 1<<20 {
		return nil
	}
	return w.flush()
}

// check reads what was put together as a start will, and then every frame.
func (m *mending) check(top *segHeader) error {
	r, err := inspect(m.fs, m.dir)
	if err != nil {
		return err
	}
	defer r.close()
	n := len(r.chain)
	switch {
	case r.damage != nil:
		return fmt.Errorf("%w: put together, the log is not whole: %w", record.ErrQuarantined, r.damage)
	case n != len(m.groups)+1 || n != len(r.files) || r.chain[n-1].header.crc != top.crc:
		return fmt.Errorf("%w: put together, the log has %d segments of %d files, want %d", record.ErrQuarantined, n, len(r.files), len(m.groups)+1)
	}
	for i, f := range r.chain[:n-1] {
		p, err := verify(f.f, begin(&f.header), f.p.end, func(fr *frame, payload []byte) error {
			if fr.kind == KindData {
				return record.Batch(payload).Check()
			}
			return nil
		})
		p.finish(&f.header)
		h := &r.chain[i+1].header.state
		if err != nil || p.lastIndex != h.Index || p.nextOffset != h.NextOffset {
			return fmt.Errorf("%w: put together, segment %s ends at byte %d with entry %d, offset %d, want entry %d, offset %d: %w",
				record.ErrQuarantined, f.name, p.end, p.lastIndex, p.nextOffset, h.Index, h.NextOffset, err)
		}
		f.f.rest()
	}
	return nil
}

// asideName is a name for a damaged log's folder that is not taken.
func (s *Store) asideName(dir string) (string, error) {
	for n := 1; ; n++ {
		name := dir + damagedSuffix
		if n > 1 {
			name = fmt.Sprintf("%s.%d", name, n)
		}
		if _, err := s.fs.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return name, nil
		} else if err != nil {
			return "", err
		}
	}
}
