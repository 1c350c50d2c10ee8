package vfs

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// A call takes several buffers up to its bounds in number and bytes, and one of
// any size.
func TestOneCall(t *testing.T) {
	sized := func(sizes ...int) (vec []syscall.Iovec) {
		for _, n := range sizes {
			v := syscall.Iovec{}
			v.SetLen(n)
			vec = append(vec, v)
		}
		return vec
	}
	for _, c := range []struct {
		vec  []syscall.Iovec
		want int
	}{
		{sized(1), 1},
		{sized(maxGathered-64, 64), 2},
		{sized(maxGathered-63, 64), 1},
		{sized(64, maxGathered, 64), 1},
		{sized(3*maxGathered, 1), 1},
		{sized(64, 64, maxGathered), 2},
		{make([]syscall.Iovec, maxIovecs+1), maxIovecs},
	} {
		if got := oneCall(c.vec); got != c.want {
			t.Errorf("%d buffers, the first of %d bytes: %d in a call, want %d", len(c.vec), c.vec[0].Len, got, c.want)
		}
	}
}

// What is read once is not kept in memory unless it was there before, and what is
// forgotten is not kept either.
func TestNothingIsKept(t *testing.T) {
	page, pages := os.Getpagesize(), 64
	var st syscall.Statfs_t
	dir := t.TempDir()
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != 0xef53 {
		t.Skip("not on ext4: other file systems may keep what they like")
	}
	fsys := OS()
	f := create(t, fsys, dir+"/a", strings.Repeat("x", page*pages))
	defer f.Close()
	must(t, f.Sync())
	kept := func() int { return inMemory(t, f.(*osFile).f, page*pages) }
	if got := kept(); got != pages {
		t.Skipf("%d of %d pages are in memory after they were written: it is short of it", got, pages)
	}
	for at := 0; at <= page*pages; at += page / 2 {
		f.Forget(0, int64(at))
	}
	if got := kept(); got > 0 {
		t.Errorf("%d pages were not forgotten", got)
	}
	once := f.Once()
	defer once.Close()
	if _, err := once.ReadAt(make([]byte, page), 0); err != nil {
		t.Fatal(err)
	}
	if got := kept(); got > 1 {
		t.Errorf("%d pages were read ahead", got-1)
	}
	b := make([]byte, page*pages)
	if _, err := once.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if got := kept(); got > 0 && knowsDontCache(f.(*osFile).f) {
		t.Errorf("%d pages were kept that were read once", got)
	}
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := once.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if got := kept(); got != pages {
		t.Errorf("%d pages are left of %d that were there before they were read once", got, pages)
	}
}

// inMemory is how many pages of a file of so many bytes are in memory (mincore(2)).
func inMemory(t *testing.T, f *os.File, size int) (n int) {
	t.Helper()
	m, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { must(t, syscall.Munmap(m)) }()
	pages := make([]byte, (size+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, errno := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&pages[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, p := range pages {
		n += int(p & 1)
	}
	return n
}

// knowsDontCache reports whether the system and the file system know RWF_DONTCACHE.
func knowsDontCache(f *os.File) bool {
	var b [1]byte
	v := syscall.Iovec{Base: &b[0]}
	v.SetLen(1)
	_, _, errno := syscall.Syscall6(sysPreadv2, f.Fd(), uintptr(unsafe.Pointer(&v)), 1, 0, 0, 0x80)
	return errno == 0
}
