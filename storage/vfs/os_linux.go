package vfs

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"
)

// maxIovecs is Linux's IOV_MAX.
const maxIovecs = 1024

// maxGathered is the most bytes that one call takes from several buffers. For
// more, Linux looks for memory in pieces of 2 MiB, and a virtual machine that
// reports free memory to its host has given up just those: each page of them
// has to come back first (docs/benchmarks.md, "What a write costs").
const maxGathered = 1 << 20

var iovecPool = sync.Pool{New: func() any { s := make([]syscall.Iovec, 0, 64); return &s }}

// writeGather is pwritev(2), repeated until everything is written.
func writeGather(f *os.File, bufs [][]byte, off int64) (int, error) {
	pooled := iovecPool.Get().(*[]syscall.Iovec)
	vec := (*pooled)[:0]
	for _, b := range bufs {
		if len(b) == 0 {
			continue
		}
		v := syscall.Iovec{Base: unsafe.SliceData(b)}
		v.SetLen(len(b))
		vec = append(vec, v)
	}
	n, err := pwritevAll(f.Fd(), vec, off)
	clear(vec)
	*pooled = vec[:0]
	iovecPool.Put(pooled)
	runtime.KeepAlive(bufs)
	runtime.KeepAlive(f)
	if err != nil {
		return n, &os.PathError{Op: "pwritev", Path: f.Name(), Err: err}
	}
	return n, nil
}

func pwritevAll(fd uintptr, vec []syscall.Iovec, off int64) (total int, err error) {
	for len(vec) > 0 {
		k := oneCall(vec)
		// The kernel takes the offset in two halves; on 64-bit machines the
		// low one holds all of it.
		r, _, errno := syscall.Syscall6(syscall.SYS_PWRITEV, fd, uintptr(unsafe.Pointer(unsafe.SliceData(vec))),
			uintptr(k), uintptr(off), uintptr(uint64(off)>>32), 0)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			return total, errno
		case r == 0:
			return total, syscall.ENOSPC
		}
		total, off = total+int(r), off+int64(r)
		vec = advance(vec, int(r))
	}
	return total, nil
}

// oneCall is how many of the buffers go into the next call: at least one.
func oneCall(vec []syscall.Iovec) int {
	most := min(len(vec), maxIovecs)
	bytes := vec[0].Len
	for k := 1; k < most; k++ {
		if bytes += vec[k].Len; bytes > maxGathered {
			return k
		}
	}
	return most
}

// advance drops the first n bytes of vec.
func advance(vec []syscall.Iovec, n int) []syscall.Iovec {
	for n > 0 && len(vec) > 0 {
		l := int(vec[0].Len)
		if n >= l {
			vec, n = vec[1:], n-l
			continue
		}
		vec[0].Base = (*byte)(unsafe.Add(unsafe.Pointer(vec[0].Base), n))
		vec[0].SetLen(l - n)
		return vec
	}
	return vec
}

func syncData(f *os.File) error { return retryEINTR("fdatasync", f, syscall.Fdatasync) }

// syncFS is syncfs(2), which package syscall does not name.
func syncFS(d *os.File) error {
	return retryEINTR("syncfs", d, func(fd int) error {
		if _, _, errno := syscall.Syscall(sysSyncfs, uintptr(fd), 0, 0); errno != 0 {
			return errno
		}
		return nil
	})
}

func allocate(f *os.File, size int64) error {
	return retryEINTR("fallocate", f, func(fd int) error { return syscall.Fallocate(fd, 0, 0, size) })
}

// writeOut is sync_file_range(2) with all its flags, on file systems that have it.
// It tells of a failed write in the place of the next fdatasync(2).
func writeOut(f *os.File, off, n int64) error {
	const waitBefore, write, waitAfter = 1, 2, 4
	err := retryEINTR("sync_file_range", f, func(fd int) error {
		return syscall.SyncFileRange(fd, off, n, waitBefore|write|waitAfter)
	})
	if errors.Is(err, syscall.ENOSYS) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ESPIPE) {
		return nil
	}
	return err
}

// prefetch is posix_fadvise(2) with POSIX_FADV_WILLNEED. It is a hint: whether
// it was taken makes no difference but time.
func prefetch(f *os.File, off, n int64) {
	const willNeed = 3
	advise(f, off, n, willNeed)
}

// forget is posix_fadvise(2) with POSIX_FADV_DONTNEED, a hint, too. What is not on
// the disk is kept, and so is a page or more at both ends that holds anything else.
func forget(f *os.File, off, n int64) {
	const dontNeed = 4
	advise(f, off, n, dontNeed)
}

func advise(f *os.File, off, n int64, advice uintptr) {
	_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), uintptr(off), uintptr(n), advice, 0, 0)
	runtime.KeepAlive(f)
}

func lockFile(f *os.File) error {
	err := retryEINTR("flock", f, func(fd int) error { return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) })
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// retryEINTR repeats a call that a signal interrupted. An fdatasync or syncfs
// that was interrupted has reported nothing yet, so repeating it hides no
// error.
func retryEINTR(op string, f *os.File, call func(fd int) error) error {
	for {
		err := call(int(f.Fd()))
		runtime.KeepAlive(f)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, syscall.EINTR):
			continue
		}
		return &os.PathError{Op: op, Path: f.Name(), Err: err}
	}
}

func volumeSpace(dir string) (Space, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return Space{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Space{Total: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize}, nil
}
