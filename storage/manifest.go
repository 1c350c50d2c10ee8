package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Manifest is what a log consists of at one moment: its live segments, oldest
// first, the one that is being written included up to its end, and the state
// behind them. Another replica fetches the files and begins from them (Staging).
//
// Nothing is held for it here. A file is opened when it is asked for, and an
// open file stays readable whatever becomes of its name; one that retention or
// compaction took before is refused, and who fetches asks for a new manifest
// and keeps what that still names. So a fetch that takes hours, or is never
// finished, keeps no disk space and no file from anybody, and a restart of
// either side forgets nothing that counts.
type Manifest struct {
	Log   LogID
	State State // after the last entry; without a hard state, which is each replica's own
	Files []ManifestFile
}

// ManifestFile is one segment of a manifest. Its number and the checksum of its
// header say which file it is: a file only ever grows, and one that takes its
// name has another header.
type ManifestFile struct {
	Seq        uint32
	Header     uint32 // checksum of the header
	First      uint64 // index
	Bytes      int64  // of the file, as many as are part of the log
	LastIndex  uint64
	LastTerm   uint64
	NextOffset int64
}

// Name is the file's name in a log's directory.
func (f ManifestFile) Name() string { return segmentName(f.Seq, f.First) }

// Bytes is the size of all files.
func (m *Manifest) Bytes() (n int64) {
	for i := range m.Files {
		n += m.Files[i].Bytes
	}
	return n
}

// Manifest describes the whole log as it is now. at is the state at its end,
// which the layer above knows; it wraps ErrUnavailable if the log ends elsewhere.
func (l *Log) Manifest(at State) (Manifest, error) {
	m := Manifest{Log: l.id, State: at}
	m.State.Hard = HardState{}
	if err := l.ready(); err != nil {
		return m, fmt.Errorf("manifest of log %s: %w", l.id, err)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if p := &l.last().p; p.lastIndex != at.Index || p.lastTerm != at.Term || p.nextOffset != at.NextOffset {
		return m, fmt.Errorf("manifest of log %s at entry %d of term %d, offset %d: %w: it ends with entry %d of term %d, offset %d",
			l.id, at.Index, at.Term, at.NextOffset, ErrUnavailable, p.lastIndex, p.lastTerm, p.nextOffset)
	}
	segs := l.mu.segs
	for len(segs) > 0 && segs[len(segs)-1].p.lastIndex == segs[len(segs)-1].header.state.Index && !segs[len(segs)-1].header.isCompacted() {
		segs = segs[:len(segs)-1] // nothing in it: State says what it does
	}
	for _, s := range segs {
		m.Files = append(m.Files, ManifestFile{
			Seq: s.header.seq, Header: s.header.crc, First: s.firstIndex(), Bytes: s.liveBytes(),
			LastIndex: s.p.lastIndex, LastTerm: s.p.lastTerm, NextOffset: s.p.nextOffset,
		})
	}
	return m, nil
}

// liveBytes is how much of the file is part of the log: up to the last live
// frame, or the footer behind it.
func (s *segment) liveBytes() int64 {
	if s.footer != 0 && s.footer == s.p.end {
		return s.size
	}
	return int64(s.p.end)
}

// OpenSegment opens a file of a manifest from a byte on. The reader holds the
// open file, so that it stays valid when the segment is deleted or replaced.
// It wraps ErrCompacted when the file is not part of the log any more, or not
// as the manifest says.
func (l *Log) OpenSegment(f ManifestFile, from int64) (io.ReadCloser, error) {
	r, err := l.openSegment(f, from)
	if err != nil {
		return nil, fmt.Errorf("open segment %s of log %s from byte %d: %w", f.Name(), l.id, from, err)
	}
	return r, nil
}

func (l *Log) openSegment(f ManifestFile, from int64) (io.ReadCloser, error) {
	if err := l.ready(); err != nil {
		return nil, err
	}
	var found *segment
	l.mu.RLock()
	for _, s := range l.mu.segs {
		if s.header.seq == f.Seq && s.header.crc == f.Header && f.Bytes <= s.liveBytes() {
			found = s
		}
	}
	l.mu.RUnlock()
	switch {
	case found == nil:
		return nil, ErrCompacted
	case from < 0 || from > f.Bytes:
		return nil, fmt.Errorf("%w: it has %d bytes", record.ErrInvalidRequest, f.Bytes)
	}
	v, err := l.openView(found)
	if err != nil {
		return nil, err
	}
	if v.seg != found {
		v.close() // compacted meanwhile
		return nil, ErrCompacted
	}
	once := v.file.f.Once()
	return &segmentReader{io.NewSectionReader(once, from, f.Bytes-from), once, v}, nil
}

type segmentReader struct {
	*io.SectionReader
	once vfs.File
	v    *view
}

func (r *segmentReader) Close() error {
	err := r.once.Close()
	r.v.close()
	return err
}

// The wire form of a manifest, drawn in docs/format/manifest.md.
const (
	manifestVersion = 1
	manifestFile    = 48 // bytes of a file's entry
	// maxManifestFiles is far above what a log can have: 2^20 segments of the
	// smallest sensible size.
	maxManifestFiles = 1 << 20
)

// Append appends the manifest's bytes.
func (m *Manifest) Append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, manifestVersion)
	b = m.Log.append(b)
	b = be.AppendUint64(b, m.State.Index)
	b = be.AppendUint64(b, m.State.Term)
	b = be.AppendUint64(b, uint64(m.State.NextOffset))
	for _, part := range [][]byte{m.State.Conf, m.State.Control, m.State.Producers} {
		b = be.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	b = be.AppendUint32(b, uint32(len(m.Files)))
	for i := range m.Files {
		b = m.Files[i].Append(b)
	}
	return b
}

// Append appends the file's bytes: what a request for it names.
func (f *ManifestFile) Append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, f.Seq)
	b = be.AppendUint32(b, f.Header)
	b = be.AppendUint64(b, f.First)
	b = be.AppendUint64(b, uint64(f.Bytes))
	b = be.AppendUint64(b, f.LastIndex)
	b = be.AppendUint64(b, f.LastTerm)
	return be.AppendUint64(b, uint64(f.NextOffset))
}

// append appends the identity of a log.
func (id LogID) append(b []byte) []byte {
	be := binary.BigEndian
	b = be.AppendUint16(b, uint16(len(id.Topic)))
	b = append(b, id.Topic...)
	b = append(b, id.ID[:]...)
	b = be.AppendUint32(b, uint32(id.Partition))
	return be.AppendUint32(b, uint32(id.Generation))
}

// AppendLogID appends the identity of a log; DecodeLogID reads it.
func AppendLogID(b []byte, id LogID) []byte { return id.append(b) }

// DecodeLogID reads the identity of a log at the start of b and returns the
// rest.
func DecodeLogID(b []byte) (id LogID, rest []byte, err error) {
	c := cutter{b: b}
	id = c.logID()
	return id, c.b, c.err
}

// cutter cuts numbers and strings off the front of bytes that came from
// elsewhere. After an error everything is zero.
type cutter struct {
	b   []byte
	err error
}

func (c *cutter) bytes(n int) []byte {
	if c.err == nil && (n < 0 || n > len(c.b)) {
		c.err = fmt.Errorf("%w: %d bytes are left, want %d", record.ErrInvalidRequest, len(c.b), n)
	}
	if c.err != nil {
		return nil
	}
	var out []byte
	out, c.b = c.b[:n:n], c.b[n:]
	return out
}

func (c *cutter) u16() int {
	if b := c.bytes(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cutter) u32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cutter) u64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cutter) logID() (id LogID) {
	id.Topic = string(c.bytes(c.u16()))
	copy(id.ID[:], c.bytes(len(id.ID)))
	id.Partition, id.Generation = int32(c.u32()), int32(c.u32())
	return id
}

func (c *cutter) file() ManifestFile {
	return ManifestFile{
		Seq: c.u32(), Header: c.u32(), First: c.u64(), Bytes: int64(c.u64()),
		LastIndex: c.u64(), LastTerm: c.u64(), NextOffset: int64(c.u64()),
	}
}

// DecodeManifestFile reads what ManifestFile.Append wrote, at the start of b,
// and returns the rest.
func DecodeManifestFile(b []byte) (f ManifestFile, rest []byte, err error) {
	c := cutter{b: b}
	f = c.file()
	return f, c.b, c.err
}

// DecodeManifest reads what Append wrote and nothing else, and checks that it
// can be a log.
func DecodeManifest(b []byte) (Manifest, error) {
	c := cutter{b: b}
	var m Manifest
	if v := c.u32(); c.err == nil && v != manifestVersion {
		return m, fmt.Errorf("manifest: %w: version %d, this program reads version %d", record.ErrInvalidRequest, v, manifestVersion)
	}
	m.Log = c.logID()
	m.State.Index, m.State.Term, m.State.NextOffset = c.u64(), c.u64(), int64(c.u64())
	for _, part := range []*[]byte{&m.State.Conf, &m.State.Control, &m.State.Producers} {
		*part = append([]byte(nil), c.bytes(int(c.u32()))...)
	}
	n := c.u32()
	if c.err == nil && (n > maxManifestFiles || int(n)*manifestFile != len(c.b)) {
		c.err = fmt.Errorf("%w: %d files in %d bytes", record.ErrInvalidRequest, n, len(c.b))
	}
	if c.err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", c.err)
	}
	for range n {
		m.Files = append(m.Files, c.file())
	}
	if err := m.validate(); err != nil {
		return Manifest{}, fmt.Errorf("manifest of log %s: %w", m.Log, err)
	}
	return m, nil
}

// validate checks what can be checked without the files.
func (m *Manifest) validate() error {
	var before ManifestFile
	for i, f := range m.Files {
		switch {
		case f.Seq == 0 || f.Seq == 1<<32-1 || f.First == 0 || f.Bytes < headerFixed || f.Bytes > 1<<32-1 || f.LastIndex+1 < f.First || f.NextOffset < 0:
			return fmt.Errorf("%w: file %d cannot be: %+v", record.ErrInvalidRequest, i, f)
		case i > 0 && (f.Seq <= before.Seq || f.First != before.LastIndex+1 || f.LastTerm < before.LastTerm || f.NextOffset < before.NextOffset):
			return fmt.Errorf("%w: file %d, %+v, does not follow %+v", record.ErrInvalidRequest, i, f, before)
		}
		before = f
	}
	s := &m.State
	if len(m.Files) > 0 && (s.Index != before.LastIndex || s.Term != before.LastTerm || s.NextOffset != before.NextOffset) {
		return fmt.Errorf("%w: the state is of entry %d, term %d, offset %d, the files end with %+v", record.ErrInvalidRequest, s.Index, s.Term, s.NextOffset, before)
	}
	if s.NextOffset < 0 || m.Log.Partition < 0 || m.Log.Generation < 0 {
		return errors.Join(record.ErrInvalidRequest, fmt.Errorf("offset %d, partition %d, generation %d", s.NextOffset, m.Log.Partition, m.Log.Generation))
	}
	return nil
}
