package vfs

import (
	"errors"
	"io"
	"os"
	"slices"
)

// OS is the file system of the machine.
func OS() FS { return osFS{} }

type osFS struct{}

type osFile struct{ f *os.File }

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
func (f *osFile) Close() error                            { return f.f.Close() }
func (f *osFile) Sync() error                             { return syncData(f.f) }
func (f *osFile) WriteOut(off, n int64) error             { return writeOut(f.f, off, n) }
func (f *osFile) Truncate(size int64) error               { return f.f.Truncate(size) }
func (f *osFile) Allocate(size int64) error               { return allocate(f.f, size) }
func (f *osFile) Prefetch(off, n int64)                   { prefetch(f.f, off, n) }
func (f *osFile) Forget(off, n int64)                     { forget(f.f, off, n) }

func (f *osFile) Once() File {
	if own := openOnce(f.f); own != nil {
		return &onceFile{osFile{own}}
	}
	return sharedFile{f}
}

// onceFile is a handle of Once.
type onceFile struct{ osFile }

func (f *onceFile) ReadAt(p []byte, off int64) (int, error) { return readOnce(f.f, p, off) }

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
