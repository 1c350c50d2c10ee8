package storage

import (
	"errors"
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
)

// The index of a sealed segment is its footer. It says nothing that the frames
// before it do not, so it is no damage when it has decayed, or when a crash or a
// full disk kept it from being written: reads make it from the frames, and the
// next scrub writes it anew.
//
//  1. Only frames are asked, once all of them are found whole. The footer states
//     no more as synced than they do.
//  2. It is written in its place, behind the last frame, where nothing else is:
//     the segment that follows says that this one was sealed there. A copy of the
//     segment would need its room and its time.
//  3. It is synced, and only then counts as written. A stop before leaves the old
//     bytes, the new ones or some of both: the checksums tell, whoever reads goes
//     by the frames, and the next scrub begins again.

// errNoIndex: nothing stands where the index should. A crash or a full disk may
// have kept it from being written.
var errNoIndex = errors.New("there is none")

// indexDue reports whether a segment was given a footer: it is compacted, or the
// next one is a plain roll. Before any other next one the segment may have ended
// with a crash, a failed write or a superseded suffix, and what stands behind its
// last live frame is no part of the log.
func indexDue(h, next *segHeader) bool {
	return h.isCompacted() || next != nil && !next.isSynced()
}

// checkIndex returns why the footer behind the frames that p has gone over cannot
// be used.
func checkIndex(f source, p progress) error {
	if size, err := f.Size(); err == nil && zerosOnly(f, p.end, uint32(min(size, 1<<32-1))) {
		return errNoIndex
	}
	fr, payload, err := readFrame(f, p.sealing, p.end)
	if err == nil && fr.kind != kindFooter {
		err = fmt.Errorf("%w: no footer", errFrameKind)
	}
	var got progress
	if err == nil {
		got, _, err = parseSummary(&fr, payload, p.sealing, p.end)
	}
	if err != nil {
		return err
	}
	p.close()
	// The commit may be another than in the frames: recovery keeps it within the
	// log, and the footer is the first to say so.
	got.hard.Commit = p.hard.Commit
	if got.chain != p.chain || got.count != p.count || got.lastIndex != p.lastIndex || got.lastTerm != p.lastTerm || got.nextOffset != p.nextOffset ||
		got.maxTime != p.maxTime || got.hard != p.hard || !slices.Equal(got.blocks, p.blocks) || !slices.Equal(got.runs, p.runs) {
		return errors.New("it does not describe the frames before it")
	}
	return nil
}

// footer is the whole footer of a segment whose frames end at p.
func (p progress) footer() ([]byte, error) {
	p.close()
	payload := p.summary(kindFooter)
	b := make([]byte, frameHeader+align8(len(payload)))
	if int64(p.end)+int64(len(b)) > 1<<32-1 {
		return nil, fmt.Errorf("%w: the segment would grow beyond 4 GiB", ErrRound)
	}
	f := frame{kind: kindFooter, index: p.lastIndex, term: p.lastTerm, base: p.nextOffset, synced: p.stated, previous: p.chain}
	f.put(b, payload, p.sealing, p.end)
	copy(b[frameHeader:], payload)
	return b, nil
}

// indexOf reports whether a live segment that ends at end should have a footer
// there, and whether it is sealed, so that nothing else can come there.
func (l *Log) indexOf(s *segment, end uint32) (due, sealed bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := slices.Index(l.mu.segs, s)
	if i < 0 || s.p.end != end {
		return false, false
	}
	var next *segHeader
	if sealed = i+1 < len(l.mu.segs); sealed {
		next = &l.mu.segs[i+1].header
	}
	return s.footer == end || indexDue(&s.header, next), sealed
}

// mendIndex writes a segment's footer anew. p has gone over all of its frames.
func (l *Log) mendIndex(s *segment, p progress) error {
	l.trimming.Lock() // until it is written, the segment's name means this file
	defer l.trimming.Unlock()
	if err := errors.Join(l.ready(), l.store.writable(true)); err != nil {
		return err
	}
	if due, sealed := l.indexOf(s, p.end); !due || !sealed {
		return ErrNotSealed
	}
	b, err := p.footer()
	if err != nil {
		return err
	}
	if err := l.overwrite(s, b, p.end); err != nil {
		return err
	}
	l.mu.Lock()
	if s.p.end == p.end { // a conflict may have superseded a part of it
		s.footer, s.size = p.end, int64(p.end)+int64(len(b))
	}
	l.mu.Unlock()
	l.store.handles.drop(s) // what was read of the old one
	return nil
}

// overwrite writes b into a sealed segment and makes it durable.
func (l *Log) overwrite(s *segment, b []byte, at uint32) (err error) {
	f, err := l.store.fs.OpenWrite(l.path(s.name))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// What is overwritten must never be a part of another file.
	h, err := readHeader(f)
	if err == nil && h.crc != s.header.crc {
		err = fmt.Errorf("the segment header has changed: checksum %08x, was %08x", h.crc, s.header.crc)
	}
	if err != nil {
		return err
	}
	err = l.store.onDisk(true, func() error {
		_, err := f.WriteGather([][]byte{b}, int64(at))
		return err
	})
	switch {
	case errors.Is(err, record.ErrDiskFull):
		return err
	case err != nil:
		return l.store.goOffline(err)
	}
	if err := f.Sync(); err != nil {
		return l.store.goOffline(err)
	}
	return nil
}
