package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// Staging receives a log's segments from another replica into a folder of
// their own beside the log's. Nothing in there is part of the log until Install
// puts all of it in the log's place. What was fetched survives a restart: a file
// is known whole by reading it, never by a note, so a note cannot lie.
type Staging struct {
	store *Store
	id    LogID
	dir   string
	m     Manifest
	files []*stagedFile
	total int64
	chunk int64 // stagingChunk, and less in tests
	done  atomic.Int64
}

// stagedFile is one file of a staging and how far it came.
type stagedFile struct {
	ManifestFile
	have  int64     // bytes that are there
	seen  *checking // nil: none of them is checked
	whole bool      // all of them, checked and synced
	end   uint32    // whole: where the last live frame ends
	max   int64     // whole: largest batch time
	tail  position  // whole: what the next header names as the place that it follows
}

const (
	// stagingSuffix is behind a log's name; no name of a log ends so.
	stagingSuffix = ".incoming"
	// completeName is the file that says that everything in a staging is whole
	// and durable: from then on it is the log, whatever the power does.
	completeName = "complete"
)

// DamagedCopyError says that a file arrived twice as something that is no part
// of the log that was named: most likely it is damaged where it came from.
type DamagedCopyError struct {
	File ManifestFile
	Err  error
}

func (e *DamagedCopyError) Error() string {
	return fmt.Sprintf("segment %s does not arrive as what it should be: %v", e.File.Name(), e.Err)
}
func (e *DamagedCopyError) Unwrap() error { return e.Err }

// Stage begins to receive what a manifest names, or goes on with what an
// earlier one left: files that this manifest names too are kept, the others
// deleted. One Staging of a log at a time may be used.
func (s *Store) Stage(m Manifest) (*Staging, error) {
	g := &Staging{store: s, id: m.Log, dir: path.Join(s.dir, dirName(m.Log)+stagingSuffix), m: m, total: m.Bytes(), chunk: stagingChunk}
	if err := g.begin(); err != nil {
		return nil, fmt.Errorf("stage log %s: %w", m.Log, err)
	}
	return g, nil
}

func (g *Staging) begin() error {
	if err := g.m.validate(); err != nil {
		return err
	}
	s := g.store
	if err := s.writable(true); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, f := range g.m.Files {
		g.files = append(g.files, &stagedFile{ManifestFile: f})
		wanted[f.Name()] = true
	}
	err := s.onDisk(true, func() error { return s.fs.Mkdir(g.dir) })
	switch {
	case err == nil:
		if err := s.fs.SyncDir(s.dir); err != nil {
			return s.goOffline(err)
		}
		return nil
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	names, err := s.fs.List(g.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == completeName {
			return fmt.Errorf("%w: %s is whole and waits to take its place at the next start", ErrExists, g.dir)
		}
		if !wanted[name] {
			if err := s.fs.Remove(path.Join(g.dir, name)); err != nil {
				return err
			}
		}
	}
	return g.measure()
}

// measure counts what is there already.
func (g *Staging) measure() error {
	for _, f := range g.files {
		info, err := g.store.fs.Stat(g.path(f))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if f.have = info.Size; f.have > f.Bytes {
			f.have = 0
			if err := g.store.fs.Remove(g.path(f)); err != nil {
				return err
			}
		}
		g.done.Add(f.have)
	}
	return nil
}

func (g *Staging) path(f *stagedFile) string { return path.Join(g.dir, f.Name()) }

// Progress is how many bytes are there, of how many.
func (g *Staging) Progress() (done, total int64) { return g.done.Load(), g.total }

// Manifest is what is being received.
func (g *Staging) Manifest() Manifest { return g.m }

// SegmentSource opens a file of a manifest at a replica that has it, from a
// byte on.
type SegmentSource func(ctx context.Context, f ManifestFile, from int64) (io.ReadCloser, error)

// Fetch brings what is missing, file by file, checks every frame and makes it
// durable. When it returns nil all is there and Install may be called; after an
// error it may be called again, with the same staging or another one. It wraps
// a *DamagedCopyError when a file keeps arriving wrong, ErrCompacted when the
// source has not got it any more: then a new manifest is due.
func (g *Staging) Fetch(ctx context.Context, open SegmentSource) error {
	for _, f := range g.files {
		if f.whole {
			continue
		}
		if err := g.fetch(ctx, f, open); err != nil {
			return fmt.Errorf("fetch segment %s of log %s: %w", f.Name(), g.id, err)
		}
	}
	if err := g.store.fs.SyncDir(g.dir); err != nil {
		return g.store.goOffline(err)
	}
	return nil
}

// fetch brings one file. What an earlier attempt left may have been torn by a
// crash, so that a file that turns out wrong is fetched once more as a whole.
func (g *Staging) fetch(ctx context.Context, f *stagedFile, open SegmentSource) error {
	var wrong *placeError
	for range 2 {
		err := g.complete(ctx, f, open)
		if !errors.As(err, &wrong) {
			return err
		}
		if err := g.drop(f); err != nil {
			return err
		}
	}
	return &DamagedCopyError{f.ManifestFile, wrong}
}

func (g *Staging) drop(f *stagedFile) error {
	g.done.Add(-f.have)
	f.have, f.seen = 0, nil
	return g.store.fs.Remove(g.path(f))
}

// complete brings the rest of a file and checks all of it. A *placeError says
// that it is not what it should be.
func (g *Staging) complete(ctx context.Context, f *stagedFile, open SegmentSource) error {
	file, err := g.open(f)
	if err != nil {
		return err
	}
	if f.have < f.Bytes {
		err = g.receive(ctx, f, file, open)
	}
	if err == nil {
		if err = file.Sync(); err != nil {
			err = g.store.goOffline(err)
		}
	}
	if err == nil {
		err = g.check(f, file)
	}
	return errors.Join(err, file.Close())
}

func (g *Staging) open(f *stagedFile) (file vfs.File, err error) {
	err = g.store.onDisk(true, func() error {
		file, err = g.store.fs.OpenWrite(g.path(f))
		if errors.Is(err, fs.ErrNotExist) {
			file, err = g.store.fs.Create(g.path(f))
		}
		return err
	})
	return file, err
}

// stagingChunk is how much is received, written to the disk and checked at a time.
// Whoever else waits for the disk or the processor waits for so much of a copy, and
// not for a whole segment whose turn it is to be synced or checked.
const stagingChunk = 256 << 10

// receive appends what the source sends to what is there.
func (g *Staging) receive(ctx context.Context, f *stagedFile, file vfs.File, open SegmentSource) (err error) {
	src, err := open(ctx, f.ManifestFile, f.have)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	buf := vfs.Blocks(int(min(g.chunk, f.Bytes-f.have)))
	for f.have < f.Bytes {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: %w", record.ErrStopped, err)
		}
		// Up to a multiple of a piece, wherever an earlier attempt ended.
		n, err := io.ReadFull(src, buf[:min(g.chunk-f.have%g.chunk, f.Bytes-f.have)])
		if n > 0 {
			if err := g.write(f, file, buf[:n]); err != nil {
				return err
			}
		}
		if err != nil && f.have < f.Bytes {
			return fmt.Errorf("after %d of %d bytes: %w", f.have, f.Bytes, unexpected(err))
		}
	}
	return nil
}

func (g *Staging) write(f *stagedFile, file vfs.File, b []byte) error {
	if err := g.store.writable(true); err != nil {
		return err
	}
	if st := g.store.Disk(); st.High {
		return fmt.Errorf("%w: %d bytes are free, a copy of a log waits for more", record.ErrDiskFull, st.Free)
	}
	err := g.store.onDisk(true, func() error {
		_, err := file.WriteThrough(b, f.have)
		return err
	})
	if errors.Is(err, record.ErrDiskFull) {
		return err
	}
	if err != nil {
		return g.store.goOffline(err)
	}
	at := f.have
	f.have += int64(len(b))
	g.done.Add(int64(len(b)))
	return g.checkTo(f, &arrived{File: file, b: b, at: at}, f.have)
}

// arrived is a file whose last bytes are still in memory, and are not read from the
// disk to be checked.
type arrived struct {
	vfs.File
	b  []byte
	at int64
}

// ReadAt implements io.ReaderAt.
func (a *arrived) ReadAt(p []byte, off int64) (int, error) {
	if off < a.at {
		return a.File.ReadAt(p, off)
	}
	n := copy(p, a.b[min(off-a.at, int64(len(a.b))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// checking is how far a file has been checked, from its beginning.
type checking struct {
	h      segHeader
	w      walker
	p      progress
	end    uint32 // behind the last frame that is no footer
	footer bool   // it was reached
	bad    error  // what is wrong behind p
}

// checkTo goes on checking a file up to a byte: its header must be the one that was
// named, every frame whole and in order, every batch right. What is wrong is told
// by check, when all is there; until then a frame may not be whole yet.
func (g *Staging) checkTo(f *stagedFile, file vfs.File, to int64) error {
	if f.seen == nil {
		h, err := readHeader(file)
		switch {
		case isIO(err):
			return err
		case errors.Is(err, errShort) && to < f.Bytes:
			return nil
		}
		if err == nil && (h.crc != f.Header || h.seq != f.Seq || h.id != g.id || h.state.Index+1 != f.First) {
			err = fmt.Errorf("it is segment %d of log %s from entry %d with header %08x, want %+v of log %s", h.seq, h.id, h.state.Index+1, h.crc, f.ManifestFile, g.id)
		}
		f.seen = &checking{h: h, p: begin(&h), end: h.length, bad: err}
		f.seen.w = walker{sealing: f.seen.p.sealing, pos: h.length, chunk: 1 << 20, reuse: true, buf: make([]byte, 0, min(2<<20, f.Bytes))}
	}
	c := f.seen
	if c.footer || c.bad != nil {
		return nil
	}
	var err error
	c.w.f, c.w.end = file, uint32(to)
	c.p, err = c.w.verify(c.p, func(fr *frame, payload []byte) error {
		if c.footer = fr.kind == kindFooter; !c.footer {
			c.end += uint32(fr.size())
		}
		if fr.kind == KindData {
			return record.Batch(payload).Check()
		}
		return nil
	})
	if errors.Is(err, errShort) && to < f.Bytes {
		// The beginning of a frame, while it is in memory.
		_, err = c.w.window(int(to) - int(c.w.pos))
	}
	if isIO(err) {
		return err
	}
	c.bad = err
	return nil
}

// check checks what is left of a file that is all there, and that it ends as the
// manifest says. With the last entry's term equal its entries are the leader's
// (Raft's log matching), even if the file was written in two parts.
func (g *Staging) check(f *stagedFile, file vfs.File) error {
	size, err := file.Size()
	if err != nil {
		return err
	}
	if size != f.Bytes {
		return &placeError{0, fmt.Errorf("it has %d bytes, want %d", size, f.Bytes)}
	}
	if err := g.checkTo(f, file, size); err != nil {
		return err
	}
	c := f.seen
	p, end, err := c.p, c.end, c.bad
	if err == nil && int64(p.end) != size {
		err = fmt.Errorf("%d bytes behind the footer", size-int64(p.end))
	}
	p.end = end
	p.finish(&c.h)
	if err == nil && (p.lastIndex != f.LastIndex || p.lastTerm != f.LastTerm || p.nextOffset != f.NextOffset) {
		err = fmt.Errorf("it ends with entry %d of term %d at offset %d", p.lastIndex, p.lastTerm, p.nextOffset)
	}
	if err != nil && !g.store.planted.trustSize {
		return &placeError{p.end, err}
	}
	f.whole, f.end, f.max, f.tail, f.seen = true, end, p.maxTime, c.h.tail(end), nil
	return nil
}

// Discard deletes what was received.
func (g *Staging) Discard() error { return g.store.DiscardStaged(g.id) }

// DiscardStaged deletes what was received of a log and has not taken its place.
// It is no error when there is none. On a volume that is offline nothing is
// deleted: it may be the log from the next start on.
func (s *Store) DiscardStaged(id LogID) error {
	if err := s.offline(); err != nil {
		return err
	}
	if err := s.discardStaged(path.Join(s.dir, dirName(id)+stagingSuffix)); err != nil {
		return fmt.Errorf("discard what was received of log %s: %w", id, err)
	}
	return nil
}

func (s *Store) discardStaged(dir string) error {
	// First what says that it is whole: half of it must never be a log.
	err := s.fs.Remove(path.Join(dir, completeName))
	if err == nil {
		if err := s.fs.SyncDir(dir); err != nil {
			return s.goOffline(err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := s.removeTree(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Staged reports whether something was received of a log that has not taken its
// place.
func (s *Store) Staged(id LogID) bool {
	_, err := s.fs.Stat(path.Join(s.dir, dirName(id)+stagingSuffix))
	return err == nil
}

// staged lists the folders beside logs whose names end so.
func (s *Store) staged(suffix string) ([]string, error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(name string) bool {
		log, ok := strings.CutSuffix(name, suffix)
		return !ok || !logDirPattern.MatchString(log)
	}), nil
}
