package storage

import (
	"fmt"
	"path"
)

// ScrubMark is how far the scrubbing of a store's logs came, so that it goes on
// there after a restart.
type ScrubMark struct {
	// Topic, Partition and Seq are the last segment that was read. Began is when
	// the pass began, in ms, 0 when none is under way.
	Topic     string
	Partition int32
	Seq       uint32
	Began     int64
	Bytes     int64 // read in this pass
	Found     int64 // logs found damaged in this pass
	Done      int64 // when the last whole pass ended, ms; 0: never
}

// scrubName is a hint: losing it costs reading some segments once more.
const scrubName = "scrub"

const scrubFormat = "topic=%q partition=%d segment=%d began=%d bytes=%d found=%d done=%d\n"

func (m ScrubMark) encode() []byte {
	return fmt.Appendf(nil, scrubFormat, m.Topic, m.Partition, m.Seq, m.Began, m.Bytes, m.Found, m.Done)
}

// parseScrubMark reads what encode wrote; anything else is no mark.
func parseScrubMark(b []byte) (m ScrubMark) {
	if n, err := fmt.Sscanf(string(b), scrubFormat, &m.Topic, &m.Partition, &m.Seq, &m.Began, &m.Bytes, &m.Found, &m.Done); err != nil || n != 7 {
		return ScrubMark{}
	}
	return m
}

// ScrubMark reads the mark; zero when there is none that can be read.
func (s *Store) ScrubMark() ScrubMark {
	return parseScrubMark(readSmall(s.fs, path.Join(s.dir, scrubName)))
}

// SetScrubMark keeps the mark.
func (s *Store) SetScrubMark(m ScrubMark) error {
	if err := s.writable(false); err != nil {
		return err
	}
	if err := replaceFile(s.fs, s.dir, scrubName, m.encode()); err != nil {
		return fmt.Errorf("keep how far the scrub came: %w", err)
	}
	return nil
}
