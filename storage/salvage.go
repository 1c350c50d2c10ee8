package storage

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Salvage is what can still be read of a log, whatever is damaged in it: the
// way to repair one that no other replica can (Invariant 8). It reads around the
// damage, where recovery stops at it:
//
//  1. Segments whose headers are whole are joined as recovery joins them, but
//     one that begins where everything before had been synced follows although
//     what is before it cannot be read to its end.
//  2. Their frames are read one after the other. Behind bytes that are no frame
//     the next one is found by its magic number: its checksum covers the place
//     where it stands, the segment and the segment's salt, so that nothing else
//     passes for it.
//  3. What is missing between two frames they say themselves: each has an index
//     and an offset, those that are no entries too.
//
// Nothing is changed.
type Salvage struct {
	Log  LogID
	Dir  string
	Gaps []Gap
	// Marker is why the log is quarantined, "" if it is not.
	Marker string
	// Unknown are segments of which neither the header nor a frame can be read,
	// and of which nothing else says that they held anything: most likely a crash
	// left them.
	Unknown []string
	// Rewritten is the last entry of the newest segment that has to be written
	// anew; 0 for none.
	Rewritten uint64
	// Begin is the first offset that is left.
	Begin int64
	// End is the state behind the last entry, without Aux: no index and no
	// offset below it is given again.
	End State

	r      *recovery
	groups []*group
	stated position // the highest statement in any file
	front  bool     // what it began with is lost
}

// Gap is a place of a log where something cannot be read.
type Gap struct {
	File     string // name inside the log's directory
	From, To int64  // bytes: From ≤ b < To; To is -1 where a segment is missing
	Reason   string
	// The entries Index ≤ i < NextIndex and the offsets Offset ≤ o < NextOffset
	// are lost; none if they are equal. In a compacted segment some of them had
	// been left out before.
	Index, NextIndex   uint64
	Offset, NextOffset int64
	// Before and After are the largest times of the batches around it, ms; -1
	// for none. After is that of the batch itself, if Head is there.
	Before, After int64
	// Head is the header of the batch that is lost, if just that can be read of
	// it: then it is exactly one. It cannot be a control entry either.
	Head record.Batch
	// Control says that the one entry lost is a control entry.
	Control bool
}

// Lost reports whether entries are lost at the gap.
func (g *Gap) Lost() bool { return g.Index < g.NextIndex }

// group is a segment with a readable header, and those behind it of which only
// the frames can be read.
type group struct {
	head *found
	more []*found
	next *segHeader // of the group that follows; nil for the last
	gaps []Gap
	bad  bool // it has to be written anew
	end  progress
	tail position // what the next header names as the place that it follows
}

// Damaged reports whether there is something to repair.
func (s *Salvage) Damaged() bool {
	return s.Marker != "" || s.front || slices.ContainsFunc(s.groups, func(g *group) bool { return g.bad })
}

// Salvages are the logs in a directory that nobody else uses meanwhile.
type Salvages struct {
	Logs    []*Salvage // those that are damaged or quarantined
	Sound   int        // how many are neither
	Refused []error    // of which nothing can be read
	store   *Store
	release func()
}

// OpenSalvages reads all logs in dir, a data directory or one log's in there,
// which no node may be running on. With change, Repair may be called.
func OpenSalvages(fsys vfs.FS, dir string, change bool) (*Salvages, error) {
	s := &Salvages{}
	if err := s.open(fsys, dir, change); err != nil {
		s.Close()
		return nil, fmt.Errorf("repair %s: %w", dir, err)
	}
	return s, nil
}

func (s *Salvages) open(fsys vfs.FS, dir string, change bool) error {
	data, only := dir, ""
	if _, err := fsys.Stat(path.Join(dir, formatName)); err != nil {
		data, only = path.Dir(dir), path.Base(dir)
		if _, err := fsys.Stat(path.Join(data, formatName)); err != nil || !logDirPattern.MatchString(only) {
			return fmt.Errorf("%w: it is neither a node's data directory nor the directory of a log in one", ErrNotFound)
		}
	}
	var err error
	if change {
		s.store, err = Open(fsys, data, Config{Owner: "entrepot log repair", ReserveBytes: -1})
	} else {
		_, s.release, err = offlineLogs(fsys, data)
	}
	if err != nil {
		return err
	}
	names, err := fsys.List(data)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !logDirPattern.MatchString(name) || only != "" && name != only {
			continue
		}
		if err := s.add(fsys, path.Join(data, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s *Salvages) add(fsys vfs.FS, dir string) error {
	one, err := salvage(fsys, dir)
	if err == nil && one != nil && one.Marker != "" && one.End.Index == 0 {
		// A node has begun an empty log in the place of this one, to be filled from
		// a leader that there is none of, and set the old folder aside, because no
		// header could be read. Others of that name are none of this.
		aside, found := salvage(fsys, dir+damagedSuffix)
		if found == nil && aside != nil && !slices.ContainsFunc(aside.groups, func(g *group) bool { return g.head.mended == nil }) {
			aside.Dir, aside.Marker, one = dir, one.Marker, aside
		}
	}
	switch {
	case errors.Is(err, errHopeless):
		s.Refused = append(s.Refused, err)
		return nil
	case err != nil:
		return err
	case one == nil || !one.Damaged():
		s.Sound++
	default:
		s.Logs = append(s.Logs, one)
	}
	return nil
}

// Close gives the directory back.
func (s *Salvages) Close() error {
	for _, l := range s.Logs {
		l.r.close()
	}
	if s.release != nil {
		s.release()
	}
	if s.store != nil {
		return s.store.Close()
	}
	return nil
}

// errHopeless: a log of which so much is damaged that it cannot be put together
// again from what is left.
var errHopeless = errors.New("it cannot be repaired")

// salvage reads a log. It is nil if there is nothing in it, as a crash leaves it.
func salvage(fsys vfs.FS, dir string) (*Salvage, error) {
	r := &recovery{fs: fsys, dir: dir}
	defer r.close()
	err := r.readHeaders()
	marker := (*record.CorruptionError)(nil)
	if err == nil {
		marker, err = readMarker(fsys, dir)
	}
	s := &Salvage{Dir: dir, r: r}
	if err == nil {
		s.mendHeaders()
		err = s.findStatements()
	}
	switch {
	case err != nil:
		return nil, err
	case r.id == nil && marker == nil && s.stated == (position{}):
		return nil, nil
	case r.id == nil:
		return nil, fmt.Errorf("%s: %w: no segment has a header that can be read", dir, errHopeless)
	}
	s.Log = *r.id
	if marker != nil {
		s.Marker = marker.Error()
	}
	if err := s.join(); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	for _, g := range s.groups {
		if err := s.survey(g); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		if one := g.head.mended; one != nil {
			h := &g.head.header.state
			one.Index, one.NextIndex, one.Offset, one.NextOffset = h.Index+1, h.Index+1, h.NextOffset, h.NextOffset
			g.gaps, g.bad = append([]Gap{*one}, g.gaps...), true
		}
		s.Gaps = append(s.Gaps, g.gaps...)
		if g.bad {
			s.Rewritten = g.end.lastIndex
		}
	}
	last := &s.groups[len(s.groups)-1].end
	s.End = State{Index: last.lastIndex, Term: last.lastTerm, NextOffset: last.nextOffset, Hard: last.hard}
	s.noteAfter()
	return s, nil
}

// mendHeaders reads the headers in which just one bit has flipped.
func (s *Salvage) mendHeaders() {
	for _, f := range s.r.files {
		if f.bad == nil {
			continue
		}
		h, at, err := mendHeader(f.f)
		f.f.rest()
		seq, first, _ := parseSegmentName(f.name)
		if err != nil || h.seq != seq || h.state.Index+1 != first || s.r.id != nil && h.id != *s.r.id {
			continue
		}
		f.header, f.bad, f.mended = h, nil, &Gap{File: f.name, From: at, To: at + 1, Reason: "one bit of the segment header had flipped, and is put right", Before: -1, After: -1}
		f.p = begin(&f.header)
		s.r.stated = maxPosition(s.r.stated, h.synced)
		s.r.id = &f.header.id
	}
}

// findStatements looks for what the log says of itself that was synced.
func (s *Salvage) findStatements() error {
	for _, f := range s.r.files {
		stated, err := f.statements(position{})
		f.f.rest()
		if err != nil && !isIO(err) {
			return err
		}
		s.stated = maxPosition(s.stated, stated)
	}
	return nil
}

// join builds the groups.
func (s *Salvage) join() error {
	for _, f := range s.r.files {
		if f.bad != nil {
			continue
		}
		h := &f.header
		if len(s.groups) == 0 || h.isReset() {
			s.groups = append(s.groups[:0], &group{head: f})
			continue
		}
		at, live, err := s.follows(f)
		if err != nil {
			return err
		}
		if live {
			s.groups = append(s.groups[:at+1], &group{head: f})
		}
		if live && at >= 0 {
			s.groups[at].next = h
		}
	}
	s.loseFront()
	return s.adoptHeadless()
}

// loseFront notes the segments that the log began with, if their headers cannot be
// read: nothing else holds the state that their frames begin with, so that the
// log begins with the next one.
func (s *Salvage) loseFront() {
	h := &s.groups[0].head.header
	if s.Begin = h.state.NextOffset; h.isReset() {
		return
	}
	for _, f := range s.r.files {
		if f.bad == nil || f.header.seq > h.prevSeq {
			continue
		}
		_, first, _ := parseSegmentName(f.name)
		lost := Gap{
			File: f.name, To: f.size, Reason: "the header of the segment that the log begins with is damaged, and nothing else holds the state before it: " + f.bad.Error(),
			Index: min(first, h.state.Index+1), NextIndex: h.state.Index + 1, NextOffset: h.state.NextOffset, Before: -1, After: -1,
		}
		for _, salt := range saltsOf(f.f) {
			in := sealing{salt, f.header.seq}
			if at := nextFrame(f.f, in, headerFixed, uint32(min(f.size, math.MaxUint32))); int64(at) < f.size {
				if fr, _, err := readFrame(f.f, in, at); err == nil {
					lost.Offset = min(fr.base, lost.NextOffset)
				}
			}
		}
		f.f.rest()
		s.Gaps, s.front = append(s.Gaps, lost), true
		return // those behind it are part of the same gap
	}
}

// follows reports whether a segment is part of the log, and behind which group
// it comes; -1 for a segment that the log begins with, as far as headers can be read.
func (s *Salvage) follows(f *found) (at int, live bool, err error) {
	h := &f.header
	newest := len(s.groups) - 1
	for newest > 0 && s.groups[newest].head.header.state.Index > h.state.Index {
		newest-- // it takes that one back, whatever it names
	}
	tail := s.groups[newest].head.header.tail(0).seq
	if h.seq <= tail {
		return 0, false, nil // its entries are in the one that stands for it
	}
	named := position{h.prevSeq, h.prevEnd}
	if h.prevSeq > tail {
		// What it names is missing, or has no header any more.
		return newest, h.isSynced() || !s.stated.less(named), nil
	}
	for at = newest; at >= 0 && s.groups[at].head.header.tail(0).seq != h.prevSeq; at-- {
	}
	switch {
	case at < 0 && h.isSynced():
		return -1, true, nil // what is before the first one that can be read goes on here
	case at < 0 || h.state.Index < s.groups[at].head.header.state.Index:
		return 0, false, nil
	case h.isSynced():
		return at, true, nil
	case at < newest:
		return 0, false, nil // it followed something that was superseded
	case !s.stated.less(named):
		return at, true, nil // everything before it had been synced
	}
	live, err = s.r.continues(s.groups[at].head, f)
	s.groups[at].head.f.rest()
	return at, live, err
}

// adoptHeadless gives the segments whose headers cannot be read to the groups
// behind which they come, if they are part of the log.
func (s *Salvage) adoptHeadless() error {
	for _, f := range s.r.files {
		if f.bad == nil {
			continue
		}
		at := len(s.groups) - 1
		for at >= 0 && s.groups[at].head.header.seq > f.header.seq {
			at--
		}
		if at < 0 || f.header.seq <= s.groups[at].head.header.tail(0).seq {
			continue
		}
		g := s.groups[at]
		if g.next != nil && f.header.seq > g.next.prevSeq || g.next == nil && s.stated.seq < f.header.seq {
			if f.size > 0 {
				s.Unknown = append(s.Unknown, f.name)
			}
			continue // it was never finished: nothing came of it
		}
		if _, first, _ := parseSegmentName(f.name); first <= g.head.header.state.Index {
			return fmt.Errorf("%w: the header of segment %s is damaged, which took entries back that stand two segments before", errHopeless, f.name)
		}
		g.more = append(g.more, f)
	}
	return nil
}

// noteAfter fills in the times behind the gaps.
func (s *Salvage) noteAfter() {
	after := int64(-1)
	for i := len(s.Gaps) - 1; i >= 0; i-- {
		if g := &s.Gaps[i]; g.After < 0 {
			g.After = after
		} else {
			after = g.After
		}
	}
}

// Walker is told what a log holds, in order.
type Walker struct {
	// State is the state that a header holds, before what follows it.
	State func(State) error
	// Entry's payload may be used until it returns.
	Entry func(Entry) error
	Gap   func(Gap) error
}

// Walk reads the log once more.
func (s *Salvage) Walk(w Walker) error {
	for _, g := range s.groups {
		if err := w.State(g.head.header.state); err != nil {
			return err
		}
		if _, err := s.walk(g, func(f *frame, payload []byte) error {
			if !f.isEntry() {
				return nil
			}
			return w.Entry(entryOf(f, payload))
		}, w.Gap); err != nil {
			return err
		}
	}
	return nil
}
