package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// each runs a test on both file systems, in an empty directory.
func each(t *testing.T, test func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, OS(), t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := NewMem()
		if err := m.Mkdir("/d"); err != nil {
			t.Fatal(err)
		}
		test(t, m, "/d")
	})
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, fsys FS, name, content string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	n, err := f.WriteGather([][]byte{[]byte(content)}, 0)
	must(t, err)
	if n != len(content) {
		t.Fatalf("%s: wrote %d of %d bytes", name, n, len(content))
	}
	return f
}

func content(t *testing.T, fsys FS, name string) string {
	t.Helper()
	f, err := fsys.Open(name)
	must(t, err)
	size, err := f.Size()
	must(t, err)
	b := make([]byte, size)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	must(t, f.Close())
	return string(b[:n])
}

func TestFiles(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		f := create(t, fsys, dir+"/a", "hello")
		_, err := f.WriteGather([][]byte{[]byte(" wo"), nil, []byte("rld")}, 5)
		must(t, err, f.Sync(), fsys.SyncDir(dir), fsys.SyncFS(dir))
		if got := content(t, fsys, dir+"/a"); got != "hello world" {
			t.Errorf("content %q", got)
		}
		b := make([]byte, 4)
		if n, err := f.ReadAt(b, 9); n != 2 || !errors.Is(err, io.EOF) {
			t.Errorf("read at the end: %d, %v", n, err)
		}
		if n, err := f.ReadAt(b, 20); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read behind the end: %d, %v", n, err)
		}
		_, err = f.WriteGather([][]byte{[]byte("!")}, 13)
		must(t, err)
		if got := content(t, fsys, dir+"/a"); got != "hello world\x00\x00!" {
			t.Errorf("with a hole %q", got)
		}
		must(t, f.Truncate(3), f.Allocate(5))
		if got := content(t, fsys, dir+"/a"); got != "hel\x00\x00" {
			t.Errorf("cut and allocated %q", got)
		}
		must(t, f.Allocate(1))
		if size, err := f.Size(); size != 5 || err != nil {
			t.Errorf("allocating less: %d bytes, %v", size, err)
		}
		must(t, f.Close())
		w, err := fsys.OpenWrite(dir + "/a")
		must(t, err)
		_, err = w.WriteGather([][]byte{[]byte("J")}, 0)
		must(t, err, w.Close())
		if info, err := fsys.Stat(dir + "/a"); err != nil || info.Dir || info.Size != 5 {
			t.Errorf("stat: %+v, %v", info, err)
		}
	})
}

func TestNames(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		must(t, create(t, fsys, dir+"/a", "1").Close(), create(t, fsys, dir+"/b", "2").Close(), fsys.Mkdir(dir+"/sub"))
		must(t, create(t, fsys, dir+"/sub/c", "3").Close())
		must(t, fsys.Rename(dir+"/a", dir+"/b"), fsys.Link(dir+"/b", dir+"/l"))
		if names, err := fsys.List(dir); err != nil || !slices.Equal(names, []string{"b", "l", "sub"}) {
			t.Errorf("names %q, %v", names, err)
		}
		must(t, fsys.Remove(dir+"/b"))
		if got := content(t, fsys, dir+"/l"); got != "1" {
			t.Errorf("by its other name %q", got)
		}
		_, e1 := fsys.Open(dir + "/b")
		_, e2 := fsys.Stat(dir + "/no/such")
		_, e3 := fsys.List(dir + "/no")
		for _, err := range []error{e1, e2, e3, fsys.Remove(dir + "/b"), fsys.Rename(dir+"/b", dir+"/x"), fsys.SyncDir(dir + "/no"), fsys.Mkdir(dir + "/no/such")} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what is not there: %v", err)
			}
		}
		_, e4 := fsys.Create(dir + "/l")
		for _, err := range []error{e4, fsys.Mkdir(dir + "/sub"), fsys.Link(dir+"/sub/c", dir+"/l")} {
			if !errors.Is(err, fs.ErrExist) {
				t.Errorf("what is there: %v", err)
			}
		}
		if err := fsys.Remove(dir + "/sub"); !errors.Is(err, syscall.ENOTEMPTY) {
			t.Errorf("remove a full directory: %v", err)
		}
		must(t, fsys.Remove(dir+"/sub/c"), fsys.Remove(dir+"/sub"))
		if sp, err := fsys.Space(dir); err != nil || sp.Free <= 0 || sp.Total < sp.Free {
			t.Errorf("space %+v, %v", sp, err)
		}
	})
}

func TestLock(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		l, err := fsys.Lock(dir + "/lock")
		must(t, err)
		if _, err := fsys.Lock(dir + "/lock"); !errors.Is(err, ErrLocked) {
			t.Errorf("locked twice: %v", err)
		}
		must(t, l.Close())
		l, err = fsys.Lock(dir + "/lock")
		must(t, err, l.Close())
	})
}

// TestManyBuffers gathers more buffers than one system call takes.
func TestManyBuffers(t *testing.T) {
	var bufs [][]byte
	for i := range 5000 {
		bufs = append(bufs, fmt.Appendf(nil, "%d,", i))
	}
	gathers(t, bufs)
}

// TestLargeBuffers gathers more bytes than one system call is given.
func TestLargeBuffers(t *testing.T) {
	var bufs [][]byte
	for i, size := range []int{64, 3 << 20, 0, 64, 1<<20 - 64, 64, 700_000, 700_000, 1} {
		bufs = append(bufs, bytes.Repeat([]byte{byte('a' + i)}, size))
	}
	gathers(t, bufs)
}

// gathers writes the buffers in one go and looks whether all of it is there.
func gathers(t *testing.T, bufs [][]byte) {
	t.Helper()
	each(t, func(t *testing.T, fsys FS, dir string) {
		want := bytes.Join(bufs, nil)
		f, err := fsys.Create(dir + "/f")
		must(t, err)
		n, err := f.WriteGather(slices.Clone(bufs), 0)
		must(t, err, f.Close())
		if got := content(t, fsys, dir+"/f"); got != string(want) || n != len(want) {
			t.Errorf("%d bytes written, %d read, want %d, and the same", n, len(got), len(want))
		}
	})
}

func randOf(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// TestPowerCutKeepsWhatWasSynced: bytes after Sync, names after SyncDir,
// everything after SyncFS.
func TestPowerCutKeepsWhatWasSynced(t *testing.T) {
	for seed := range uint64(200) {
		m := NewMem()
		must(t, m.Mkdir("/d"), m.SyncDir("/"))
		f := create(t, m, "/d/a", "synced")
		must(t, f.Sync(), m.SyncDir("/d"))
		must(t, create(t, m, "/d/b", "all").Close(), m.SyncFS("/d"))
		must(t, m.Rename("/d/b", "/d/c"), create(t, m, "/d/n", "name only").Close(), m.SyncDir("/d"))
		_, err := f.WriteGather([][]byte{[]byte("SYNCED, more")}, 0)
		must(t, err, m.Remove("/d/c"))
		c := m.CrashClone(randOf(seed))
		names, err := c.List("/d")
		must(t, err)
		// The new length may survive without the bytes.
		if got := strings.TrimRight(content(t, c, "/d/a"), "\x00"); got != "synced" && got != "SYNCED, more" {
			t.Fatalf("seed %d: content %q", seed, got)
		}
		if !slices.Contains(names, "n") || slices.Contains(names, "b") {
			t.Fatalf("seed %d: names %q", seed, names)
		}
		if slices.Contains(names, "c") && content(t, c, "/d/c") != "all" {
			t.Fatalf("seed %d: the removed file came back with %q", seed, content(t, c, "/d/c"))
		}
	}
}

// TestPowerCutLosesTheRest: over many seeds, each thing that may happen to what
// was not synced does.
func TestPowerCutLosesTheRest(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(2000) {
		m := NewMem()
		f := create(t, m, "/a", strings.Repeat("o", 1500))
		must(t, f.Sync(), m.SyncDir("/"))
		_, err := f.WriteGather([][]byte{bytes.Repeat([]byte("n"), 2000)}, 0)
		must(t, err)
		must(t, create(t, m, "/x", "").Close(), create(t, m, "/y", "").Close(), m.Remove("/x"))
		c := m.CrashClone(randOf(seed))
		got := content(t, c, "/a")
		names, err := c.List("/")
		must(t, err)
		for s := 0; s*512 < len(got); s++ {
			sector := got[s*512 : min(s*512+512, len(got))]
			if strings.Trim(sector, sector[:1]) != "" && s != 2 && s != 3 {
				t.Fatalf("seed %d: sector %d is a mixture", seed, s)
			}
			seen[fmt.Sprintf("sector %d %c", s, sector[0])] = true
		}
		seen[fmt.Sprintf("length %d", len(got))] = true
		seen["names "+strings.Join(names, " ")] = true
		if lost := content(t, m.PowerCut(), "/a"); lost != strings.Repeat("o", 1500) {
			t.Fatalf("what was synced is %d bytes now", len(lost))
		}
		if kept := content(t, m.KillClone(), "/a"); kept != strings.Repeat("n", 2000) {
			t.Fatalf("after a kill %d bytes", len(kept))
		}
	}
	for _, want := range []string{
		"sector 0 o", "sector 0 n", "sector 1 o", "sector 1 n", "sector 2 o", "sector 2 n", "length 1500", "length 2000",
		"names a", "names a x", "names a y", "names a x y",
	} {
		if !seen[want] {
			t.Errorf("never seen: %s", want)
		}
	}
	t.Log(len(seen), "outcomes")
}

// TestWritebackInBetween: a sector that was written twice may hold what it held
// in between.
func TestWritebackInBetween(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(300) {
		m := NewMem()
		f := create(t, m, "/a", "")
		must(t, f.Sync(), m.SyncDir("/"))
		for _, s := range []string{"one", "onetwo"} {
			_, err := f.WriteGather([][]byte{[]byte(s)}, 0)
			must(t, err)
		}
		seen[content(t, m.CrashClone(randOf(seed)), "/a")] = true
	}
	for _, want := range []string{"", "one", "onetwo"} {
		if !seen[want] {
			t.Errorf("never seen: %q", want)
		}
	}
}

// TestKillThenPowerCut: what a killed process had not synced is still not
// synced for the next one.
func TestKillThenPowerCut(t *testing.T) {
	m := NewMem()
	f := create(t, m, "/a", "old")
	must(t, f.Sync(), m.SyncDir("/"))
	_, err := f.WriteGather([][]byte{[]byte("new")}, 0)
	must(t, err)
	m = m.KillClone()
	if got := content(t, m, "/a"); got != "new" {
		t.Errorf("after a kill %q", got)
	}
	if got := content(t, m.PowerCut(), "/a"); got != "old" {
		t.Errorf("after a kill and a power cut %q", got)
	}
	must(t, m.SyncFS("/"))
	if got := content(t, m.PowerCut(), "/a"); got != "new" {
		t.Errorf("after a kill, a sync and a power cut %q", got)
	}
}

// TestCutInTheMiddle stops the machine in each operation in turn.
func TestCutInTheMiddle(t *testing.T) {
	work := func(m *Mem) error {
		f, err := m.Create("/a")
		if err != nil {
			return err
		}
		_, e1 := f.WriteGather([][]byte{[]byte("0123456789")}, 0)
		e2 := f.Sync()
		e3 := m.SyncDir("/")
		e4 := m.Rename("/a", "/b")
		return errors.Join(e1, e2, e3, e4)
	}
	seen := map[string]bool{}
	for seed := range uint64(400) {
		m := NewMem()
		rng := randOf(seed)
		m.CutAfter(1+rng.IntN(6), rng)
		err := work(m)
		if m.Dead() != (err != nil) {
			t.Fatalf("stopped %v, error %v", m.Dead(), err)
		}
		if m.Dead() {
			if _, err := m.List("/"); err == nil {
				t.Fatal("a machine that has stopped answers")
			}
		}
		k := m.KillClone()
		names, err := k.List("/")
		must(t, err)
		state := strings.Join(names, " ")
		if len(names) > 0 {
			state += " " + content(t, k, "/"+names[0])
		}
		seen[state] = true
	}
	for _, want := range []string{"", "a ", "a 01234", "a 0123456789", "b 0123456789"} {
		if !seen[want] {
			t.Errorf("never seen: %q", want)
		}
	}
}

func TestFullDisk(t *testing.T) {
	m := NewMem()
	f := create(t, m, "/a", "12345")
	m.SetCapacity(8)
	if n, err := f.WriteGather([][]byte{[]byte("67"), []byte("89")}, 5); n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v", n, err)
	}
	if err := f.Allocate(9); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("allocate: %v", err)
	}
	if sp, _ := m.Space("/"); sp.Free != 0 || sp.Total != 8 {
		t.Errorf("space %+v", sp)
	}
	must(t, f.Truncate(2))
	if sp, _ := m.Space("/"); sp.Free != 6 {
		t.Errorf("space after a cut %+v", sp)
	}
	must(t, m.Remove("/a"))
	if sp, _ := m.Space("/"); sp.Free != 8 {
		t.Errorf("space after a remove %+v", sp)
	}
}

func TestFaults(t *testing.T) {
	m := NewMem()
	boom := errors.New("boom")
	var fail map[OpKind]error
	fsys := WithFaults(m, func(op *Op) error {
		if op.Kind == OpWrite && fail[op.Kind] != nil {
			op.Short = 3
		}
		return fail[op.Kind]
	})
	f := create(t, fsys, "/a", "x")
	fail = map[OpKind]error{OpWrite: boom, OpSync: ErrSkip, OpRemove: boom, OpSyncDir: ErrSkip}
	if n, err := f.WriteGather([][]byte{[]byte("a"), []byte("bcd")}, 0); n != 2 || !errors.Is(err, boom) {
		t.Errorf("a short write: %d, %v", n, err)
	}
	if got := content(t, m, "/a"); got != "ab" {
		t.Errorf("content %q", got)
	}
	must(t, f.Sync(), fsys.SyncDir("/"))
	if names, _ := m.PowerCut().List("/"); len(names) != 0 {
		t.Errorf("skipped syncs kept %q", names)
	}
	if err := fsys.Remove("/a"); !errors.Is(err, boom) {
		t.Errorf("remove: %v", err)
	}
}

func TestTrace(t *testing.T) {
	var lines []string
	fsys := WithTrace(NewMem(), "/d", func(l string) { lines = append(lines, l) })
	must(t, fsys.Mkdir("/d"))
	f := create(t, fsys, "/d/a", "12345")
	must(t, f.Sync(), f.Truncate(2), f.Allocate(4), fsys.SyncDir("/d"), fsys.Rename("/d/a", "/d/b"), fsys.Link("/d/b", "/d/c"), fsys.Remove("/d/b"), fsys.SyncFS("/d"))
	if err := fsys.Remove("/d/none"); err == nil {
		t.Error("removed nothing")
	}
	want := "mkdir .; create a; write a at 0: 5 bytes; sync a; truncate a to 2; allocate a to 4; syncdir .; rename a to b; link b to c; remove b; syncfs ."
	if got := strings.Join(lines, "; "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// FuzzMem runs random operations on memory and on the machine's file system:
// both must do the same.
func FuzzMem(f *testing.F) {
	f.Add([]byte("create some files and write to them"))
	f.Add([]byte("create nd wrfiles aso@e ite")) // a rename of a file to its other name
	f.Add([]byte{0, 0, 1, 0, 9, 2, 0, 1, 3, 1, 2, 4, 0, 0, 5, 2, 1, 0, 1, 1})
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 200 {
			return
		}
		m := NewMem()
		must(t, m.Mkdir("/d"))
		one, two := runProgram(m, "/d", program), runProgram(OS(), t.TempDir(), program)
		if one != two {
			t.Errorf("in memory %s\non disk   %s", one, two)
		}
	})
}

// runProgram turns bytes into operations and tells how each ended.
func runProgram(fsys FS, dir string, program []byte) string {
	var out strings.Builder
	say := func(err error) {
		switch {
		case err == nil:
			out.WriteString(" ok")
		case errors.Is(err, fs.ErrExist):
			out.WriteString(" exists")
		case errors.Is(err, fs.ErrNotExist):
			out.WriteString(" missing")
		default:
			out.WriteString(" error")
		}
	}
	name := func(b byte) string { return fmt.Sprintf("%s/%c", dir, 'a'+b%4) }
	for ; len(program) >= 3; program = program[3:] {
		op, x, y := program[0], program[1], program[2]
		switch op % 6 {
		case 0:
			f, err := fsys.Create(name(x))
			say(err)
			if err == nil {
				say(f.Close())
			}
		case 1:
			f, err := fsys.OpenWrite(name(x))
			say(err)
			if err == nil {
				n, err := f.WriteGather([][]byte{{y}, bytes.Repeat([]byte{x}, int(y))}, int64(x))
				fmt.Fprint(&out, n)
				say(err)
				say(f.Close())
			}
		case 2:
			say(fsys.Remove(name(x)))
		case 3:
			if x%4 != y%4 {
				say(fsys.Rename(name(x), name(y)))
			}
		case 4:
			say(fsys.Link(name(x), name(y)))
		case 5:
			f, err := fsys.OpenWrite(name(x))
			say(err)
			if err == nil {
				say(f.Truncate(int64(y)))
				say(f.Close())
			}
		}
	}
	names, err := fsys.List(dir)
	say(err)
	for _, n := range names {
		f, err := fsys.Open(dir + "/" + n)
		if err != nil {
			return err.Error()
		}
		b := make([]byte, 2000)
		k, _ := f.ReadAt(b, 0)
		_ = f.Close()
		fmt.Fprintf(&out, " %s=%x", n, b[:k])
	}
	return out.String()
}

// Once reads what is there, whatever becomes of the name.
func TestOnce(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		want := strings.Repeat("0123456789", 2000)
		f := create(t, fsys, dir+"/a", want)
		must(t, f.Sync())
		once := f.Once()
		must(t, fsys.Remove(dir+"/a"))
		for _, c := range []struct {
			off     int64
			n, want int
			err     error
		}{{0, 20_000, 20_000, nil}, {4999, 5000, 5000, nil}, {19_990, 11, 10, io.EOF}, {20_000, 1, 0, io.EOF}, {1, 0, 0, nil}} {
			b := make([]byte, c.n)
			n, err := once.ReadAt(b, c.off)
			if n != c.want || !errors.Is(err, c.err) || string(b[:n]) != want[c.off:c.off+int64(n)] {
				t.Errorf("%d bytes from %d: %d, %v", c.n, c.off, n, err)
			}
		}
		must(t, once.Close(), f.Close())
		if n, err := once.ReadAt(make([]byte, 1), 0); fsys == OS() && !errors.Is(err, fs.ErrClosed) {
			t.Errorf("of a closed file %d bytes, %v", n, err)
		}
	})
}

// WriteThrough and Once see the same bytes as everybody else, wherever they begin and
// end, and in whatever order.
func TestThrough(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		f := create(t, fsys, dir+"/a", "")
		rng := rand.New(rand.NewPCG(1, 2))
		room := Blocks(10 * BlockBytes)
		var want []byte
		for round := range 200 {
			n := 1 + rng.IntN(5*BlockBytes)
			off := rng.IntN(len(want) + 1)
			if round%2 == 0 { // as a disk takes it
				n, off = BlockBytes*(1+rng.IntN(5)), len(want)/BlockBytes*BlockBytes
			}
			b := room[:n]
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			want = append(want, make([]byte, max(0, off+n-len(want)))...)
			copy(want[off:], b)
			var err error
			if round%7 == 0 {
				n, err = f.WriteGather([][]byte{b}, int64(off))
			} else {
				n, err = f.WriteThrough(b, int64(off))
			}
			if n != len(b) || err != nil {
				t.Fatalf("round %d: %d of %d bytes written at %d, %v", round, n, len(b), off, err)
			}
			if round%5 > 0 {
				continue
			}
			once := f.Once()
			from := rng.IntN(len(want))
			got := make([]byte, len(want)-from+rng.IntN(2))
			n, err = once.ReadAt(got, int64(from))
			if n != len(want)-from || (n < len(got)) != errors.Is(err, io.EOF) || !bytes.Equal(got[:n], want[from:]) {
				t.Fatalf("round %d: %d bytes read from %d of %d, %v", round, n, from, len(want), err)
			}
			must(t, once.Close())
			if got := content(t, fsys, dir+"/a"); got != string(want) {
				t.Fatalf("round %d: others read something else", round)
			}
		}
		must(t, f.Sync(), f.Close())
	})
}
