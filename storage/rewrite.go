package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Compaction, as far as files are concerned (Invariant 18): one compacted
// segment takes the place of one or several sealed ones, with those of their
// entries that the caller keeps.
//
//  1. It is written under a name that recovery does not look at, and synced.
//  2. It is renamed over the first of those that it stands for: from then on,
//     and not before, the others are no part of the log.
//  3. The directory is synced; then the others are deleted.
//
// So a power cut leaves either what was before or what comes after, and never
// a log without an entry that was to be kept.

// Rewrite says what to compact.
type Rewrite struct {
	// First and Last are the numbers of the first and the last segment.
	First, Last uint32
	// Clean is noted in the header: see SegmentInfo.
	Clean int64
	// Keep returns what is left of an entry: its payload, changed or not, or nil
	// to leave it out. The payload may be used until Keep is called again. What
	// it returns for a data entry must be a batch of the same offsets and epoch.
	Keep func(Entry) ([]byte, error)
	// Pace, unless nil, is called with the number of bytes read and written
	// since the last call; it may wait.
	Pace func(ctx context.Context, n int) error
}

// Rewritten is what Rewrite did.
type Rewritten struct {
	Before, After int64 // bytes of the files
	Dropped, Kept uint64
}

// Rewrite compacts sealed segments that follow each other into one, which
// keeps the number of the first. Everything in them must be committed and
// applied. One Rewrite at a time may run for a log; readers, the writer and
// Trim go on meanwhile. It returns ErrNotSealed when one of the segments is
// not there any more, is the newest, or cannot be let go of yet; the caller
// tries again later. ctx ends it early; nothing has changed then.
func (l *Log) Rewrite(ctx context.Context, r Rewrite) (Rewritten, error) {
	done, err := l.rewrite(ctx, r)
	if err != nil {
		return done, fmt.Errorf("compact segments %d to %d of log %s: %w", r.First, r.Last, l.id, err)
	}
	return done, nil
}

func (l *Log) rewrite(ctx context.Context, r Rewrite) (done Rewritten, err error) {
	if err := errors.Join(l.ready(), l.store.writable(false)); err != nil {
		return done, err
	}
	if err := l.sweep(); err != nil {
		return done, err
	}
	segs, err := l.rewritable(r)
	if err != nil {
		return done, err
	}
	w := rewriter{log: l, name: l.path(segs[0].name) + rewriteSuffix, Rewrite: r}
	defer func() { err = errors.Join(err, w.abandon()) }()
	if err := w.begin(segs); err != nil {
		return done, err
	}
	for _, s := range segs {
		if err := w.copy(ctx, s); err != nil {
			return done, err
		}
		done.Before += s.size
	}
	if err := w.end(); err != nil {
		return done, err
	}
	done.After, done.Kept, done.Dropped = w.seg.size, w.p.count, w.read-w.p.count
	return done, l.replace(segs, &w)
}

// rewritable finds the segments.
func (l *Log) rewritable(r Rewrite) ([]*segment, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	at := slices.IndexFunc(l.mu.segs, func(s *segment) bool { return s.header.seq == r.First })
	end := slices.IndexFunc(l.mu.segs, func(s *segment) bool { return s.header.seq == r.Last })
	if at < 0 || end < at || end+1 >= len(l.mu.segs) {
		return nil, ErrNotSealed
	}
	next := l.mu.segs[end+1]
	// As for Trim: until something states that the next header was synced, what
	// was before it may still be needed. A dead file would come to life when
	// the one that ended it is not there to say so.
	if !l.provenHeader(next) || slices.ContainsFunc(l.mu.dead, func(d deadFile) bool { return d.seq < next.header.seq }) {
		return nil, fmt.Errorf("%w: the next one is not proven", ErrNotSealed)
	}
	if l.mu.hard.Commit < l.mu.segs[end].p.lastIndex {
		return nil, fmt.Errorf("%w: commit %d as it is written < index %d, its last", ErrNotSealed, l.mu.hard.Commit, l.mu.segs[end].p.lastIndex)
	}
	return slices.Clone(l.mu.segs[at : end+1]), nil
}

// rewriteSuffix is behind the name of a compacted segment that is not whole.
const rewriteSuffix = ".new"

// rewriter writes one compacted segment.
type rewriter struct {
	Rewrite
	log  *Log
	name string // until it takes its place
	f    vfs.File
	seg  *segment
	aux  Aux
	p    progress
	out  []byte // to be written at the end of the file
	at   uint32 // where out goes
	read uint64 // entries
}

// begin makes the file and what is known of the header.
func (w *rewriter) begin(segs []*segment) error {
	l := w.log
	state, err := l.stateOf(segs[0])
	if err != nil {
		return err
	}
	last := segs[len(segs)-1]
	tail := last.header.tail(last.p.end)
	h := segs[0].header
	h.flags |= flagCompacted
	h.state.Aux = state.Aux
	h.compacted = compaction{
		lastSeq: tail.seq, lastEnd: tail.pos, index: last.p.lastIndex, term: last.p.lastTerm, next: last.p.nextOffset, clean: w.Clean,
	}
	return w.create(segs[0].name, h)
}

// create makes the file of a segment with this header, which end completes.
func (w *rewriter) create(name string, h segHeader) error {
	l := w.log
	var salt [4]byte
	if _, err := io.ReadFull(l.store.cfg.Rand, salt[:]); err != nil {
		return fmt.Errorf("draw a salt: %w", err)
	}
	h.salt = binary.BigEndian.Uint32(salt[:])
	h.encode() // for its length
	w.seg = &segment{name: name, header: h}
	w.p, w.at = begin(&h), h.length
	if err := l.store.fs.Remove(w.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return l.store.onDisk(true, func() (err error) {
		w.f, err = l.store.fs.Create(w.name)
		return err
	})
}

// copy takes over what is kept of one segment.
func (w *rewriter) copy(ctx context.Context, s *segment) error {
	v, err := w.log.view(s)
	if err != nil {
		return err
	}
	defer v.close()
	walk := v.walk(v.seg.header.length, 1<<20)
	walk.reuse = true
	from := walk.pos
	for {
		f, _, err := walk.head()
		if errors.Is(err, io.EOF) {
			return w.pace(ctx, int(walk.pos-from))
		}
		at := walk.pos
		if err == nil && !f.isEntry() {
			walk.skip()
			continue
		}
		var payload []byte
		if err == nil {
			payload, err = walk.body()
		}
		if err != nil {
			return w.log.damaged(v.seg, &placeError{at, err})
		}
		if err := w.entry(entryOf(&walk.cur, payload)); err != nil {
			return err
		}
		if n := int(walk.pos - from); n >= 1<<20 {
			if err := w.pace(ctx, n); err != nil {
				return err
			}
			from = walk.pos
		}
	}
}

// pace writes what has gathered and waits as long as the caller wants.
func (w *rewriter) pace(ctx context.Context, read int) error {
	wrote := len(w.out)
	if err := w.flush(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", record.ErrStopped, err)
	}
	if w.Pace == nil {
		return nil
	}
	return w.Pace(ctx, read+wrote)
}

// entry adds what is kept of an entry.
func (w *rewriter) entry(e Entry) error {
	w.read++
	payload, err := w.Keep(e)
	if err != nil || payload == nil && e.Payload != nil {
		return err
	}
	return w.frame(frame{kind: e.Kind, index: e.Index, term: e.Term, base: e.BaseOffset, epoch: e.LeaderEpoch}, payload)
}

func (w *rewriter) frame(f frame, payload []byte) error {
	if int64(w.p.end)+int64(frameHeader+align8(len(payload))) > 1<<32-1 {
		return fmt.Errorf("%w: the compacted segment would grow beyond 4 GiB", ErrRound)
	}
	f.previous, f.synced = w.p.chain, w.seg.header.synced
	at := len(w.out)
	w.out = append(w.out, make([]byte, frameHeader)...)
	f.put(w.out[at:], payload, w.p.sealing, w.p.end)
	if err := w.p.add(&f, payload); err != nil {
		return fmt.Errorf("%w: %w", ErrRound, err)
	}
	w.out = append(w.out, payload...)
	w.out = append(w.out, zeros[:align8(len(payload))-len(payload)]...)
	return nil
}

func (w *rewriter) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	err := w.log.store.onDisk(true, func() error {
		_, err := w.f.WriteGather([][]byte{w.out}, int64(w.at))
		return err
	})
	w.at, w.out = w.at+uint32(len(w.out)), w.out[:0]
	return err
}

// end writes the footer and the header and makes the file durable.
func (w *rewriter) end() error {
	w.p.close()
	w.seg.header.compacted.end = w.p.end
	done := w.p
	if err := w.frame(frame{kind: kindFooter, index: w.p.lastIndex, term: w.p.lastTerm, base: w.p.nextOffset}, w.p.summary(kindFooter)); err != nil {
		return err
	}
	w.seg.footer, w.seg.size = done.end, int64(w.p.end)
	if err := w.flush(); err != nil {
		return err
	}
	w.at, w.out = 0, append(w.out[:0], w.seg.header.encode()...)
	if err := w.flush(); err != nil {
		return err
	}
	w.seg.header.state.Aux = Aux{}
	w.p = done
	done.runs, done.blocks, done.open = nil, nil, block{}
	done.finish(&w.seg.header)
	w.seg.p = done
	if err := w.f.Sync(); err != nil {
		return w.log.store.goOffline(err)
	}
	return nil
}

// abandon closes the file, and removes it if it has not taken its place.
func (w *rewriter) abandon() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	if w.name != "" {
		err = errors.Join(err, w.log.store.fs.Remove(w.name))
	}
	return err
}
