package storage

import (
	"path"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// plant is a mistake that a test builds into the node to see that the
// simulation notices it.
type plant struct {
	faults    func() func(op *vfs.Op) error // a fresh check for each start
	skipOver  bool                          // recovery accepts a segment that does not follow
	unclamped bool                          // the commit is taken as it is on the disk
	append    func(l *Log, r *Round)        // runs before each round
}

func (p plant) wrap(mem *vfs.Mem) vfs.FS {
	if p.faults == nil {
		return mem
	}
	return vfs.WithFaults(mem, p.faults())
}

func (p plant) before(l *Log, r *Round) {
	if p.append != nil {
		p.append(l, r)
	}
}

// skipping pretends that operations on a log's files were done.
func skipping(skip func(op *vfs.Op) bool) func() func(op *vfs.Op) error {
	return func() func(op *vfs.Op) error {
		return func(op *vfs.Op) error {
			if skip(op) {
				return vfs.ErrSkip
			}
			return nil
		}
	}
}

func syncOfSegment(op *vfs.Op) bool {
	return op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".log") || op.Kind == vfs.OpSyncFS
}

func syncOfCompacted(op *vfs.Op) bool {
	return op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, rewriteSuffix)
}

// skippingRenames leaves out the sync of a directory that follows a rename in
// it.
func skippingRenames() func(op *vfs.Op) error {
	renamed := false
	return func(op *vfs.Op) error {
		switch {
		case op.Kind == vfs.OpRename:
			renamed = strings.HasSuffix(op.Name, rewriteSuffix)
		case op.Kind == vfs.OpSyncDir && renamed && op.Name != simDir:
			renamed = false
			return vfs.ErrSkip
		}
		return nil
	}
}

// skippingMends leaves out the sync of a segment that was written to when a later
// one was there.
func skippingMends() func(op *vfs.Op) error {
	newest, mended := map[string]uint32{}, ""
	return func(op *vfs.Op) error {
		dir, name := path.Split(op.Name)
		seq, _, ok := parseSegmentName(name)
		switch {
		case ok && op.Kind == vfs.OpWrite && seq < newest[dir]:
			mended = op.Name
		case ok && op.Kind == vfs.OpWrite:
			newest[dir] = seq
		case op.Kind == vfs.OpSync && op.Name == mended:
			mended = ""
			return vfs.ErrSkip
		}
		return nil
	}
}

// skippingVotes leaves out the syncs of files to which nothing but single
// state frames was written.
func skippingVotes() func(op *vfs.Op) error {
	other := map[string]bool{}
	return func(op *vfs.Op) error {
		switch {
		case op.Kind == vfs.OpWrite:
			other[op.Name] = other[op.Name] || op.Len != frameHeader+statePayload
		case op.Kind == vfs.OpSync && !other[op.Name]:
			return vfs.ErrSkip
		case op.Kind == vfs.OpSync:
			delete(other, op.Name)
		}
		return nil
	}
}

// marksItself lets the frames of a round state the end of that round as synced.
func marksItself(l *Log, _ *Round) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.last()
	l.mu.synced = position{s.header.seq, s.p.end + frameHeader}
}

// hardInOld writes the hard state of a conflicting round into the old segment,
// too.
func hardInOld(l *Log, r *Round) {
	last, _ := l.Last()
	if r.Hard == nil || len(r.Entries) == 0 || r.Entries[0].Index > last || l.ShouldRoll(l.store.cfg.Clock()) {
		return
	}
	l.takeWriter()
	defer l.giveWriter()
	l.mu.RLock()
	s, next, stated := l.last(), l.last().p, l.mu.synced
	l.mu.RUnlock()
	l.enc.reset(stated)
	if l.enc.state(*r.Hard, &next) == nil && l.flushEncoder(s, s.p.end, false) == nil {
		next.hard = s.p.hard // in memory it does not count
		l.mu.Lock()
		s.p = next
		l.mu.Unlock()
	}
}

// rawHard is the hard state as it is on the disk, not clamped.
func rawHard(l *Log) HardState {
	r, err := inspect(l.store.fs, l.dir)
	if err != nil || len(r.chain) == 0 {
		return HardState{}
	}
	defer r.close()
	return r.chain[len(r.chain)-1].p.hard
}

// skippingRolls leaves out the syncs of a log's directory but for the first.
func skippingRolls() func(op *vfs.Op) error {
	synced := map[string]bool{}
	return func(op *vfs.Op) error {
		if op.Kind != vfs.OpSyncDir || op.Name == simDir {
			return nil
		}
		again := synced[op.Name]
		synced[op.Name] = true
		if again {
			return vfs.ErrSkip
		}
		return nil
	}
}

// TestSimulationNotices plants one mistake after the other: each must be found
// within some seeds, or the simulation proves nothing. Mistakes that lose what
// was acknowledged must show with three replicas, too, as what they are: a lost
// entry or two leaders of a term, not only as a state that cannot be.
func TestSimulationNotices(t *testing.T) {
	const within = 3000
	plants := []struct {
		name string
		plant
		trio bool // noticed by three replicas, too
	}{
		{"acknowledge before the sync", plant{faults: skipping(syncOfSegment)}, true},
		{"no sync of the directory", plant{faults: func() func(op *vfs.Op) error { return skippingRolls() }}, true},
		{"vote not synced", plant{faults: func() func(op *vfs.Op) error { return skippingVotes() }}, true},
		{"recovery without the first syncfs", plant{faults: skipping(func(op *vfs.Op) bool { return op.Kind == vfs.OpSyncFS })}, true},
		{"commit not clamped", plant{unclamped: true}, true},
		{"a segment that does not follow accepted", plant{skipOver: true}, true},
		{"marks written in the round they mark", plant{append: marksItself}, true},
		{"hard state in the old segment at conflict", plant{append: hardInOld}, true},
		{"a compacted segment renamed before it is synced", plant{faults: skipping(syncOfCompacted)}, true},
		{"what is compacted deleted before the new name is durable", plant{faults: func() func(op *vfs.Op) error { return skippingRenames() }}, true},
		{"an index that is written anew and not synced", plant{faults: func() func(op *vfs.Op) error { return skippingMends() }}, false},
	}
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			mustNotice(t, within, func(seed uint64) error { return runSolo(seed, p.plant) })
			if p.trio {
				mustNotice(t, within, func(seed uint64) error { return runTrio(seed, p.plant) })
			}
		})
	}
}

func mustNotice(t *testing.T, within uint64, run func(seed uint64) error) {
	seed, err := firstFailure(within, run)
	if err == nil {
		t.Errorf("not noticed in %d schedules", within)
		return
	}
	text := err.Error()
	t.Logf("noticed with seed %d: %s", seed, text[:min(len(text), 200)])
}
