package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// TestCopyIsCheckedAsItComes: a copy that comes in pieces of any size is checked
// piece by piece, is the same, and a bit that flips on the way is found in any
// place of it.
func TestCopyIsCheckedAsItComes(t *testing.T) {
	now := func() time.Time { return time.UnixMilli(1_700_000_000_000) }
	from := openMem(t, vfs.NewMem(), Config{Clock: now, TailCacheBytes: -1})
	src, err := from.Create(LogID{Topic: "t", ID: record.TopicID{9}}, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, from, src, 3, now)
	if _, err := src.Rewrite(context.Background(), Rewrite{First: 1, Last: 1, Keep: keepEvery(2)}); err != nil {
		t.Fatal(err)
	}
	m, err := src.Manifest(endState(src))
	if err != nil {
		t.Fatal(err)
	}
	to := openMem(t, vfs.NewMem(), Config{Clock: now})
	for chunk := int64(1); chunk < 3000; chunk = chunk*3 + 1 {
		g := stageInPieces(t, to, m, chunk)
		at := int64(0)
		for _, f := range g.files {
			step := max(f.Bytes/20, chunk)
			for have := step; have < f.Bytes; have += step {
				err := g.complete(t.Context(), f, func(_ context.Context, mf ManifestFile, from int64) (io.ReadCloser, error) {
					r, err := src.OpenSegment(mf, from)
					return struct {
						io.Reader
						io.Closer
					}{io.LimitReader(r, have-from), r}, err
				})
				if !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("%s after %d bytes: %v", f.Name(), have, err)
				}
				checked := int64(0)
				if f.seen != nil {
					checked = int64(f.seen.p.end)
				}
				// What is not whole yet is a header or a frame.
				if checked > f.have || f.have-checked > 500 {
					t.Fatalf("%s: of %d bytes %d are checked", f.Name(), f.have, checked)
				}
			}
			at += f.Bytes
		}
		if err := g.Fetch(t.Context(), func(_ context.Context, f ManifestFile, from int64) (io.ReadCloser, error) {
			return src.OpenSegment(f, from)
		}); err != nil {
			t.Fatalf("in pieces of %d bytes: %v", chunk, err)
		}
		if done, of := g.Progress(); done != at || of != at {
			t.Errorf("progress %d of %d, want %d", done, of, at)
		}
	}
	for i, f := range m.Files {
		for at := int64(0); at < f.Bytes; at += 7 {
			g := stageInPieces(t, to, m, 200)
			err := g.Fetch(t.Context(), func(_ context.Context, mf ManifestFile, from int64) (io.ReadCloser, error) {
				r, err := src.OpenSegment(mf, from)
				if err != nil || mf != f {
					return r, err
				}
				b, err := io.ReadAll(r)
				b[at-from] ^= 1
				return io.NopCloser(bytes.NewReader(b)), errors.Join(err, r.Close())
			})
			if damaged, ok := errors.AsType[*DamagedCopyError](err); !ok || damaged.File != f {
				t.Fatalf("byte %d of file %d flips: %v", at, i, err)
			}
		}
	}
}

func stageInPieces(t *testing.T, s *Store, m Manifest, chunk int64) *Staging {
	t.Helper()
	if err := s.DiscardStaged(m.Log); err != nil {
		t.Fatal(err)
	}
	g, err := s.Stage(m)
	if err != nil {
		t.Fatal(err)
	}
	g.chunk = chunk
	return g
}

// TestInstallOnAFullDisk: wherever the room ends while a log takes the place of
// another, the old one stays, the volume is well, and with room it is done.
func TestInstallOnAFullDisk(t *testing.T) {
	now := func() time.Time { return time.UnixMilli(1_700_000_000_000) }
	id := LogID{Topic: "t", ID: record.TopicID{9}}
	from := openMem(t, vfs.NewMem(), Config{Clock: now, TailCacheBytes: -1})
	src, err := from.Create(id, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, from, src, 3, now)
	m, err := src.Manifest(endState(src))
	if err != nil {
		t.Fatal(err)
	}
	hard := src.Hard()
	full := 0
	for room := int64(1); ; room += 9 {
		mem := vfs.NewMem()
		to := openMem(t, mem, Config{Clock: now, ReserveBytes: -1, LowWater: 1, HighWater: 1})
		l, err := to.Create(id, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
		if err != nil {
			t.Fatal(err)
		}
		g, err := to.Stage(m)
		if err == nil {
			err = g.Fetch(t.Context(), func(_ context.Context, f ManifestFile, from int64) (io.ReadCloser, error) {
				return src.OpenSegment(f, from)
			})
		}
		space, serr := mem.Space("/")
		if err := errors.Join(err, serr); err != nil {
			t.Fatal(err)
		}
		mem.SetCapacity(space.Total - space.Free + room)
		err = l.Install(g, hard)
		mem.SetCapacity(0)
		if err == nil {
			break
		}
		full++
		if !errors.Is(err, record.ErrDiskFull) || errors.Is(err, record.ErrOffline) {
			t.Fatalf("with room for %d bytes: %v", room, err)
		}
		if err := l.Install(g, hard); err != nil {
			t.Fatalf("with room again, after %d bytes: %v", room, err)
		}
	}
	if full < 10 {
		t.Errorf("the disk was full %d times", full)
	}
}

// TestCopyLeavesMemoryAlone: a copy reads once, and what it writes is written through
// and checked on its way, not read again; a scrub reads once, too.
func TestCopyLeavesMemoryAlone(t *testing.T) {
	now := func() time.Time { return time.UnixMilli(1_700_000_000_000) }
	there, here := &memoryUse{FS: vfs.NewMem(), once: map[string]int64{}}, &memoryUse{FS: vfs.NewMem(), through: map[string]int64{}}
	from := openMem(t, there, Config{Clock: now, TailCacheBytes: -1})
	src, err := from.Create(LogID{Topic: "t", ID: record.TopicID{9}}, State{Hard: HardState{Term: 1}, Aux: simAux(0)})
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, from, src, 3, now)
	m, err := src.Manifest(endState(src))
	if err != nil {
		t.Fatal(err)
	}
	to := openMem(t, here, Config{Clock: now})
	for _, chunk := range []int64{50, 300, 3000} {
		clear(there.once)
		clear(here.through)
		g := stageInPieces(t, to, m, chunk)
		here.read = 0
		if err := g.Fetch(t.Context(), func(_ context.Context, f ManifestFile, from int64) (io.ReadCloser, error) {
			return src.OpenSegment(f, from)
		}); err != nil {
			t.Fatal(err)
		}
		for i, f := range m.Files {
			if got := there.once[f.Name()]; got < f.Bytes {
				t.Errorf("file %d: %d bytes of %d were read once", i, got, f.Bytes)
			}
			if got := here.through[g.path(g.files[i])]; got != f.Bytes {
				t.Errorf("file %d: %d bytes of %d were written through", i, got, f.Bytes)
			}
		}
		if here.read > 0 {
			t.Errorf("in pieces of %d bytes: %d bytes were read again", chunk, here.read)
		}
	}
	for i, f := range m.Files {
		there.once[f.Name()] = 0
		if _, err := src.Scrub(t.Context(), f.Seq, nil); err != nil {
			t.Fatal(err)
		}
		if got := there.once[f.Name()]; got < f.Bytes/2 {
			t.Errorf("file %d: a scrub read %d bytes of %d once", i, got, f.Bytes)
		}
	}
}

// memoryUse is a file system that counts the bytes that are read once, written through
// and read otherwise.
type memoryUse struct {
	vfs.FS
	once    map[string]int64 // by base name
	through map[string]int64
	read    int64
}

func (u *memoryUse) file(name string, f vfs.File, err error) (vfs.File, error) {
	return &memoryUseFile{f, name, u}, err
}

func (u *memoryUse) Open(name string) (vfs.File, error) {
	f, err := u.FS.Open(name)
	return u.file(name, f, err)
}

func (u *memoryUse) OpenWrite(name string) (vfs.File, error) {
	f, err := u.FS.OpenWrite(name)
	return u.file(name, f, err)
}

func (u *memoryUse) Create(name string) (vfs.File, error) {
	f, err := u.FS.Create(name)
	return u.file(name, f, err)
}

type memoryUseFile struct {
	vfs.File
	name string
	use  *memoryUse
}

func (f *memoryUseFile) Once() vfs.File { return &onceFile{f.File.Once(), f} }

// onceFile counts what is read by a handle of Once.
type onceFile struct {
	vfs.File
	of *memoryUseFile
}

func (f *onceFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if f.of.use.once != nil {
		f.of.use.once[path.Base(f.of.name)] += int64(n)
	}
	return n, err
}

func (f *memoryUseFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if off > 0 { // the header is, until all of it is there
		f.use.read += int64(n)
	}
	return n, err
}

func (f *memoryUseFile) WriteThrough(b []byte, off int64) (int, error) {
	n, err := f.File.WriteThrough(b, off)
	if f.use.through != nil {
		f.use.through[f.name] += int64(n)
	}
	return n, err
}
