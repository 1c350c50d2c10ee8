package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"sync/atomic"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// The recovery point is a hint: for each log a checkpoint that was synced when
// the file was written. Recovery starts reading there if the checkpoint is
// whole and a frame behind it proves that it was synced; a hint that is old,
// torn or missing costs time and nothing else (Invariant 9).
const (
	pointName    = "recovery-point"
	pointMagic   = "ENTRHINT"
	pointEvery   = 10 * time.Second
	pointBytes   = 256 << 20 // or after so many bytes appended
	pointVersion = 1
)

type pointFile struct {
	written atomic.Int64        // bytes appended since it was written
	next    time.Time           // when it is due; of Run alone
	hints   map[string]position // by directory; of Run alone after Open
	read    map[string]position // what Open found; not changed afterwards
}

func (p *pointFile) hint(dir string) position { return p.read[dir] }

func (p *pointFile) due(now time.Time) bool {
	n := p.written.Load()
	return n >= pointBytes || n > 0 && !now.Before(p.next)
}

func encodePoint(dirs []string, hints map[string]position) []byte {
	b := []byte(pointMagic)
	b = binary.BigEndian.AppendUint32(b, pointVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(dirs)))
	for _, d := range dirs {
		b = binary.BigEndian.AppendUint16(b, uint16(len(d)))
		b = append(b, d...)
		b = binary.BigEndian.AppendUint32(b, hints[d].seq)
		b = binary.BigEndian.AppendUint32(b, hints[d].pos)
	}
	return binary.BigEndian.AppendUint32(b, record.CRC(b))
}

func parsePoint(b []byte) (map[string]position, error) {
	const fixed = len(pointMagic) + 8
	if len(b) < fixed+4 || string(b[:len(pointMagic)]) != pointMagic {
		return nil, errors.New("no recovery point")
	}
	body, crc := b[:len(b)-4], binary.BigEndian.Uint32(b[len(b)-4:])
	if record.CRC(body) != crc {
		return nil, errors.New("checksum of the recovery point does not match")
	}
	if v := binary.BigEndian.Uint32(b[len(pointMagic):]); v != pointVersion {
		return nil, fmt.Errorf("recovery point of version %d, want %d", v, pointVersion)
	}
	n, rest := binary.BigEndian.Uint32(b[len(pointMagic)+4:]), body[fixed:]
	hints := map[string]position{}
	for range n {
		if len(rest) < 2 {
			return nil, errShort
		}
		l := int(binary.BigEndian.Uint16(rest))
		if len(rest) < 2+l+8 {
			return nil, errShort
		}
		at := rest[2+l:]
		hints[string(rest[2:2+l])] = position{binary.BigEndian.Uint32(at), binary.BigEndian.Uint32(at[4:])}
		rest = at[8:]
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%d bytes behind the recovery point", len(rest))
	}
	return hints, nil
}

// readPoint reads the file. Without it everything is read from the start.
func readPoint(fsys vfs.FS, name string, log *slog.Logger) *pointFile {
	p := &pointFile{hints: map[string]position{}}
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return p
	}
	if err == nil {
		var size int64
		if size, err = f.Size(); err == nil {
			b := make([]byte, min(size, 64<<20))
			if _, err = readFull(f, b, 0); err == nil {
				p.read, err = parsePoint(b)
			}
		}
		_ = f.Close()
	}
	if err != nil {
		log.Warn("the recovery point cannot be used, logs are read from the start", "file", name, "error", err)
	}
	return p
}

// writePoint rewrites the file if a log has a newer checkpoint.
func (s *Store) writePoint(now time.Time) {
	p := s.point
	p.written.Store(0)
	p.next = now.Add(pointEvery)
	changed := false
	hints := map[string]position{}
	var dirs []string
	for _, l := range s.openLogs() {
		dir := path.Base(l.dir)
		at := l.checkpointed(p.hints[dir])
		if at == (position{}) {
			continue
		}
		changed = changed || at != p.hints[dir]
		hints[dir], dirs = at, append(dirs, dir)
	}
	if !changed || s.offline() != nil {
		return
	}
	if err := replaceFile(s.fs, s.dir, pointName, encodePoint(dirs, hints)); err != nil {
		s.log.Warn("the recovery point was not written, the next start may take longer", "dir", s.dir, "error", err)
		return
	}
	p.hints = hints
}

// checkpointed is the newest checkpoint of the active segment that a written
// frame states as synced, or else the one known before.
func (l *Log) checkpointed(before position) position {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := l.last()
	if at := (position{s.header.seq, s.p.checkpoint}); s.file != nil && at.pos != 0 && at.less(l.mu.stated) {
		return at
	}
	if before.seq == s.header.seq {
		return before
	}
	return position{}
}
