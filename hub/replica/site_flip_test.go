package replica

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// protected draws a byte of a log that must not change unseen: in a live part
// of a segment, below the highest position that anything in the log states to
// be synced.
func (s *simSite) protected(mem *vfs.Mem, dir string) (file string, at int64, ok bool) {
	rep, err := storage.Verify(mem, dir)
	if err != nil || len(rep.Logs) != 1 || rep.Logs[0].State == "damaged" {
		return "", 0, false // nothing of it is durable yet
	}
	var text bytes.Buffer
	if err := storage.Dump(mem, dir, &text, true); err != nil {
		s.fail("dump %s: %v", dir, err)
	}
	var seq, pos uint64
	var frames []dumpedFrame
	for dec := json.NewDecoder(&text); dec.More(); {
		var f dumpedFrame
		if err := dec.Decode(&f); err != nil {
			s.fail("dump %s: %v", dir, err)
		}
		var fs, fp uint64
		if _, err := fmt.Sscanf(f.Synced, "%d:%d", &fs, &fp); err == nil && (fs > seq || fs == seq && fp > pos) {
			seq, pos = fs, fp
		}
		frames = append(frames, f)
	}
	var live []storage.SegmentReport
	for _, g := range rep.Logs[0].Segments {
		if g.State == "sealed" || g.State == "active" || g.State == "torn" {
			live = append(live, g)
		}
	}
	if len(live) == 0 {
		return "", 0, false
	}
	g := live[s.rng.IntN(len(live))]
	var mine uint64
	fmt.Sscanf(g.File, "%d-", &mine)
	end := g.End
	switch {
	case mine > seq:
		return "", 0, false
	case mine == seq:
		end = min(end, int64(pos))
	}
	at, ok = s.placeIn(frames, g.File, end)
	return dir + "/" + g.File, at, ok
}

// dumpedFrame is a line of a dump.
type dumpedFrame struct {
	File   string `json:"file"`
	At     int64  `json:"at"`
	What   string `json:"what"`
	Length int64  `json:"length"`
	Synced string `json:"synced"`
}

// placeIn draws a kind of place first, so that the rare ones come as often: the
// segment's header, a frame's header, a payload, the index.
func (s *simSite) placeIn(frames []dumpedFrame, file string, end int64) (int64, bool) {
	const frameHeader = 56
	kind := s.rng.IntN(4)
	var places [][2]int64
	for _, f := range frames {
		if f.File != file || f.What == "end" || f.At >= end {
			continue
		}
		from, to := f.At, f.At+f.Length
		is := kind
		switch {
		case f.What[:min(6, len(f.What))] == "header":
			is = 0
		case f.What == "footer" || f.What == "checkpoint":
			is = 3
		case kind == 1:
			to = min(to, from+frameHeader)
		case kind == 2:
			from = min(to, from+frameHeader)
		default:
			continue
		}
		if to = min(to, end); is == kind && from < to {
			places = append(places, [2]int64{from, to})
		}
	}
	if len(places) == 0 {
		return 0, false
	}
	p := places[s.rng.IntN(len(places))]
	return p[0] + s.rng.Int64N(p[1]-p[0]), true
}
