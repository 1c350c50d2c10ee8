package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/entrepot-hub/entrepot/record"
)

// Layout of a segment header, drawn in docs/format/segment.md.
const (
	headerMagic     = "ENTRPLOG"
	headerVersion   = 1
	hdVersion       = 8
	hdFlags         = 10
	hdLength        = 12
	hdCRC           = 16 // of [0,16) and [20,length)
	hdSalt          = 20
	hdSeq           = 24
	hdPartition     = 28
	hdGeneration    = 32
	hdPrevSeq       = 36
	hdTopicID       = 40
	hdCreated       = 56
	hdIndex         = 64
	hdTerm          = 72
	hdNextOffset    = 80
	hdHardTerm      = 88
	hdVote          = 96
	hdCommit        = 104
	hdSyncedSeq     = 112
	hdSyncedPos     = 116
	hdPrevEnd       = 120
	hdSaltAgain     = 124
	hdPrevMaxTime   = 128
	hdLengths       = 136 // topic, conf, control, producers: four bytes each
	headerFixed     = 152
	maxHeader       = 256 << 20
	firstHeaderRead = 4096
)

// Flags of a segment header.
const (
	// flagSynced: everything before this segment, and the header itself with
	// its name, were synced before anything was appended (Invariant 9a). A
	// plain roll does without.
	flagSynced = 1 << 0
	// flagReset: everything before this segment is discarded (Invariant 12).
	flagReset = 1 << 1
	// flagCompacted: the segment stands in the place of others, whose entries it
	// holds with holes; see compaction.
	flagCompacted = 1 << 2
	knownFlags    = flagSynced | flagReset | flagCompacted
)

// compaction is what the header of a compacted segment says beside: which
// segments it stands for, and what the log was at their end, since the last
// entries may be among those that are left out. Everything in it was committed.
type compaction struct {
	lastSeq, lastEnd uint32 // number of the last segment it stands for, and where its live entries ended
	end              uint32 // where the frames end in this file: at its footer
	index, term      uint64 // of the last entry
	next             int64  // the next offset after it
	clean            int64  // below it, no entry holds what a later one below it supersedes
}

// compactionBytes is its size in a header, in front of the parts of variable
// length.
const compactionBytes = 48

func (c *compaction) append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, c.lastSeq)
	b = be.AppendUint32(b, c.lastEnd)
	b = be.AppendUint32(b, c.end)
	b = be.AppendUint32(b, 0)
	b = be.AppendUint64(b, c.index)
	b = be.AppendUint64(b, c.term)
	b = be.AppendUint64(b, uint64(c.next))
	return be.AppendUint64(b, uint64(c.clean))
}

func parseCompaction(b []byte) compaction {
	be := binary.BigEndian
	return compaction{
		lastSeq: be.Uint32(b), lastEnd: be.Uint32(b[4:]), end: be.Uint32(b[8:]),
		index: be.Uint64(b[16:]), term: be.Uint64(b[24:]), next: int64(be.Uint64(b[32:])), clean: int64(be.Uint64(b[40:])),
	}
}

// segHeader is a decoded segment header.
type segHeader struct {
	flags       uint16
	salt        uint32
	seq         uint32
	id          LogID
	created     int64 // ms since the Unix epoch
	state       State // before the first entry
	synced      position
	prevSeq     uint32     // the segment that holds the entry before, 0 for none
	prevEnd     uint32     // where that entry ends in it
	prevMaxTime int64      // largest batch time in it up to there, ms
	compacted   compaction // with flagCompacted
	length      uint32     // bytes of the encoded header
	crc         uint32
}

func (h *segHeader) sealing() sealing { return sealing{h.salt, h.seq} }
func (h *segHeader) isReset() bool    { return h.flags&flagReset != 0 }
func (h *segHeader) isSynced() bool   { return h.flags&flagSynced != 0 }

// isCompacted reports whether entries may be missing between those that are
// there.
func (h *segHeader) isCompacted() bool { return h.flags&flagCompacted != 0 }

// tail is what the next segment names as the place that it follows.
func (h *segHeader) tail(end uint32) position {
	if h.isCompacted() {
		return position{h.compacted.lastSeq, h.compacted.lastEnd}
	}
	return position{h.seq, end}
}

// encode returns the header's bytes and sets length and crc.
func (h *segHeader) encode() []byte {
	parts := [4]string{h.id.Topic, string(h.state.Conf), string(h.state.Control), string(h.state.Producers)}
	n := headerFixed
	if h.isCompacted() {
		n += compactionBytes
	}
	for _, p := range parts {
		n += len(p)
	}
	n = align8(n)
	b := make([]byte, headerFixed, n)
	copy(b, headerMagic)
	be := binary.BigEndian
	be.PutUint16(b[hdVersion:], headerVersion)
	be.PutUint16(b[hdFlags:], h.flags)
	be.PutUint32(b[hdLength:], uint32(n))
	be.PutUint32(b[hdSalt:], h.salt)
	be.PutUint32(b[hdSeq:], h.seq)
	be.PutUint32(b[hdPartition:], uint32(h.id.Partition))
	be.PutUint32(b[hdGeneration:], uint32(h.id.Generation))
	be.PutUint32(b[hdPrevSeq:], h.prevSeq)
	copy(b[hdTopicID:], h.id.ID[:])
	be.PutUint64(b[hdCreated:], uint64(h.created))
	be.PutUint64(b[hdIndex:], h.state.Index)
	be.PutUint64(b[hdTerm:], h.state.Term)
	be.PutUint64(b[hdNextOffset:], uint64(h.state.NextOffset))
	be.PutUint64(b[hdHardTerm:], h.state.Hard.Term)
	be.PutUint64(b[hdVote:], h.state.Hard.Vote)
	be.PutUint64(b[hdCommit:], h.state.Hard.Commit)
	be.PutUint32(b[hdSyncedSeq:], h.synced.seq)
	be.PutUint32(b[hdSyncedPos:], h.synced.pos)
	be.PutUint32(b[hdPrevEnd:], h.prevEnd)
	be.PutUint32(b[hdSaltAgain:], h.salt)
	be.PutUint64(b[hdPrevMaxTime:], uint64(h.prevMaxTime))
	if h.isCompacted() {
		b = h.compacted.append(b)
	}
	for i, p := range parts {
		be.PutUint32(b[hdLengths+4*i:], uint32(len(p)))
		b = append(b, p...)
	}
	b = b[:n] // the capacity is zeroed
	h.length, h.crc = uint32(n), headerCRC(b)
	be.PutUint32(b[hdCRC:], h.crc)
	return b
}

func headerCRC(b []byte) uint32 {
	return record.UpdateCRC(record.CRC(b[:hdCRC]), b[hdSalt:])
}

// errVersion: the header is whole, but of a version this program cannot read.
var errVersion = errors.New("unknown version")

// headerLength reads how long the header at the start of b says it is. b must
// have headerFixed bytes.
func headerLength(b []byte) (int, error) {
	if string(b[:len(headerMagic)]) != headerMagic {
		return 0, errors.New("no segment header")
	}
	n := binary.BigEndian.Uint32(b[hdLength:])
	if n < headerFixed || n > maxHeader || n%8 != 0 {
		return 0, fmt.Errorf("a segment header of %d bytes cannot be", n)
	}
	return int(n), nil
}

// parseHeader decodes a whole header.
func parseHeader(b []byte) (segHeader, error) {
	if len(b) < headerFixed {
		return segHeader{}, errShort
	}
	n, err := headerLength(b)
	if err != nil {
		return segHeader{}, err
	}
	if len(b) < n {
		return segHeader{}, errShort
	}
	b = b[:n]
	be := binary.BigEndian
	crc := be.Uint32(b[hdCRC:])
	if headerCRC(b) != crc {
		return segHeader{}, errors.New("checksum of the segment header does not match")
	}
	if v := be.Uint16(b[hdVersion:]); v != headerVersion {
		return segHeader{}, fmt.Errorf("%w %d of a segment: this program reads version %d", errVersion, v, headerVersion)
	}
	h := segHeader{
		flags: be.Uint16(b[hdFlags:]), salt: be.Uint32(b[hdSalt:]), seq: be.Uint32(b[hdSeq:]),
		created: int64(be.Uint64(b[hdCreated:])),
		synced:  position{be.Uint32(b[hdSyncedSeq:]), be.Uint32(b[hdSyncedPos:])},
		prevSeq: be.Uint32(b[hdPrevSeq:]), prevEnd: be.Uint32(b[hdPrevEnd:]),
		prevMaxTime: int64(be.Uint64(b[hdPrevMaxTime:])),
		length:      uint32(n), crc: crc,
	}
	if h.flags&^knownFlags != 0 {
		return segHeader{}, fmt.Errorf("%w: flags %#x of a segment", errVersion, h.flags)
	}
	h.id.Partition, h.id.Generation = int32(be.Uint32(b[hdPartition:])), int32(be.Uint32(b[hdGeneration:]))
	copy(h.id.ID[:], b[hdTopicID:])
	h.state = State{
		Index: be.Uint64(b[hdIndex:]), Term: be.Uint64(b[hdTerm:]), NextOffset: int64(be.Uint64(b[hdNextOffset:])),
		Hard: HardState{Term: be.Uint64(b[hdHardTerm:]), Vote: be.Uint64(b[hdVote:]), Commit: be.Uint64(b[hdCommit:])},
	}
	return h, h.parseTail(b)
}

// parseTail cuts the parts of variable length.
func (h *segHeader) parseTail(b []byte) error {
	rest := b[headerFixed:]
	if h.isCompacted() {
		if len(rest) < compactionBytes {
			return fmt.Errorf("the header of a compacted segment has %d bytes", len(b))
		}
		h.compacted, rest = parseCompaction(rest), rest[compactionBytes:]
	}
	var parts [4][]byte
	for i := range parts {
		n := binary.BigEndian.Uint32(b[hdLengths+4*i:])
		if uint64(n) > uint64(len(rest)) {
			return fmt.Errorf("part %d of the segment header has %d bytes, %d are left", i, n, len(rest))
		}
		parts[i], rest = append([]byte(nil), rest[:n]...), rest[n:]
	}
	h.id.Topic = string(parts[0])
	h.state.Aux = Aux{Conf: parts[1], Control: parts[2], Producers: parts[3]}
	return nil
}

// readHeader reads the header of a segment file. An error of the disk is
// returned as it is; anything else means that no header is there.
func readHeader(f source) (segHeader, error) {
	b := make([]byte, firstHeaderRead)
	n, err := readFull(f, b, 0)
	if err != nil {
		return segHeader{}, err
	}
	if n < headerFixed {
		return segHeader{}, errShort
	}
	length, err := headerLength(b)
	if err != nil {
		return segHeader{}, err
	}
	if length <= n {
		return parseHeader(b[:length])
	}
	if size, err := f.Size(); err != nil || int64(length) > size {
		return segHeader{}, errors.Join(errShort, err)
	}
	b = make([]byte, length)
	if n, err = readFull(f, b, 0); err != nil {
		return segHeader{}, err
	}
	return parseHeader(b[:n])
}

// saltsOf returns what a damaged header says its salt is, in both places, so
// that the frames behind it can still be asked what was synced.
func saltsOf(f source) []uint32 {
	b := make([]byte, headerFixed)
	n, _ := readFull(f, b, 0)
	if n < headerFixed {
		return nil
	}
	one, two := binary.BigEndian.Uint32(b[hdSalt:]), binary.BigEndian.Uint32(b[hdSaltAgain:])
	if one == two {
		return []uint32{one}
	}
	return []uint32{one, two}
}

// source is what reading a segment needs of its file.
type source interface {
	io.ReaderAt
	Size() (int64, error)
}

// readFull reads len(b) bytes at off, or fewer at the end of the file, which
// is no error.
func readFull(f source, b []byte, off int64) (int, error) {
	n, err := f.ReadAt(b, off)
	var opening *openError
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return n, nil
	case errors.As(err, &opening):
		return n, err
	}
	return n, &diskError{err}
}

// openError says that a file could not be opened, which says nothing about what
// is in it: the process may have too many open.
type openError struct{ err error }

func (e *openError) Error() string { return e.err.Error() }
func (e *openError) Unwrap() error { return e.err }

// diskError is an error of the disk itself while reading. A place that cannot
// be read was certainly written once, so it is never a torn end.
type diskError struct{ err error }

func (e *diskError) Error() string { return e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }
