package vfs

import (
	"errors"
	"io"
	"os"
	"slices"
	"unsafe"
)

// OS is the file system of the machine.
func OS() FS { return osFS{} }

type osFS struct{}

type osFile struct {
	f *os.File
	// past is the same file once more, to pass the memory in which the system keeps
	// files: of Once to read, else to write, from the first WriteThrough on. nil: the
	// system does not do that.
	past  *os.File
	tried bool // to open it
}

func openOS(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return &osFile{f: f}, nil
}

func (osFS) Create(name string) (File, error) {
	return openOS(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}
func (osFS) Open(name string) (File, error)      { return openOS(name, os.O_RDONLY) }
func (osFS) OpenWrite(name string) (File, error) { return openOS(name, os.O_RDWR) }
func (osFS) Mkdir(name string) error             { return os.Mkdir(name, 0o750) }
func (osFS) Rename(oldname, newname string) error {
	return os.Rename(oldname, newname)
}
func (osFS) Remove(name string) error           { return os.Remove(name) }
func (osFS) Link(oldname, newname string) error { return os.Link(oldname, newname) }

func (osFS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osFS) SyncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(syncFS(d), d.Close())
}

func (osFS) List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, d.Close())
}

func (osFS) Stat(name string) (Info, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return Info{}, err
	}
	return Info{Size: fi.Size(), Dir: fi.IsDir(), ModTime: fi.ModTime()}, nil
}

func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (osFS) Space(dir string) (Space, error) { return volumeSpace(dir) }

func (f *osFile) ReadAt(p []byte, off int64) (int, error) { return f.f.ReadAt(p, off) }
func (f *osFile) Sync() error                             { return syncData(f.f) }
func (f *osFile) Truncate(size int64) error               { return f.f.Truncate(size) }
func (f *osFile) Allocate(size int64) error               { return allocate(f.f, size) }
func (f *osFile) Prefetch(off, n int64)                   { prefetch(f.f, off, n) }

func (f *osFile) Close() error {
	if f.past != nil {
		return errors.Join(f.past.Close(), f.f.Close())
	}
	return f.f.Close()
}

func (f *osFile) WriteThrough(b []byte, off int64) (int, error) {
	if !inBlocks(b, off) {
		return f.writeOut(b, off)
	}
	if !f.tried {
		f.tried, f.past = true, openPast(f.f, os.O_WRONLY)
	}
	if f.past != nil {
		if n, err := f.past.WriteAt(b, off); !isRefused(err) {
			return n, err
		}
	}
	return f.writeOut(b, off)
}

// writeOut writes to memory, and from there.
func (f *osFile) writeOut(b []byte, off int64) (int, error) {
	n, err := f.f.WriteAt(b, off)
	if err == nil {
		err = writeOut(f.f, off, int64(n))
	}
	if err == nil {
		forget(f.f, off, int64(n))
	}
	return n, err
}

// inBlocks reports whether a disk can take b from where it is.
func inBlocks(b []byte, off int64) bool {
	return len(b) > 0 && len(b)%BlockBytes == 0 && off%BlockBytes == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(b)))%BlockBytes == 0
}

func (f *osFile) Once() File {
	if own := openOnce(f.f); own != nil {
		return own
	}
	return sharedFile{f}
}

// sharedFile is a handle that somebody else closes.
type sharedFile struct{ File }

func (sharedFile) Close() error { return nil }

func (f *osFile) WriteGather(bufs [][]byte, off int64) (int, error) {
	if len(bufs) == 1 {
		return f.f.WriteAt(bufs[0], off)
	}
	return writeGather(f.f, bufs, off)
}

func (f *osFile) Size() (int64, error) {
	fi, err := f.f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
