package chaos

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fillMemory has the system keep a file in all of the memory that is free, as on a
// machine that has been up for a while, so that what is written takes the place of
// that. A virtual machine gives free memory back to its host, and what is written
// then pays for each page that it gets again.
func fillMemory(t *testing.T) {
	t.Helper()
	const spare = 512 << 20
	size := memoryFree() - spare // bytes
	if size <= 0 {
		return
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "memory"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil { // a hole: nothing of it is on the disk
		t.Fatal(err)
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d MiB of memory filled", size>>20)
}

// memoryFree is how many bytes of memory nothing is in, or 0 where that is not told.
func memoryFree() (free int64) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0 // not Linux
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if kib, ok := strings.CutPrefix(s.Text(), "MemFree:"); ok {
			fmt.Sscan(kib, &free)
		}
	}
	return free << 10
}
