package storage

import (
	"errors"
	"fmt"

	"github.com/entrepot-hub/entrepot/record"
)

// Torn or damaged (Invariant 8). A log may end early because the power went
// before its last frames were synced, which costs nothing that was
// acknowledged, or because bytes that were synced have changed. Whatever was
// written later tells: if any readable header or frame states a synced position
// behind the place where the log ends, that place was synced once.

// judge decides about the end of the log and sets damage.
func (r *recovery) judge() error {
	if s, err := r.missingBefore(); s != nil || err != nil {
		r.damage = damageAt(s, 0)
		return err
	}
	end, last := position{}, (*found)(nil)
	if n := len(r.chain); n > 0 {
		last = r.chain[n-1]
		end = position{last.header.seq, last.p.end}
	} else if len(r.files) > 0 {
		end = position{r.files[0].header.seq, 0}
	}
	for _, s := range r.files {
		if s.header.seq < end.seq || s == last && s.clean {
			continue
		}
		stated, err := s.statements(end)
		if err != nil {
			return s.unreadable(err)
		}
		if end.less(stated) {
			r.damage = r.place(last)
			r.damage.Err = fmt.Errorf("%w; %s states that the log was synced up to %s", r.damage.Err, s.name, stated)
			return nil
		}
	}
	return nil
}

// missingBefore finds a segment with an unreadable header that the chain
// needs: the one before its first, which has a lower number than the first
// names when it stands for several.
func (r *recovery) missingBefore() (*found, error) {
	if len(r.chain) == 0 || r.chain[0].header.isReset() {
		return nil, nil
	}
	for _, s := range r.files {
		if s.bad != nil && s.header.seq <= r.chain[0].header.prevSeq {
			return s, nil
		}
	}
	return nil, nil
}

// place is where the log ends although it should not: at a bad frame, at an
// unreadable header behind a clean end, or where a segment is missing.
func (r *recovery) place(last *found) *record.CorruptionError {
	if last == nil {
		return damageAt(r.files[0], 0)
	}
	for _, s := range r.files {
		if last.clean && s.bad != nil && s.header.seq > last.header.seq {
			return damageAt(s, 0)
		}
	}
	return damageAt(last, last.p.end)
}

func damageAt(s *found, pos uint32) *record.CorruptionError {
	if s == nil {
		return nil
	}
	err := s.bad
	if err == nil {
		err = s.stop
	}
	if err == nil {
		err = errors.New("the log ends here, and later segments do not follow")
	}
	return &record.CorruptionError{File: s.path, Offset: int64(pos), Err: err}
}

// statements returns the highest position that the segment's header, or a
// frame of it behind end, states. The frames are found by their magic number:
// nothing before them needs to be whole.
func (s *found) statements(end position) (position, error) {
	if s.bad == nil {
		from := uint32(s.header.length)
		if s.header.seq == end.seq {
			from = end.pos
		}
		stated, err := searchStatements(s.f, s.header.sealing(), from, s.size)
		return maxPosition(stated, s.header.synced), err
	}
	var highest position
	for _, salt := range saltsOf(s.f) {
		stated, err := searchStatements(s.f, sealing{salt, s.header.seq}, 0, s.size)
		if err != nil {
			return highest, err
		}
		highest = maxPosition(highest, stated)
	}
	return highest, nil
}

// searchStatements looks for frames from pos on, at every place where one can
// stand.
func searchStatements(f source, s sealing, pos uint32, size int64) (position, error) {
	const overlap = frameHeader + headBytes
	var highest position
	at := int64(align8(int(pos)))
	b := make([]byte, max(0, min(size-at, 1<<20))+overlap)
	for ; at < size; at += 1 << 20 {
		n, err := readFull(f, b, at)
		if err != nil {
			return highest, err
		}
		for i := 0; i+frameHeader <= n && i < 1<<20; i += 8 {
			if b[i] != frameMagic>>16 {
				continue
			}
			if fr, err := parseHead(b[i:n], s, uint32(at)+uint32(i)); err == nil {
				highest = maxPosition(highest, fr.synced)
			}
		}
	}
	return highest, nil
}
