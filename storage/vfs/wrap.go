package vfs

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Op is one operation that changes something, as the wrappers see it.
type Op struct {
	Kind OpKind
	Name string
	To   string // rename, link: the new name
	Off  int64  // write: where
	Len  int64  // write, truncate, allocate: how many bytes
	// Short, when a wrapper sets it on a write, lets only the first Short-1
	// bytes through; zero is no limit.
	Short int64
}

// OpKind names an operation.
type OpKind string

// The operations that wrappers see.
const (
	OpCreate   OpKind = "create"
	OpMkdir    OpKind = "mkdir"
	OpWrite    OpKind = "write"
	OpTruncate OpKind = "truncate"
	OpAllocate OpKind = "allocate"
	OpSync     OpKind = "sync"
	OpSyncDir  OpKind = "syncdir"
	OpSyncFS   OpKind = "syncfs"
	OpRename   OpKind = "rename"
	OpRemove   OpKind = "remove"
	OpLink     OpKind = "link"
)

// ErrSkip is what a fault returns to pretend that the operation was done.
var ErrSkip = errors.New("skip the operation")

// WithFaults asks check before every operation: nil lets it pass, ErrSkip pretends
// it happened, any other error is returned instead of doing it (after Op.Short
// bytes of a write).
func WithFaults(fsys FS, check func(op *Op) error) FS {
	return &wrapped{FS: fsys, around: func(op *Op, do func() error) error {
		err := check(op)
		switch {
		case errors.Is(err, ErrSkip):
			return nil
		case err != nil && op.Short > 0:
			return errors.Join(err, do())
		case err != nil:
			return fmt.Errorf("%s %s: %w", op.Kind, op.Name, err)
		}
		return do()
	}}
}

// WithTrace calls line for every operation that succeeded, with names relative
// to root: a text to be compared with a golden one.
func WithTrace(fsys FS, root string, line func(string)) FS {
	short := func(name string) string {
		if name == root {
			return "."
		}
		return strings.TrimPrefix(name, root+"/")
	}
	return &wrapped{FS: fsys, around: func(op *Op, do func() error) error {
		if err := do(); err != nil {
			return err
		}
		switch op.Kind {
		case OpWrite:
			line(fmt.Sprintf("%s %s at %d: %d bytes", op.Kind, short(op.Name), op.Off, op.Len))
		case OpTruncate, OpAllocate:
			line(fmt.Sprintf("%s %s to %d", op.Kind, short(op.Name), op.Len))
		case OpRename, OpLink:
			line(fmt.Sprintf("%s %s to %s", op.Kind, short(op.Name), short(op.To)))
		default:
			line(fmt.Sprintf("%s %s", op.Kind, short(op.Name)))
		}
		return nil
	}}
}

// wrapped puts a function around every operation that changes something.
type wrapped struct {
	FS
	around func(op *Op, do func() error) error
}

func (w *wrapped) file(op Op, open func(string) (File, error)) (f File, err error) {
	do := func() error { f, err = open(op.Name); return err }
	if op.Kind != "" {
		err = w.around(&op, do)
	} else {
		err = do()
	}
	if err != nil {
		return nil, err
	}
	return &wrappedFile{File: f, name: op.Name, around: w.around}, nil
}

func (w *wrapped) Create(name string) (File, error) {
	return w.file(Op{Kind: OpCreate, Name: name}, w.FS.Create)
}
func (w *wrapped) Open(name string) (File, error) { return w.file(Op{Name: name}, w.FS.Open) }
func (w *wrapped) OpenWrite(name string) (File, error) {
	return w.file(Op{Name: name}, w.FS.OpenWrite)
}

func (w *wrapped) Mkdir(name string) error {
	return w.around(&Op{Kind: OpMkdir, Name: name}, func() error { return w.FS.Mkdir(name) })
}

func (w *wrapped) SyncDir(name string) error {
	return w.around(&Op{Kind: OpSyncDir, Name: name}, func() error { return w.FS.SyncDir(name) })
}

func (w *wrapped) SyncFS(dir string) error {
	return w.around(&Op{Kind: OpSyncFS, Name: dir}, func() error { return w.FS.SyncFS(dir) })
}

func (w *wrapped) Rename(oldname, newname string) error {
	return w.around(&Op{Kind: OpRename, Name: oldname, To: newname}, func() error { return w.FS.Rename(oldname, newname) })
}

func (w *wrapped) Remove(name string) error {
	return w.around(&Op{Kind: OpRemove, Name: name}, func() error { return w.FS.Remove(name) })
}

func (w *wrapped) Link(oldname, newname string) error {
	return w.around(&Op{Kind: OpLink, Name: oldname, To: newname}, func() error { return w.FS.Link(oldname, newname) })
}

type wrappedFile struct {
	File
	name   string
	around func(op *Op, do func() error) error
}

func (f *wrappedFile) WriteGather(bufs [][]byte, off int64) (int, error) {
	return f.write(bufs, off, f.File.WriteGather)
}

func (f *wrappedFile) WriteThrough(b []byte, off int64) (int, error) {
	return f.write([][]byte{b}, off, func(bufs [][]byte, off int64) (int, error) {
		if len(bufs) == 0 {
			return 0, nil
		}
		return f.File.WriteThrough(bufs[0], off)
	})
}

func (f *wrappedFile) write(bufs [][]byte, off int64, write func(bufs [][]byte, off int64) (int, error)) (n int, err error) {
	op := &Op{Kind: OpWrite, Name: f.name, Off: off}
	for _, b := range bufs {
		op.Len += int64(len(b))
	}
	n = int(op.Len) // what a skipped write claims
	err = f.around(op, func() error {
		if op.Short > 0 {
			bufs = firstBytes(bufs, op.Short-1)
		}
		var err error
		if n, err = write(bufs, off); err == nil && int64(n) < op.Len {
			err = io.ErrShortWrite
		}
		return err
	})
	if err != nil && int64(n) == op.Len {
		n = 0
	}
	return n, err
}

func firstBytes(bufs [][]byte, n int64) [][]byte {
	var out [][]byte
	for _, b := range bufs {
		k := min(n, int64(len(b)))
		out, n = append(out, b[:k]), n-k
	}
	return out
}

func (f *wrappedFile) Sync() error {
	return f.around(&Op{Kind: OpSync, Name: f.name}, f.File.Sync)
}

func (f *wrappedFile) Truncate(size int64) error {
	return f.around(&Op{Kind: OpTruncate, Name: f.name, Len: size}, func() error { return f.File.Truncate(size) })
}

func (f *wrappedFile) Allocate(size int64) error {
	return f.around(&Op{Kind: OpAllocate, Name: f.name, Len: size}, func() error { return f.File.Allocate(size) })
}
