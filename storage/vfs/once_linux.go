package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// onceBytes is the most that a handle of Once reads from the disk at a time: a write
// that somebody waits for may wait for it.
const onceBytes = 256 << 10

// onceFile is a handle of Once, for one goroutine. What the page cache has is copied
// from there. The rest is read past it (O_DIRECT): pages that are made to be given
// back cost more than what is read into them is worth, a third of all in virtual
// machines whose host takes back what they do not use (docs/benchmarks.md).
type onceFile struct {
	osFile        // nothing is read ahead
	room   []byte // onceBytes and a block
	have   []byte // of room
	at     int64  // of have in the file
}

// openOnce opens the same file again, whatever its name is by now; nil: there is no
// /proc.
func openOnce(f *os.File) File {
	own := reopen(f, os.O_RDONLY)
	if own == nil {
		return nil
	}
	const random = 1
	advise(own, 0, 0, random)
	return &onceFile{osFile: osFile{f: own, past: openPast(f, os.O_RDONLY)}}
}

// openPast opens the same file again to pass the page cache; nil: that cannot be had.
func openPast(f *os.File, flag int) *os.File { return reopen(f, flag|syscall.O_DIRECT) }

func reopen(f *os.File, flag int) *os.File {
	own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), flag, 0)
	runtime.KeepAlive(f)
	if err != nil {
		return nil
	}
	return own
}

// isRefused reports whether the system does not read or write past its memory here.
func isRefused(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP)
}

func (f *onceFile) Close() error {
	f.have = nil
	return f.osFile.Close()
}

func (f *onceFile) ReadAt(p []byte, off int64) (total int, err error) {
	for total < len(p) {
		n, err := f.read(p[total:min(len(p), total+onceBytes)], off+int64(total))
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// read reads some of p, at least a byte, or says why not.
func (f *onceFile) read(p []byte, off int64) (int, error) {
	if in := off - f.at; in >= 0 && in < int64(len(f.have)) {
		return copy(p, f.have[in:]), nil
	}
	if f.past == nil || isCached(f.f, off, len(p)) {
		return f.readKept(p, off)
	}
	if f.room == nil {
		f.room = Blocks(onceBytes + BlockBytes)
	}
	at := off &^ (BlockBytes - 1)
	size := (off + int64(len(p)) - at + BlockBytes - 1) &^ (BlockBytes - 1)
	// Not ReadAt, which asks again from where the file ends: in the middle of a block.
	var n int
	err := retryEINTR("pread", f.past, func(fd int) (err error) {
		n, err = syscall.Pread(fd, f.room[:size], at)
		return err
	})
	if isRefused(err) {
		return f.readKept(p, off)
	}
	if err != nil {
		return 0, err
	}
	f.have, f.at = f.room[:n], at
	if n = copy(p, f.have[min(off-at, int64(n)):]); n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// readKept is a read through the page cache. What it did not have before is given
// back where RWF_DONTCACHE is known (Linux 6.14, and file systems one by one since).
func (f *onceFile) readKept(p []byte, off int64) (int, error) {
	const dontCache = 0x80
	for {
		v := syscall.Iovec{Base: unsafe.SliceData(p)}
		v.SetLen(len(p))
		n, _, errno := syscall.Syscall6(sysPreadv2, f.f.Fd(), uintptr(unsafe.Pointer(&v)), 1, uintptr(off), uintptr(uint64(off)>>32), dontCache)
		runtime.KeepAlive(f.f)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0: // it is not known here, or ReadAt says what is wrong
			return f.f.ReadAt(p, off)
		case n == 0:
			return 0, io.EOF
		}
		return int(n), nil
	}
}

// isCached reports whether the page cache has all of n bytes, by cachestat(2). Where
// that is not known (before Linux 6.5) it may.
func isCached(f *os.File, off int64, n int) bool {
	const sysCachestat = 451 // on all architectures
	span := [2]uint64{uint64(off), uint64(n)}
	var stat struct{ cached, dirty, writeback, evicted, recentlyEvicted uint64 }
	_, _, errno := syscall.Syscall6(sysCachestat, f.Fd(), uintptr(unsafe.Pointer(&span)), uintptr(unsafe.Pointer(&stat)), 0, 0, 0)
	runtime.KeepAlive(f)
	page := int64(os.Getpagesize())
	pages := (off+int64(n)+page-1)/page - off/page
	return errno != 0 || stat.cached >= uint64(pages)
}
