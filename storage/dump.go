package storage

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// dumpLine is one line of a dump: a segment header, a frame, or the end.
type dumpLine struct {
	File   string `json:"file"`
	At     int64  `json:"at"` // byte
	What   string `json:"what"`
	Length int64  `json:"length"` // bytes in the file
	Synced string `json:"synced,omitempty"`

	Index      *uint64 `json:"index,omitempty"`
	Term       *uint64 `json:"term,omitempty"`
	BaseOffset *int64  `json:"base_offset,omitempty"`
	Epoch      *int32  `json:"leader_epoch,omitempty"`
	LastOffset *int64  `json:"last_offset,omitempty"`
	Records    *int32  `json:"records,omitempty"`
	MaxTime    *int64  `json:"max_time_ms,omitempty"`
	Producer   *int64  `json:"producer_id,omitempty"`
	ProdEpoch  *int16  `json:"producer_epoch,omitempty"`
	Txn        bool    `json:"transactional,omitempty"`
	Marker     string  `json:"marker,omitempty"` // commit or abort
	Coord      *int32  `json:"coordinator_epoch,omitempty"`
	Codec      string  `json:"codec,omitempty"`
	Vote       *uint64 `json:"vote,omitempty"`
	Commit     *uint64 `json:"commit,omitempty"`
	Blocks     *int    `json:"blocks,omitempty"`
	Detail     string  `json:"detail,omitempty"`
}

// Dump writes what a segment file holds, or every segment of a log's
// directory: a line for its header, each frame, and where and why it ends. With
// jsonLines each line is a JSON object. Frames behind the first bad one are not
// shown; Verify tells whether that one is torn or damaged.
func Dump(fsys vfs.FS, name string, w io.Writer, jsonLines bool) error {
	files := []string{name}
	one, err := isSegment(fsys, name)
	if err == nil && !one {
		files, err = segmentFiles(fsys, name)
	}
	if err != nil {
		return fmt.Errorf("dump %s: %w", name, err)
	}
	out := bufio.NewWriter(w)
	d := dumper{print: func(l dumpLine) error { _, err := fmt.Fprintln(out, l.text()); return err }}
	if jsonLines {
		enc := json.NewEncoder(out)
		d.print = func(l dumpLine) error { return enc.Encode(l) }
	}
	for _, f := range files {
		if err := d.file(fsys, f); err != nil {
			return fmt.Errorf("dump %s: %w", f, err)
		}
	}
	return out.Flush()
}

func segmentFiles(fsys vfs.FS, dir string) ([]string, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, n := range names {
		if _, _, ok := parseSegmentName(n); ok {
			files = append(files, path.Join(dir, n))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: no segments in it", ErrNotFound)
	}
	return files, nil
}

type dumper struct{ print func(dumpLine) error }

func (d *dumper) file(fsys vfs.FS, name string) error {
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	size, err := f.Size()
	if err != nil {
		return err
	}
	base := path.Base(name)
	h, err := readHeader(f)
	if err != nil {
		return d.print(dumpLine{File: base, What: "end", Length: size, Detail: "no readable segment header: " + err.Error()})
	}
	if err := d.print(headerLine(base, &h)); err != nil {
		return err
	}
	at := int64(h.length)
	p, stop := verify(f, begin(&h), uint32(min(size, 1<<32-1)), func(fr *frame, payload []byte) error {
		err := d.print(frameLine(base, at, fr, payload))
		at += int64(fr.size())
		return errors.Join(err)
	})
	end := dumpLine{File: base, At: int64(p.end), What: "end", Length: size - int64(p.end), Detail: "whole"}
	if stop != nil {
		end.Detail = stop.Error()
		if zerosOnly(f, p.end, uint32(size)) {
			end.Detail = "whole, followed by zeros"
		}
	}
	return d.print(end)
}

func headerLine(file string, h *segHeader) dumpLine {
	s := &h.state
	what := "header"
	if h.isReset() {
		what = "header (reset)"
	}
	detail := ""
	if c := &h.compacted; h.isCompacted() {
		what = "header (compacted)"
		detail = fmt.Sprintf(", stands for segments to %d, index %d, term %d, offset %d, clean below offset %d", c.lastSeq, c.index, c.term, c.next, c.clean)
	}
	return dumpLine{
		File: file, What: what, Length: int64(h.length), Synced: h.synced.String(),
		Index: &s.Index, Term: &s.Term, BaseOffset: &s.NextOffset, Vote: &s.Hard.Vote, Commit: &s.Hard.Commit,
		Detail: fmt.Sprintf("%s id %s after segment %d byte %d, hard term %d, created %s, conf %d control %d producers %d bytes",
			h.id, h.id.ID, h.prevSeq, h.prevEnd, s.Hard.Term, time.UnixMilli(h.created).UTC().Format(time.RFC3339Nano), len(s.Conf), len(s.Control), len(s.Producers)) + detail,
	}
}

func frameLine(file string, at int64, f *frame, payload []byte) dumpLine {
	l := dumpLine{File: file, At: at, Length: int64(f.size()), Synced: f.synced.String(), Index: &f.index, Term: &f.term, BaseOffset: &f.base}
	switch f.kind {
	case KindData:
		b := record.Batch(payload)
		last, n, ms, pid := b.LastOffset(), b.Count(), b.MaxTime(), b.ProducerID()
		l.What, l.Epoch, l.LastOffset, l.Records, l.MaxTime, l.Codec = "data", &f.epoch, &last, &n, &ms, b.Codec().String()
		if pid != record.NoProducer {
			epoch := b.ProducerEpoch()
			l.Producer, l.ProdEpoch, l.Txn = &pid, &epoch, b.IsTransactional()
		}
		if b.IsControl() {
			l.marker(b)
		}
		if err := b.Check(); err != nil {
			l.Detail = err.Error()
		}
	case KindControl:
		l.What, l.Epoch = "control", &f.epoch
	case kindState:
		l.What = "state"
		if h, err := f.hardState(payload); err == nil {
			l.Vote, l.Commit = &h.Vote, &h.Commit
		}
	case kindCheckpoint, kindFooter:
		l.What = map[Kind]string{kindCheckpoint: "checkpoint", kindFooter: "footer"}[f.kind]
		if p, _, err := parseSummary(f, payload, sealing{}, 0); err == nil {
			n := len(p.blocks)
			l.Blocks = &n
		}
	}
	return l
}

// marker says how a transaction ends.
func (l *dumpLine) marker(b record.Batch) {
	l.What = "marker"
	commit, epoch, err := b.Marker()
	if err != nil {
		l.Detail = err.Error()
		return
	}
	l.Marker, l.Coord = "abort", &epoch
	if commit {
		l.Marker = "commit"
	}
}

// text is the line for people.
func (l *dumpLine) text() string {
	b := fmt.Appendf(nil, "%s %10d %-10s %7d bytes", l.File, l.At, l.What, l.Length)
	add := func(name string, v any, ok bool) {
		if ok {
			b = fmt.Appendf(b, " %s %v", name, v)
		}
	}
	add("index", deref(l.Index), l.Index != nil)
	add("term", deref(l.Term), l.Term != nil)
	add("offset", deref(l.BaseOffset), l.BaseOffset != nil)
	add("to", deref(l.LastOffset), l.LastOffset != nil)
	add("epoch", deref(l.Epoch), l.Epoch != nil)
	add("records", deref(l.Records), l.Records != nil)
	add("max time", deref(l.MaxTime), l.MaxTime != nil)
	add("codec", l.Codec, l.Codec != "")
	add("producer", deref(l.Producer), l.Producer != nil)
	add("producer epoch", deref(l.ProdEpoch), l.ProdEpoch != nil)
	add("transactional", l.Txn, l.Txn)
	add("marker", l.Marker, l.Marker != "")
	add("coordinator epoch", deref(l.Coord), l.Coord != nil)
	add("vote", deref(l.Vote), l.Vote != nil)
	add("commit", deref(l.Commit), l.Commit != nil)
	add("blocks", deref(l.Blocks), l.Blocks != nil)
	add("synced", l.Synced, l.Synced != "")
	add("-", l.Detail, l.Detail != "")
	return string(b)
}

func deref[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
