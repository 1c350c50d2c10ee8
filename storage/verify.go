package storage

import (
	"fmt"
	"slices"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Report is what Verify found.
type Report struct {
	Logs []LogReport `json:"logs"`
}

// Damaged reports whether any log is damaged or decayed.
func (r Report) Damaged() bool {
	return slices.ContainsFunc(r.Logs, func(l LogReport) bool { return l.State == "damaged" || l.State == "decayed" })
}

// LogReport describes one log. State is "ok", "torn" (the power or a kill took
// the end, nothing that was acknowledged is missing), "damaged" (bytes that
// were synced have changed or are missing), "decayed" (the same of an index, which
// says nothing that the entries do not: a running node writes it anew) or "empty"
// (a crash cut its creation short). An index that is missing in a way that a crash
// leaves, too, changes no state: Detail tells of it.
type LogReport struct {
	Dir         string          `json:"dir"`
	Log         string          `json:"log,omitempty"`
	TopicID     string          `json:"topic_id,omitempty"`
	State       string          `json:"state"`
	Detail      string          `json:"detail,omitempty"`
	Quarantined string          `json:"quarantined,omitempty"` // since an earlier run, why
	FirstIndex  uint64          `json:"first_index"`
	LastIndex   uint64          `json:"last_index"`
	BaseOffset  int64           `json:"base_offset"`
	NextOffset  int64           `json:"next_offset"`
	Commit      uint64          `json:"commit"`
	Segments    []SegmentReport `json:"segments"`
}

// SegmentReport describes one file. State is "sealed", "active" (the newest),
// "torn" (the newest, with an unusable end), "dead" (superseded or never
// finished: no part of the log), "decayed" (its index) or "damaged".
type SegmentReport struct {
	File       string `json:"file"`
	State      string `json:"state"`
	Detail     string `json:"detail,omitempty"`
	Bytes      int64  `json:"bytes"`
	End        int64  `json:"end"` // where its live frames end
	FirstIndex uint64 `json:"first_index"`
	LastIndex  uint64 `json:"last_index"`
	BaseOffset int64  `json:"base_offset"`
	NextOffset int64  `json:"next_offset"`
	Compacted  bool   `json:"compacted,omitempty"` // entries are missing on purpose
	Entries    uint64 `json:"entries"`
	Batches    uint64 `json:"batches"`
	Records    uint64 `json:"records"`
}

// Verify reads every byte of every log in dir, a data directory or one log's,
// checks all checksums and the order, and tells torn from damaged. It changes
// nothing. An error means that it could not look.
func Verify(fsys vfs.FS, dir string) (Report, error) {
	dirs, release, err := offlineLogs(fsys, dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", dir, err)
	}
	defer release()
	var rep Report
	for _, d := range dirs {
		one, err := verifyLog(fsys, d)
		if err != nil {
			return rep, fmt.Errorf("verify %s: %w", d, err)
		}
		rep.Logs = append(rep.Logs, one)
	}
	return rep, nil
}

func verifyLog(fsys vfs.FS, dir string) (LogReport, error) {
	rep := LogReport{Dir: dir, State: "ok"}
	r, err := inspect(fsys, dir)
	if err != nil {
		return rep, err
	}
	defer r.close()
	marker, err := readMarker(fsys, dir)
	if err != nil {
		return rep, err
	}
	if marker != nil {
		rep.Quarantined = marker.Error()
	}
	rep.describe(r)
	for _, s := range r.files {
		one := r.verifySegment(s)
		rep.note(&one)
		rep.Segments = append(rep.Segments, one)
	}
	return rep, nil
}

// note takes over the worst that is known of a segment, of two the first.
func (rep *LogReport) note(s *SegmentReport) {
	switch {
	case s.State == "damaged" && rep.State != "damaged", s.State == "decayed" && rep.State != "damaged" && rep.State != "decayed":
		rep.State = s.State
	case s.State != "sealed" || s.Detail == "" || rep.Detail != "":
		return
	}
	rep.Detail = fmt.Sprintf("%s: %s", s.File, s.Detail)
}

// describe fills in what recovery says of the log as a whole.
func (rep *LogReport) describe(r *recovery) {
	if r.id != nil {
		rep.Log, rep.TopicID = r.id.String(), r.id.ID.String()
	}
	switch n := len(r.chain); {
	case r.damage != nil:
		rep.State, rep.Detail = "damaged", r.damage.Error()
	case n == 0:
		rep.State, rep.Detail = "empty", "no segment was ever completed"
	case !r.chain[n-1].clean || r.chain[n-1].header.seq != r.files[len(r.files)-1].header.seq:
		rep.State, rep.Detail = "torn", "the log ends at "+r.chain[n-1].name+", nothing states that more was synced"
	}
	if n := len(r.chain); n > 0 {
		first, last := r.chain[0], r.chain[n-1]
		rep.FirstIndex, rep.BaseOffset = first.firstIndex(), first.base()
		rep.LastIndex, rep.NextOffset = last.p.lastIndex, last.p.nextOffset
		rep.Commit = clamp(last.p.hard, r.committed(), last.p.lastIndex).Commit
	}
}

// verifySegment reads one file to its end.
func (r *recovery) verifySegment(s *found) SegmentReport {
	rep := SegmentReport{File: s.name, State: "sealed", Bytes: s.size, FirstIndex: s.firstIndex(), BaseOffset: s.base(), Compacted: s.header.isCompacted()}
	live := slices.Index(r.chain, s)
	switch last := live == len(r.chain)-1; {
	case r.damage != nil && r.damage.File == s.path:
		rep.State, rep.Detail = "damaged", fmt.Sprintf("at byte %d: %v", r.damage.Offset, r.damage.Err)
	case live < 0:
		rep.State, rep.Detail = "dead", "no part of the log"
		if s.bad != nil {
			rep.Detail = s.bad.Error()
		}
		return rep
	case last && !s.clean:
		rep.State, rep.Detail = "torn", fmt.Sprintf("at byte %d: %v", s.p.end, s.stop)
	case last && s.footer == 0:
		rep.State = "active"
	}
	frames, err := rep.read(s)
	switch {
	case rep.State == "damaged":
	case err != nil:
		rep.State, rep.Detail = "damaged", err.Error()
	case s.footer == s.p.end || indexDue(&s.header, r.after(live)):
		rep.index(s, frames)
	}
	return rep
}

// after is the header of the segment that follows one of the chain, if any does.
func (r *recovery) after(live int) *segHeader {
	if live+1 < len(r.chain) {
		return &r.chain[live+1].header
	}
	return nil
}

// index checks the footer of a segment whose frames are whole.
func (rep *SegmentReport) index(s *found, frames progress) {
	err := checkIndex(s.f, frames)
	if err == nil {
		return
	}
	rep.Detail = fmt.Sprintf("at byte %d: index: %v; nothing is missing, and the node writes it anew when it next checks its disk", frames.end, err)
	if s.footer == s.p.end {
		rep.State = "decayed"
	}
}

// read goes over all live frames of a segment and returns how far it came.
func (rep *SegmentReport) read(s *found) (progress, error) {
	if s.bad != nil {
		return s.p, s.bad
	}
	rep.LastIndex, rep.NextOffset, rep.End = s.firstIndex()-1, s.base(), int64(s.header.length)
	p, err := verify(s.f, begin(&s.header), s.p.end, func(f *frame, payload []byte) error {
		if f.isEntry() {
			rep.Entries++
		}
		if f.kind != KindData {
			return nil
		}
		b := record.Batch(payload)
		rep.Batches++
		rep.Records += uint64(max(b.Count(), 0))
		return b.Check()
	})
	frames := p
	p.finish(&s.header)
	rep.LastIndex, rep.NextOffset, rep.End = p.lastIndex, p.nextOffset, int64(p.end)
	switch {
	case err != nil:
		return p, fmt.Errorf("at byte %d: %w", p.end, err)
	case p.lastIndex != s.p.lastIndex || p.nextOffset != s.p.nextOffset || p.end != s.p.end:
		return p, fmt.Errorf("the live frames end at byte %d with index %d, offset %d; want byte %d, index %d, offset %d",
			p.end, p.lastIndex, p.nextOffset, s.p.end, s.p.lastIndex, s.p.nextOffset)
	}
	return frames, nil
}
