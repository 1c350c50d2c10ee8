package storage

import (
	"fmt"
	"slices"
	"sort"

	"github.com/entrepot-hub/entrepot/record"
)

// blockBytes is how far apart the entries of a segment's index are: reading at
// a random place skips that much at most.
const blockBytes = 128 << 10

// block is one entry of a segment's index: a run of frames.
type block struct {
	pos     uint32 // of its first frame
	index   uint64 // of its first entry
	offset  int64  // base offset of its first entry
	maxTime int64  // largest batch time in it, ms; -1 when there is none
}

// termRun says that from index on, entries have this term.
type termRun struct{ index, term uint64 }

// progress is what is known of a segment after reading or writing its frames
// up to a position. It is a value: a copy goes on by itself, because its lists
// only ever grow behind the length that the original sees.
type progress struct {
	sealing
	end        uint32 // position after the last frame
	chain      uint32 // head checksum of the last frame, or the header's
	count      uint64 // entries
	lastIndex  uint64
	lastTerm   uint64
	nextOffset int64
	maxTime    int64 // largest batch time, ms; -1 when there is none
	hard       HardState
	stated     position  // the highest statement in header and frames
	runs       []termRun // ascending; none when there are no entries
	blocks     []block   // ascending, closed
	open       block     // the newest, when its pos is not zero
	checkpoint uint32    // position of the newest checkpoint frame, 0 for none
	saved      int       // blocks that checkpoints hold
	rested     uint32    // position behind the newest state frame that states all before it
	holes      bool      // entries may be missing: a compacted segment
}

// begin is the progress after a header.
func begin(h *segHeader) progress {
	p := progress{
		sealing: h.sealing(), end: h.length, chain: h.crc, holes: h.isCompacted(),
		lastIndex: h.state.Index, lastTerm: h.state.Term, nextOffset: h.state.NextOffset,
		maxTime: -1, hard: h.state.Hard, stated: h.synced,
	}
	if p.holes {
		p.chain = h.salt // the header of a compacted segment is written last
	}
	return p
}

// finish goes on from the last frame of a compacted segment to the end of what
// it stands for. It does nothing unless that frame is reached.
func (p *progress) finish(h *segHeader) {
	if c := &h.compacted; h.isCompacted() && p.end == c.end {
		p.lastIndex, p.lastTerm, p.nextOffset = c.index, c.term, c.next
	}
}

// add goes on over a frame that stands at end and has passed its checksums.
// payload needs to hold only what its head covers, but for state frames. An
// error means that the frame does not follow what was before (Invariant 2).
func (p *progress) add(f *frame, payload []byte) error {
	if f.previous != p.chain {
		return fmt.Errorf("the frame follows %08x, before it is %08x", f.previous, p.chain)
	}
	if err := p.content(f, payload); err != nil {
		return err
	}
	p.stated = maxPosition(p.stated, f.synced)
	rested := f.kind == kindState && f.synced == position{p.seq, p.end}
	p.end += uint32(f.size())
	if rested {
		p.rested = p.end
	}
	p.chain = f.head
	return nil
}

func (p *progress) content(f *frame, payload []byte) error {
	switch f.kind {
	case KindData, KindControl:
		return p.entry(f, payload)
	case kindState:
		h, err := f.hardState(payload)
		if err != nil {
			return err
		}
		if h.Term < p.hard.Term {
			return fmt.Errorf("hard state of term %d < %d before it", h.Term, p.hard.Term)
		}
		p.hard = h
	case kindCheckpoint:
		p.close()
		p.checkpoint, p.saved = p.end, len(p.blocks)
	}
	if f.index != p.lastIndex || f.base != p.nextOffset {
		return fmt.Errorf("a frame after index %d, offset %d stands after index %d, offset %d", f.index, f.base, p.lastIndex, p.nextOffset)
	}
	return nil
}

// entry checks that an entry follows the one before and takes it in.
func (p *progress) entry(f *frame, payload []byte) error {
	switch {
	case f.index != p.lastIndex+1 && !(p.holes && f.index > p.lastIndex):
		return fmt.Errorf("index %d follows %d", f.index, p.lastIndex)
	case f.term < p.lastTerm:
		return fmt.Errorf("term %d of index %d < %d before it", f.term, f.index, p.lastTerm)
	case f.base < p.nextOffset:
		return fmt.Errorf("base offset %d of index %d < %d, the next offset", f.base, f.index, p.nextOffset)
	}
	next, maxTime := f.base, int64(-1)
	if f.kind == KindData {
		if len(payload) < record.BatchHeaderSize {
			return fmt.Errorf("index %d: a batch of %d bytes", f.index, len(payload))
		}
		b := record.Batch(payload)
		if b.BaseOffset() != f.base || b.LeaderEpoch() != f.epoch {
			return fmt.Errorf("index %d: the batch has offset %d, epoch %d, its frame offset %d, epoch %d",
				f.index, b.BaseOffset(), b.LeaderEpoch(), f.base, f.epoch)
		}
		next, maxTime = b.NextOffset(), b.MaxTime()
		if next <= f.base {
			return fmt.Errorf("index %d: the batch ends at offset %d, before it begins at %d", f.index, next, f.base)
		}
	} else if f.base != p.nextOffset && !p.holes {
		return fmt.Errorf("index %d: a control entry at offset %d, the next is %d", f.index, f.base, p.nextOffset)
	}
	if p.open.pos == 0 || p.end-p.open.pos >= blockBytes {
		p.close()
		p.open = block{pos: p.end, index: f.index, offset: f.base, maxTime: -1}
	}
	p.open.maxTime = max(p.open.maxTime, maxTime)
	p.maxTime = max(p.maxTime, maxTime)
	if n := len(p.runs); n == 0 || p.runs[n-1].term != f.term {
		p.runs = append(p.runs, termRun{f.index, f.term})
	}
	p.count++
	p.lastIndex, p.lastTerm, p.nextOffset = f.index, f.term, next
	return nil
}

// close ends the newest block.
func (p *progress) close() {
	if p.open.pos != 0 {
		p.blocks = append(p.blocks, p.open)
		p.open = block{}
	}
}

// term of an index that the segment holds.
func (p *progress) term(index uint64) uint64 {
	i := sort.Search(len(p.runs), func(i int) bool { return p.runs[i].index > index })
	return p.runs[i-1].term
}

// find returns the position of the last block for which after is false; after
// must be false for some first blocks and true for the others.
func (p *progress) find(after func(block) bool) (block, bool) {
	if p.open.pos != 0 && !after(p.open) {
		return p.open, true
	}
	i := sort.Search(len(p.blocks), func(i int) bool { return after(p.blocks[i]) })
	if i == 0 {
		return block{}, false
	}
	return p.blocks[i-1], true
}

// findTime returns the first block that holds a batch of at least this time.
func (p *progress) findTime(ms int64) (block, bool) {
	if i := slices.IndexFunc(p.blocks, func(b block) bool { return b.maxTime >= ms }); i >= 0 {
		return p.blocks[i], true
	}
	return p.open, p.open.pos != 0 && p.open.maxTime >= ms
}
