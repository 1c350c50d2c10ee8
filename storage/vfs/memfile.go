package vfs

import (
	"io"
	"io/fs"
	"slices"
	"syscall"
)

// sectorSize is what a disk writes as a whole.
const sectorSize = 512

// memFile is a file's content. data is what a process sees. A sector that was
// written since the last sync remembers every content it had, the durable one
// first: the disk may hold any of them after a power cut.
type memFile struct {
	data  []byte
	older map[int64][][]byte // sector → contents before the present one
}

func newMemFile() *memFile { return &memFile{older: map[int64][][]byte{}} }

func (f *memFile) sync() { clear(f.older) }

// sector is the present content of a sector: shorter than sectorSize where
// the file ends in it, empty behind the end.
func (f *memFile) sector(s int64) []byte {
	from := min(s*sectorSize, int64(len(f.data)))
	return f.data[from:min(from+sectorSize, int64(len(f.data)))]
}

// remember keeps the content of the sectors from..to (bytes) before a change.
func (f *memFile) remember(from, to int64) {
	for s := from / sectorSize; s*sectorSize < to; s++ {
		f.older[s] = append(f.older[s], append([]byte{}, f.sector(s)...))
	}
}

// resize changes the length; new bytes are zero.
func (f *memFile) resize(size int64) {
	old := int64(len(f.data))
	f.remember(min(old, size), max(old, size))
	if size <= old {
		f.data = f.data[:size:size]
		return
	}
	f.data = append(f.data, make([]byte, size-old)...)
}

func (f *memFile) write(p []byte, off int64) {
	if gap := off - int64(len(f.data)); gap > 0 {
		f.resize(off)
	}
	end := off + int64(len(p))
	f.remember(off, end)
	if grow := end - int64(len(f.data)); grow > 0 {
		f.data = append(f.data, make([]byte, grow)...)
	}
	copy(f.data[off:end], p)
}

// memHandle is an open file.
type memHandle struct {
	fs    *Mem
	name  string
	node  *node
	write bool
}

func (h *memHandle) pathError(op string, err error) error {
	return &fs.PathError{Op: op, Path: h.name, Err: err}
}

// ReadAt implements File.
func (h *memHandle) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.mu.cut.dead {
		return 0, errCut
	}
	data := h.node.file.data
	if off >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteGather implements File. A cut in the middle of it leaves a part.
func (h *memHandle) WriteGather(bufs [][]byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if !h.write {
		return 0, h.pathError("write", syscall.EBADF)
	}
	if h.fs.mu.cut.dead {
		return 0, errCut
	}
	var all []byte
	for _, b := range bufs {
		all = append(all, b...)
	}
	h.fs.mu.ops++
	if c := &h.fs.mu.cut; c.armed && h.fs.mu.ops == c.at {
		c.dead = true
		h.node.file.write(all[:c.rng.IntN(len(all)+1)], off)
		return 0, errCut
	}
	fits, full := h.room(off + int64(len(all)))
	if full {
		all = all[:max(0, fits-off)]
	}
	h.grow(func() { h.node.file.write(all, off) })
	if full {
		return len(all), h.pathError("write", syscall.ENOSPC)
	}
	return len(all), nil
}

// room returns how long the file may become, and whether that is less than end.
func (h *memHandle) room(end int64) (int64, bool) {
	m := h.fs
	size := int64(len(h.node.file.data))
	if m.mu.capacity == 0 || end <= size {
		return end, false
	}
	limit := size + max(0, m.mu.capacity-m.mu.used)
	return min(end, limit), limit < end
}

func (h *memHandle) grow(do func()) {
	before := len(h.node.file.data)
	do()
	if h.node.links > 0 {
		h.fs.mu.used += int64(len(h.node.file.data) - before)
	}
}

// Sync implements File.
func (h *memHandle) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return h.fs.change(h.node.file.sync)
}

// Size implements File.
func (h *memHandle) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.fs.mu.cut.dead {
		return 0, errCut
	}
	return int64(len(h.node.file.data)), nil
}

// Truncate implements File.
func (h *memHandle) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return h.resize("truncate", size)
}

// Allocate implements File.
func (h *memHandle) Allocate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return h.resize("allocate", max(size, int64(len(h.node.file.data))))
}

// WriteThrough implements File: there is no disk to write to.
func (h *memHandle) WriteThrough(b []byte, off int64) (int, error) {
	return h.WriteGather([][]byte{b}, off)
}

// Prefetch implements File: everything is in memory.
func (h *memHandle) Prefetch(int64, int64) {}

// Once implements File.
func (h *memHandle) Once() File { return h }

func (h *memHandle) resize(op string, size int64) error {
	if _, full := h.room(size); full {
		return h.pathError(op, syscall.ENOSPC)
	}
	return h.fs.change(func() { h.grow(func() { h.node.file.resize(size) }) })
}

// Close implements File.
func (h *memHandle) Close() error { return nil }

// clone copies the file with what is not synced. Contents are never changed,
// so the two share them; the lists are clipped, so that neither appends into
// the other's.
func (f *memFile) clone() *memFile {
	c := &memFile{data: append([]byte{}, f.data...), older: make(map[int64][][]byte, len(f.older))}
	for s, contents := range f.older {
		c.older[s] = slices.Clip(contents)
	}
	return c
}
