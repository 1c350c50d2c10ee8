//go:build darwin || freebsd

package vfs

import (
	"errors"
	"os"
	"syscall"
)

// Servers run on Linux; this is for those who develop elsewhere. It keeps the
// same promises with what these systems have, more slowly.

func writeGather(f *os.File, bufs [][]byte, off int64) (total int, err error) {
	for _, b := range bufs {
		n, err := f.WriteAt(b, off)
		total, off = total+n, off+int64(n)
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

func syncData(f *os.File) error { return f.Sync() }

// syncFS is sync(2), which covers all file systems.
func syncFS(*os.File) error { return syscall.Sync() }

func allocate(f *os.File, size int64) error {
	fi, err := f.Stat()
	if err != nil || fi.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

func writeOut(*os.File, int64, int64) error { return nil }

func prefetch(*os.File, int64, int64) {}

func forget(*os.File, int64, int64) {}

func openOnce(*os.File) File { return nil }

func openPast(*os.File, int) *os.File { return nil }

func isRefused(error) bool { return false }

func lockFile(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

func volumeSpace(dir string) (Space, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return Space{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return Space{Total: int64(st.Blocks) * int64(st.Bsize), Free: int64(st.Bavail) * int64(st.Bsize)}, nil
}
