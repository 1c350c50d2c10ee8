package vfs

import (
	"bytes"
	"os"
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
// written through is not kept either.
func TestNothingIsKept(t *testing.T) {
	page, pages := os.Getpagesize(), 100 // more than is read at a time
	var st syscall.Statfs_t
	dir := t.TempDir()
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != 0xef53 {
		t.Skip("not on ext4: other file systems may keep what they like")
	}
	f := create(t, OS(), dir+"/a", "").(*osFile)
	defer f.Close()
	kept := func() int { return inMemory(t, f.f, page*pages) }
	b := Blocks(page * pages)
	for i := range b {
		b[i] = byte(i / page)
	}
	half := pages / 2 * page
	for _, piece := range [][2]int{{0, half}, {half, half + 100}, {half + 100, len(b)}} { // whole blocks and not
		if _, err := f.WriteThrough(b[piece[0]:piece[1]], int64(piece[0])); err != nil {
			t.Fatal(err)
		}
		if got := kept(); got > 0 && piece[1] == half {
			t.Errorf("%d pages were kept of whole blocks that were written through", got)
		}
	}
	both := kept() // a piece of memory that two writes have something of
	if both > pages/10 {
		t.Errorf("%d pages were kept that were written through", both)
	}
	must(t, f.Sync())
	once := f.Once().(*onceFile)
	defer once.Close()
	if once.past == nil || f.past == nil {
		t.Error("ext4 is not read and written past the system's memory")
	}
	got := make([]byte, len(b))
	if _, err := once.ReadAt(got, 0); err != nil || !bytes.Equal(got, b) {
		t.Fatalf("read once: %v, all of it: %v", err, bytes.Equal(got, b))
	}
	if got := kept(); got > both {
		t.Errorf("%d pages were kept that were read once", got-both)
	}
	if _, err := f.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	again := f.Once()
	defer again.Close()
	if _, err := again.ReadAt(got, 0); err != nil || !bytes.Equal(got, b) {
		t.Fatalf("read once: %v, all of it: %v", err, bytes.Equal(got, b))
	}
	if got := kept(); got != pages {
		t.Errorf("%d pages are left of %d that were there before they were read once", got, pages)
	}
	// Of a file system that passes nothing.
	forget(f.f, 0, int64(len(b)))
	if got := kept(); got > 0 {
		t.Errorf("%d pages were not forgotten", got)
	}
	must(t, once.past.Close())
	once.past, once.have = nil, nil
	if _, err := once.ReadAt(got[:page], 0); err != nil {
		t.Fatal(err)
	}
	if got := kept(); got > 1 {
		t.Errorf("%d pages were read ahead", got-1)
	}
	if _, err := once.ReadAt(got, 0); err != nil || !bytes.Equal(got, b) {
		t.Fatalf("read once: %v, all of it: %v", err, bytes.Equal(got, b))
	}
	if got := kept(); got > 0 && knowsDontCache(f.f) {
		t.Errorf("%d pages were kept that were read once through the cache", got)
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
