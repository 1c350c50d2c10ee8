// Package vfs is the file system as a parameter: OS is the real one, NewMem
// one in memory that can lose what was not synced, WithFaults and WithTrace
// wrap either. Storage goes through it for every byte.
//
// Names are slash-separated. Durability is explicit: bytes are durable after
// File.Sync, names after SyncDir of their directory, everything after SyncFS.
//
// Goroutines: none.
package vfs

import (
	"errors"
	"io"
	"time"
	"unsafe"
)

// ErrLocked is returned by FS.Lock when another owner holds the lock.
var ErrLocked = errors.New("locked by another process")

// FS is a file system. Errors satisfy errors.Is with io/fs's sentinels, and
// with syscall.ENOSPC for a full disk.
type FS interface {
	// Create makes a new empty file for reading and writing; it must not exist.
	Create(name string) (File, error)
	// Open opens an existing file for reading.
	Open(name string) (File, error)
	// OpenWrite opens an existing file for reading and writing.
	OpenWrite(name string) (File, error)
	// Mkdir makes a directory; its parent must exist, it must not.
	Mkdir(name string) error
	// SyncDir makes the names in a directory durable: creates, renames, links
	// and removes done before.
	SyncDir(name string) error
	// SyncFS makes everything on the file system of a directory durable.
	SyncFS(dir string) error
	// Rename replaces newname if it exists.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Link gives a file a second name, which must not exist.
	Link(oldname, newname string) error
	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)
	// Stat describes a file or a directory.
	Stat(name string) (Info, error)
	// Lock takes an exclusive lock on a file, creating it if needed, for as
	// long as the process lives or until the closer is closed.
	Lock(name string) (io.Closer, error)
	// Space tells how full the volume of a directory is.
	Space(dir string) (Space, error)
}

// File is an open file. Reads may run concurrently with writes.
type File interface {
	io.ReaderAt
	io.Closer
	// WriteGather writes the buffers one after the other at off, in one call
	// to the system where it can. It returns how many bytes were written; the
	// rest of a failed write may or may not be there after a crash.
	WriteGather(bufs [][]byte, off int64) (int, error)
	// Sync makes the file's bytes and its size durable (fdatasync).
	Sync() error
	// WriteThrough writes b at off to the disk and waits for that, so that little is
	// left for a later Sync, and nothing in the memory in which the system keeps files,
	// as far as it can: for what nobody reads soon. It makes nothing durable. Least work
	// are whole pieces of BlockBytes, from a multiple of it on, out of memory of Blocks.
	// One goroutine at a time calls it.
	WriteThrough(b []byte, off int64) (int, error)
	// Size is the length in bytes.
	Size() (int64, error)
	// Truncate cuts the file or extends it with zeros.
	Truncate(size int64) error
	// Allocate takes space on the disk for the file's first size bytes and
	// makes it at least that long.
	Allocate(size int64) error
	// Prefetch says that n bytes from off will be read soon. It waits for
	// nothing and changes nothing.
	Prefetch(off, n int64)
	// Once opens the file once more, to be read through by one in no hurry: the system
	// reads no further than it is asked to, and keeps nothing that it did not have in
	// memory before, as far as it can. This handle must stay open meanwhile. One
	// goroutine at a time reads.
	Once() File
}

// BlockBytes is a multiple of what disks read and write at least.
const BlockBytes = 4096

// Blocks makes memory of n bytes that begins at a multiple of BlockBytes.
func Blocks(n int) []byte {
	b := make([]byte, n+BlockBytes)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (BlockBytes - 1)
	return b[skip : skip+n : skip+n]
}

// Info describes a file.
type Info struct {
	Size    int64
	Dir     bool
	ModTime time.Time
}

// Space is the size of a volume and what is left for this process, in bytes.
type Space struct{ Total, Free int64 }
