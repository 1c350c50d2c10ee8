package storage

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Recovery of one log (Invariant 9). The store has made everything durable
// that the page cache held before this reads anything.
//
//  1. Read every segment's header, oldest number first, and join those that
//     follow each other into a chain. What a header says of the segments
//     before it is taken on trust only when it was written after they had been
//     synced.
//  2. Read the newest segment's frames, from its last checkpoint that is
//     proven synced, to where they end.
//  3. Decide whether that end is torn or damaged: judge.go.
//
// Nothing is changed on the disk, but for the marker of a damaged log, so
// recovering again gives the same.

// found is one file of a log's directory.
type found struct {
	segment
	path    string
	bad     error // why its header cannot be read, if so
	f       *lazyFile
	scanned bool  // p is known from a footer or the frames
	stop    error // why reading its frames stopped before the end of the file
	clean   bool  // the frames end where the file ends, or zeros follow
	rest    int64 // bytes behind the footer: space that was never written
	mended  *Gap  // salvage: where a bit of the header was put right
}

// recovery is what recovering a log found.
type recovery struct {
	fs       vfs.FS
	dir      string
	id       *LogID     // of the first readable header
	files    []*found   // by number
	chain    []*found   // live
	hint     position   // a checkpoint said to be synced
	stated   position   // the highest statement in a header
	unready  []deadFile // compacted segments that never took their place
	skipOver bool       // a mistake that a test plants: see Store.planted
	damage   *record.CorruptionError
}

var segmentPattern = regexp.MustCompile(`^(\d{10})-(\d{20})\.log$`)

// parseSegmentName reads what segmentName writes.
func parseSegmentName(name string) (seq uint32, first uint64, ok bool) {
	m := segmentPattern.FindStringSubmatch(name)
	if m == nil {
		return 0, 0, false
	}
	n, err1 := strconv.ParseUint(m[1], 10, 32)
	first, err2 := strconv.ParseUint(m[2], 10, 64)
	return uint32(n), first, err1 == nil && err2 == nil && n > 0 && first > 0
}

// run recovers. An error means that it could not be done now; damage is no
// error of this kind.
func (r *recovery) run() error {
	if err := r.readHeaders(); err != nil {
		return err
	}
	if err := r.join(); err != nil {
		return err
	}
	if n := len(r.chain); n > 0 && !r.chain[n-1].scanned {
		if err := r.chain[n-1].scanFrom(r.hint); err != nil {
			return err
		}
	}
	return r.judge()
}

func (r *recovery) close() {
	for _, s := range r.files {
		s.f.rest()
	}
}

// lazyFile is a file that is open only while it is read: a log may have
// thousands of segments.
type lazyFile struct {
	fs   vfs.FS
	path string
	size int64
	f    vfs.File
}

func (l *lazyFile) ReadAt(p []byte, off int64) (n int, err error) {
	if l.f == nil {
		if l.f, err = l.fs.Open(l.path); err != nil {
			l.f = nil
			return 0, &openError{err}
		}
	}
	return l.f.ReadAt(p, off)
}

func (l *lazyFile) Size() (int64, error) { return l.size, nil }

// rest closes the file until it is read again.
func (l *lazyFile) rest() {
	if l.f != nil {
		_ = l.f.Close()
		l.f = nil
	}
}

// readHeaders opens the directory's segments.
func (r *recovery) readHeaders() error {
	names, err := r.fs.List(r.dir)
	if err != nil {
		return err
	}
	for _, name := range names { // sorted, which is by number
		seq, first, ok := parseSegmentName(name)
		if !ok {
			if err := r.noteUnready(name); err != nil {
				return err
			}
			continue
		}
		s := &found{path: r.dir + "/" + name}
		s.name, s.header.seq = name, seq
		info, err := r.fs.Stat(s.path)
		if err != nil {
			return err
		}
		s.size = info.Size
		s.f = &lazyFile{fs: r.fs, path: s.path, size: s.size}
		r.files = append(r.files, s)
		h, err := readHeader(s.f)
		s.f.rest()
		switch {
		case isIO(err):
			return s.unreadable(err)
		case errors.Is(err, errVersion):
			return fmt.Errorf("%w: %s: %w", ErrFormat, s.path, err)
		case err != nil:
			s.bad = err
		case h.seq != seq || h.state.Index+1 != first:
			s.bad = fmt.Errorf("the header says segment %d from index %d", h.seq, h.state.Index+1)
		case r.id != nil && h.id != *r.id:
			s.bad = fmt.Errorf("the header says that it belongs to %s with topic id %s", h.id, h.id.ID)
		default:
			s.header = h
			s.p = begin(&s.header)
			r.stated = maxPosition(r.stated, h.synced)
			r.id = &s.header.id
		}
	}
	return nil
}

// noteUnready notes a compacted segment that a crash left unfinished.
func (r *recovery) noteUnready(name string) error {
	target, ok := strings.CutSuffix(name, rewriteSuffix)
	if !ok {
		return nil
	}
	seq, _, ok := parseSegmentName(target)
	if !ok {
		return nil
	}
	info, err := r.fs.Stat(r.dir + "/" + name)
	if err == nil {
		r.unready = append(r.unready, deadFile{name, seq, info.Size})
	}
	return err
}

// join builds the chain of live segments.
func (r *recovery) join() error {
	for _, s := range r.files {
		if s.bad != nil {
			continue
		}
		h := &s.header
		if len(r.chain) == 0 || h.isReset() {
			r.chain = append(r.chain[:0], s)
			continue
		}
		if last := &r.chain[len(r.chain)-1].header; last.isCompacted() && h.seq <= last.compacted.lastSeq {
			continue // its entries are in the one that stands for it
		}
		follows, err := r.follows(s)
		if err != nil {
			return err
		}
		if follows || r.skipOver {
			r.chain[len(r.chain)-1].f.rest()
			r.chain = append(r.chain, s)
		}
	}
	return nil
}

// follows reports whether a segment continues the chain, and if so cuts the
// chain where it begins (Invariants 2, 8, 10).
func (r *recovery) follows(s *found) (bool, error) {
	h, at := &s.header, len(r.chain)-1
	if !h.isSynced() {
		return r.continues(r.chain[at], s)
	}
	for at >= 0 && r.chain[at].header.tail(0).seq != h.prevSeq {
		at--
	}
	if at < 0 || h.state.Index < r.chain[at].header.state.Index {
		return false, nil
	}
	before := r.chain[at]
	if before.header.isCompacted() {
		// All of it is committed: nothing supersedes a part.
		follows, err := r.continues(before, s)
		if follows {
			r.chain = r.chain[:at+1]
		}
		return follows, err
	}
	if before.scanned && before.p.lastIndex < h.state.Index {
		return false, nil
	}
	// The header was written when everything before it had been synced: it
	// tells where the one before ends, whatever else is in that file.
	before.p.end, before.p.maxTime, before.scanned = h.prevEnd, h.prevMaxTime, true
	before.p.lastIndex, before.p.lastTerm, before.p.nextOffset = h.state.Index, h.state.Term, h.state.NextOffset
	r.chain = r.chain[:at+1]
	return true, nil
}

// continues reports whether a segment begins exactly where the one before ends.
func (r *recovery) continues(before, s *found) (bool, error) {
	h := &s.header
	if before.header.tail(0).seq != h.prevSeq {
		return false, nil
	}
	if err := r.extent(before, s); err != nil {
		return false, err
	}
	p := &before.p
	return before.header.tail(p.end) == position{h.prevSeq, h.prevEnd} && p.lastIndex == h.state.Index && p.lastTerm == h.state.Term && p.nextOffset == h.state.NextOffset, nil
}

// extent finds where a segment ends that next may follow. Its footer tells, if
// something states that it was synced; a footer may survive a power cut that
// took frames before it.
func (r *recovery) extent(s, next *found) error {
	if s.scanned {
		return nil
	}
	p, pos, ok, err := readFooter(s.f, s.header.sealing(), s.size)
	if err != nil {
		return s.unreadable(err)
	}
	if s.header.isCompacted() {
		// It was synced before it got its name, its footer too.
		if !ok || pos != s.header.compacted.end {
			return s.scanFrom(r.hint)
		}
		p.hard, p.holes = s.p.hard, true
		s.p, s.footer, s.clean, s.scanned = p, pos, true, true
		s.p.finish(&s.header)
		return nil
	}
	if ok && !next.scanned && !(position{s.header.seq, pos}).less(r.stated) {
		if err := next.scanFrom(r.hint); err != nil {
			return err
		}
	}
	if ok && (position{s.header.seq, pos}).less(maxPosition(r.stated, next.p.stated)) {
		p.hard = s.p.hard
		s.p, s.footer, s.clean, s.scanned = p, pos, true, true
		return nil
	}
	return s.scanFrom(r.hint)
}

// scanFrom reads a segment's frames to where they end: from a checkpoint if
// the hint names one here and a frame behind it states that it was synced,
// else from the beginning.
func (s *found) scanFrom(hint position) error {
	if hint.seq == s.header.seq {
		if p, err := loadSummary(s.f, s.header.sealing(), hint.pos); err == nil {
			proof := position{s.header.seq, p.end}
			if err := s.scan(p); err != nil {
				return err
			}
			if !s.p.stated.less(proof) {
				return nil
			}
		}
	}
	return s.scan(begin(&s.header))
}

// scan reads a segment's frames from p on and notes why it stopped.
func (s *found) scan(p progress) error {
	end := uint32(min(s.size, 1<<32-1))
	footer := uint32(0)
	at := p.end
	p, err := verify(s.f, p, end, func(f *frame, _ []byte) error {
		if f.kind == kindFooter {
			footer = at
		}
		at += uint32(f.size())
		return nil
	})
	if isIO(err) {
		return s.unreadable(err)
	}
	s.p, s.stop, s.footer, s.scanned = p, err, footer, true
	s.clean = err == nil || zerosOnly(s.f, p.end, end)
	if footer != 0 {
		s.rest = s.size - int64(s.p.end)
		s.p.end = footer
	}
	s.p.finish(&s.header)
	return nil
}

// isIO tells an error of the disk, or of opening a file, from one about what
// is in it.
func isIO(err error) bool {
	_, disk := errors.AsType[*diskError](err)
	_, opening := errors.AsType[*openError](err)
	return disk || opening
}

// unreadable is an error of the disk under a segment. It is damage wherever it
// is: what cannot be read was written once.
func (s *found) unreadable(err error) error {
	if _, ok := errors.AsType[*openError](err); ok {
		return err
	}
	return &record.CorruptionError{File: s.path, Offset: int64(s.p.end), Err: err}
}

// zerosOnly reports whether nothing but zeros stands from pos on: space that
// was allocated and never written.
func zerosOnly(f source, pos, end uint32) bool {
	b := make([]byte, min(walkChunk, max(end, pos)-pos))
	for pos < end {
		n, err := readFull(f, b[:min(len(b), int(end-pos))], int64(pos))
		if err != nil || n == 0 {
			return false
		}
		for _, c := range b[:n] {
			if c != 0 {
				return false
			}
		}
		pos += uint32(n)
	}
	return true
}
