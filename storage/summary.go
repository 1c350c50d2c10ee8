package storage

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// A checkpoint frame inside a segment and the footer at its end have the same
// payload, drawn in docs/format/segment.md: what the frames before them add up
// to, and the index. A checkpoint holds the blocks since the one before it, a
// footer all of them and, at its very end, a trailer by which it is found.
const (
	checkpointBytes = 4 << 20 // how far apart checkpoints are
	smFixed         = 88
	runBytes        = 16
	blockSize       = 28
	trailerBytes    = 16
	trailerMagic    = "ENTRSEAL"
)

// summary encodes p as the payload of a frame of this kind that will stand at
// p.end. The newest block must be closed.
func (p *progress) summary(kind Kind) []byte {
	blocks, before := p.blocks, uint32(0)
	if kind == kindCheckpoint {
		blocks, before = p.blocks[p.saved:], p.checkpoint
	}
	n := align8(smFixed + runBytes*len(p.runs) + blockSize*len(blocks))
	b := make([]byte, 0, n+trailerBytes)
	be := binary.BigEndian
	b = be.AppendUint64(b, p.count)
	b = be.AppendUint64(b, p.lastIndex)
	b = be.AppendUint64(b, p.lastTerm)
	b = be.AppendUint64(b, uint64(p.nextOffset))
	b = be.AppendUint64(b, uint64(p.maxTime))
	b = be.AppendUint32(b, p.chain)
	b = be.AppendUint32(b, uint32(len(p.runs)))
	b = be.AppendUint32(b, uint32(len(blocks)))
	b = be.AppendUint32(b, before)
	b = be.AppendUint64(b, 0)
	b = be.AppendUint64(b, p.hard.Term)
	b = be.AppendUint64(b, p.hard.Vote)
	b = be.AppendUint64(b, p.hard.Commit)
	for _, r := range p.runs {
		b = be.AppendUint64(b, r.index)
		b = be.AppendUint64(b, r.term)
	}
	for _, k := range blocks {
		b = be.AppendUint32(b, k.pos)
		b = be.AppendUint64(b, k.index)
		b = be.AppendUint64(b, uint64(k.offset))
		b = be.AppendUint64(b, uint64(k.maxTime))
	}
	b = b[:n]
	if kind == kindFooter {
		b = be.AppendUint32(b, p.end)
		b = be.AppendUint32(b, uint32(frameHeader+n+trailerBytes))
		b = append(b, trailerMagic...)
	}
	return b
}

// parseSummaryHead reads the part of a summary that its frame's head covers:
// everything but the lists and the hard state. It returns how long the lists
// are and where the checkpoint before stands.
func parseSummaryHead(f *frame, b []byte, s sealing, pos uint32) (p progress, runs, blocks, before uint32, err error) {
	if len(b) < headBytes {
		return p, 0, 0, 0, errShort
	}
	be := binary.BigEndian
	p = progress{
		sealing: s, end: pos, count: be.Uint64(b), lastIndex: be.Uint64(b[8:]), lastTerm: be.Uint64(b[16:]),
		nextOffset: int64(be.Uint64(b[24:])), maxTime: int64(be.Uint64(b[32:])), chain: be.Uint32(b[40:]),
	}
	runs, blocks, before = be.Uint32(b[44:]), be.Uint32(b[48:]), be.Uint32(b[52:])
	if p.chain != f.previous || p.lastIndex != f.index || p.nextOffset != f.base {
		return p, 0, 0, 0, fmt.Errorf("the summary disagrees with its frame: index %d and %d, offset %d and %d", p.lastIndex, f.index, p.nextOffset, f.base)
	}
	return p, runs, blocks, before, nil
}

// parseSummary reads a whole summary: the progress before the frame at pos.
func parseSummary(f *frame, b []byte, s sealing, pos uint32) (p progress, before uint32, err error) {
	p, runs, blocks, before, err := parseSummaryHead(f, b, s, pos)
	if err != nil {
		return p, 0, err
	}
	want := align8(smFixed + runBytes*int(runs) + blockSize*int(blocks))
	if f.kind == kindFooter {
		want += trailerBytes
	}
	if runs > maxPayload/runBytes || blocks > maxPayload/blockSize || len(b) != want {
		return p, 0, fmt.Errorf("a summary of %d bytes with %d terms and %d blocks, want %d bytes", len(b), runs, blocks, want)
	}
	be := binary.BigEndian
	p.hard = HardState{Term: be.Uint64(b[64:]), Vote: be.Uint64(b[72:]), Commit: be.Uint64(b[80:])}
	rest := b[smFixed:]
	p.runs = make([]termRun, runs)
	for i := range p.runs {
		p.runs[i] = termRun{be.Uint64(rest), be.Uint64(rest[8:])}
		rest = rest[runBytes:]
	}
	p.blocks = make([]block, blocks)
	for i := range p.blocks {
		p.blocks[i] = block{be.Uint32(rest), be.Uint64(rest[4:]), int64(be.Uint64(rest[12:])), int64(be.Uint64(rest[20:]))}
		rest = rest[blockSize:]
	}
	return p, before, nil
}

// loadSummary reads the checkpoint or footer at pos, and for a checkpoint the
// chain of those before it. The result is the progress behind the frame.
func loadSummary(f source, s sealing, pos uint32) (progress, error) {
	p, before, err := readSummary(f, s, pos)
	if err != nil {
		return p, err
	}
	lists := [][]block{p.blocks}
	for before != 0 {
		at := before
		var older progress
		if older, before, err = readSummary(f, s, at); err != nil {
			return p, err
		}
		if before >= at {
			return p, fmt.Errorf("the checkpoint at %d names one at %d before it", at, before)
		}
		lists = append(lists, older.blocks)
	}
	slices.Reverse(lists)
	p.blocks = slices.Concat(lists...)
	p.saved = len(p.blocks)
	return p, nil
}

func readSummary(f source, s sealing, pos uint32) (p progress, before uint32, err error) {
	fr, payload, err := readFrame(f, s, pos)
	if err != nil {
		return p, 0, err
	}
	if fr.kind != kindCheckpoint && fr.kind != kindFooter {
		return p, 0, fmt.Errorf("%w: no summary", errFrameKind)
	}
	if p, before, err = parseSummary(&fr, payload, s, pos); err != nil {
		return p, 0, err
	}
	p.checkpoint = pos
	p.end, p.chain = pos+uint32(fr.size()), fr.head
	p.stated = fr.synced
	return p, before, nil
}

// readFrame reads one whole frame.
func readFrame(f source, s sealing, pos uint32) (frame, []byte, error) {
	b := make([]byte, frameHeader+headBytes)
	n, err := readFull(f, b, int64(pos))
	if err != nil {
		return frame{}, nil, err
	}
	fr, err := parseHead(b[:n], s, pos)
	if err != nil {
		return frame{}, nil, err
	}
	if size, err := f.Size(); err != nil || int64(pos)+int64(fr.size()) > size {
		return frame{}, nil, errShort
	}
	b = make([]byte, fr.size())
	if n, err = readFull(f, b, int64(pos)); err != nil {
		return frame{}, nil, err
	}
	return parseFrame(b[:n], s, pos)
}

// readFooter finds the footer at the end of a file by its trailer and reads
// the part of it that its head covers: no more than a few hundred bytes,
// however long the segment is. ok is false when there is none, which says
// nothing about the frames.
func readFooter(f source, s sealing, size int64) (p progress, pos uint32, ok bool, err error) {
	if size < headerFixed+frameHeader+smFixed+trailerBytes || size > 1<<32-1 {
		return p, 0, false, nil
	}
	t := make([]byte, trailerBytes)
	if _, err := readFull(f, t, size-trailerBytes); err != nil {
		return p, 0, false, err
	}
	pos = binary.BigEndian.Uint32(t)
	if string(t[8:]) != trailerMagic || int64(pos)+int64(binary.BigEndian.Uint32(t[4:])) != size {
		return p, 0, false, nil
	}
	b := make([]byte, frameHeader+headBytes)
	n, err := readFull(f, b, int64(pos))
	if err != nil {
		return p, 0, false, err
	}
	fr, err := parseHead(b[:n], s, pos)
	if err != nil || fr.kind != kindFooter || int64(pos)+int64(fr.size()) != size {
		return p, 0, false, nil //nolint:nilerr // no footer is no error: the frames are read instead
	}
	p, _, _, _, err = parseSummaryHead(&fr, b[frameHeader:], s, pos)
	p.stated = fr.synced
	return p, pos, err == nil, nil
}
