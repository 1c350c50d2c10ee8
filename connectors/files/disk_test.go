package files

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/format"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hookDisk is the real disk, with something to do before each change.
type hookDisk struct {
	osDisk
	before map[string]func() // by verb
	fail   func(verb, path string) error
	trace  []string
	root   string
}

func (d *hookDisk) step(verb, path string) error {
	if rel, err := filepath.Rel(d.root, path); err == nil && d.root != "" {
		path = filepath.ToSlash(rel)
	}
	d.trace = append(d.trace, verb+" "+path)
	if f := d.before[verb]; f != nil {
		f()
	}
	if d.fail != nil {
		return d.fail(verb, path)
	}
	return nil
}

func (d *hookDisk) Create(path string) (file, error) {
	if err := d.step("create", path); err != nil {
		return nil, err
	}
	f, err := d.osDisk.Create(path)
	return &hookFile{file: f, path: path, disk: d}, err
}

func (d *hookDisk) Mkdir(path string) error {
	return cmpOr(d.step("mkdir", path), func() error { return d.osDisk.Mkdir(path) })
}

func (d *hookDisk) Link(old, new string) error {
	return cmpOr(d.step("link", new), func() error { return d.osDisk.Link(old, new) })
}

func (d *hookDisk) Rename(old, new string) error {
	return cmpOr(d.step("rename", new), func() error { return d.osDisk.Rename(old, new) })
}

func (d *hookDisk) Remove(path string) error {
	return cmpOr(d.step("remove", path), func() error { return d.osDisk.Remove(path) })
}

func (d *hookDisk) SyncDir(path string) error {
	return cmpOr(d.step("syncdir", path), func() error { return d.osDisk.SyncDir(path) })
}

func cmpOr(err error, do func() error) error {
	if err != nil {
		return err
	}
	return do()
}

type hookFile struct {
	file
	path string
	disk *hookDisk
}

func (f *hookFile) Write(b []byte) (int, error) {
	if err := f.disk.step("write", f.path); err != nil {
		n, _ := f.file.Write(b[:len(b)/2]) // as a full disk does
		return n, err
	}
	return f.file.Write(b)
}

func (f *hookFile) Sync() error {
	return cmpOr(f.disk.step("sync", f.path), f.file.Sync)
}

// errCut is a process that ends at this step.
var errCut = errors.New("cut off")

// TestCutAtEveryStep ends the process at each step of a plan in turn, executes
// the plan again and finds exactly what an undisturbed run makes. At no time
// is half a file visible.
func TestCutAtEveryStep(t *testing.T) {
	whole := t.TempDir()
	w := openAt(t, whole, osDisk{}, nil)
	write(t, w, plan(0, 15), hours(0, 15))
	write(t, w, plan(15, 30), hours(15, 30))
	want := tree(t, whole)
	steps := 0
	for ; ; steps++ {
		root, left := t.TempDir(), steps
		d := &hookDisk{fail: func(string, string) error {
			if left--; left < 0 {
				return errCut
			}
			return nil
		}}
		_, err := openAt(t, root, d, nil).Write(t.Context(), plan(0, 15), hours(0, 15))
		if err != nil && !errors.Is(err, errCut) {
			t.Fatalf("step %d: %v", steps, err)
		}
		for name, text := range tree(t, root) {
			if !bytes.Equal(text, want[name]) {
				t.Fatalf("step %d: %s is visible and not whole", steps, name)
			}
		}
		again := openAt(t, root, osDisk{}, nil)
		write(t, again, plan(0, 15), hours(0, 15))
		write(t, again, plan(15, 30), hours(15, 30))
		if !equal(tree(t, root), want) {
			t.Fatalf("step %d: the plan executed again gives other files", steps)
		}
		if err == nil && left >= 0 {
			break
		}
	}
	if steps < 30 {
		t.Errorf("only %d steps were seen", steps)
	}
}

// TestOrder holds the order that the guarantee rests on: every file of a plan
// is synced before the plan is noted and that before the first one has a name, folders are durable before they
// are used and synced before the plan is done, temporary names go last.
func TestOrder(t *testing.T) {
	root := t.TempDir()
	d := &hookDisk{root: root}
	w := openAt(t, root, d, map[string]any{"schema": "combined"})
	d.trace = nil
	write(t, w, plan(0, 8), hours(0, 8))
	want := `mkdir _tmp
syncdir .
mkdir _tmp/conntest
syncdir _tmp
remove _tmp/conntest/1+0+clicks+3+0+8.parquet
create _tmp/conntest/1+0+clicks+3+0+8.parquet
write _tmp/conntest/1+0+clicks+3+0+8.parquet
sync _tmp/conntest/1+0+clicks+3+0+8.parquet
remove _tmp/conntest/1+1+clicks+3+0+8.parquet
create _tmp/conntest/1+1+clicks+3+0+8.parquet
write _tmp/conntest/1+1+clicks+3+0+8.parquet
sync _tmp/conntest/1+1+clicks+3+0+8.parquet
mkdir _plans
syncdir .
mkdir _plans/conntest
syncdir _plans
mkdir _plans/conntest/clicks+3
syncdir _plans/conntest
remove _tmp/conntest/1+plan-here+clicks+3+0+8.parquet
create _tmp/conntest/1+plan-here+clicks+3+0+8.parquet
write _tmp/conntest/1+plan-here+clicks+3+0+8.parquet
sync _tmp/conntest/1+plan-here+clicks+3+0+8.parquet
link _plans/conntest/clicks+3/00000000000000000000.json
syncdir _plans/conntest/clicks+3
remove _tmp/conntest/1+plan-here+clicks+3+0+8.parquet
mkdir dt=2015-05-17
syncdir .
mkdir dt=2015-05-17/hr=10
syncdir dt=2015-05-17
mkdir dt=2015-05-17/hr=11
syncdir dt=2015-05-17
link dt=2015-05-17/hr=10/clicks+3+0+8.parquet
link dt=2015-05-17/hr=11/clicks+3+0+8.parquet
syncdir dt=2015-05-17/hr=10
syncdir dt=2015-05-17/hr=11
remove _tmp/conntest/1+0+clicks+3+0+8.parquet
remove _tmp/conntest/1+1+clicks+3+0+8.parquet`
	for i := range d.trace { // hook files know whole paths
		d.trace[i] = strings.ReplaceAll(d.trace[i], root+"/", "")
	}
	if got := strings.Join(d.trace, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	d.trace = nil
	write(t, w, plan(0, 8), hours(0, 8))
	if got := strings.Join(d.trace, ","); strings.Contains(got, "create _tmp/conntest/1+0") || strings.Contains(got, "link dt") || !strings.Contains(got, "syncdir") {
		t.Errorf("a plan that is done does %s", got)
	}
}

// putsOnce holds a store to what PutNew promises: the first one has the name, also
// when another comes to it later, and neither leaves anything behind.
func putsOnce(t *testing.T, st store) {
	t.Helper()
	const folder, name = "_tmp/conntest", "_schema/x.000001.json"
	for i, text := range []string{"first", "second"} {
		err := st.PutNew(t.Context(), folder+"/schema+0", name, []byte(text))
		if i == 0 && err != nil || i == 1 && !errors.Is(err, os.ErrExist) {
			t.Errorf("PutNew number %d: %v", i+1, err)
		}
		if left, err := st.List(t.Context(), folder); len(left) != 0 || err != nil {
			t.Errorf("PutNew number %d leaves %v, %v", i+1, left, err)
		}
	}
	if text, err := st.Read(t.Context(), name); string(text) != "first" || err != nil {
		t.Errorf("the file is %q, %v", text, err)
	}
}

// TestPutNew: on a disk, a name that another owner has made and died over is
// durable before anybody builds on it.
func TestPutNew(t *testing.T) {
	putsOnce(t, &localStore{t.TempDir(), osDisk{}})
	broken := true
	d := &hookDisk{fail: func(verb, path string) error {
		if broken && verb == "syncdir" && filepath.Base(path) == "_plans" {
			return syscall.EIO
		}
		return nil
	}}
	st := &localStore{t.TempDir(), d}
	for range 2 { // the second one finds the name taken
		if err := st.PutNew(t.Context(), "_tmp/t", "_plans/1.json", nil); !errors.Is(err, syscall.EIO) || errors.Is(err, os.ErrExist) {
			t.Errorf("of a name that a crash may take away: %v", err)
		}
	}
	broken = false
	if err := st.PutNew(t.Context(), "_tmp/t", "_plans/1.json", nil); !errors.Is(err, os.ErrExist) {
		t.Errorf("of a name that stays: %v", err)
	}
}

// TestSweep: Open removes what a crash left of its own partitions, of whatever
// epoch, and nothing of others.
func TestSweep(t *testing.T) {
	root := t.TempDir()
	w := openAt(t, root, osDisk{}, nil)
	write(t, w, plan(0, 1), hours(0, 1))
	left := map[string]bool{"1+0+clicks+3+5+9.parquet": false, "7+12+clicks+3+5+9.ndjson": false, "1+0+clicks+4+5+9.parquet": true, "1+0+other+3+5+9.parquet": true, "schema+x": true}
	for name := range left {
		if err := os.WriteFile(filepath.Join(root, w.tmp, name), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openAt(t, root, osDisk{}, nil)
	for name, stays := range left {
		if there, err := (osDisk{}).Exists(filepath.Join(root, w.tmp, name)); err != nil || there != stays {
			t.Errorf("%s is there: %t, %v; want %t", name, there, err, stays)
		}
	}
	if n := rows(t, root); n != 1 {
		t.Errorf("%d rows, want 1", n)
	}
}

// TestDiskErrors: whatever step fails, the error has its class, nothing but
// whole files is visible, and the plan goes through later.
func TestDiskErrors(t *testing.T) {
	for err, want := range map[error]connectors.Class{
		syscall.ENOSPC: connectors.ClassRetry, syscall.EDQUOT: connectors.ClassRetry, syscall.EIO: connectors.ClassRetry,
		syscall.EACCES: connectors.ClassFatal, syscall.EROFS: connectors.ClassFatal,
	} {
		for _, verb := range []string{"create", "mkdir", "write", "sync", "link", "syncdir"} {
			root, broken := t.TempDir(), true
			w := openAt(t, root, &hookDisk{fail: func(v, _ string) error {
				if broken && v == verb {
					return err
				}
				return nil
			}}, nil)
			_, got := w.Write(t.Context(), plan(0, 8), hours(0, 8))
			if connectors.ClassOf(got) != want || !errors.Is(got, err) {
				t.Errorf("%s at %s: class %v: %v, want class %v", err, verb, connectors.ClassOf(got), got, want)
			}
			if n := len(tree(t, root)); n != 0 {
				t.Errorf("%s at %s: %d files are visible", err, verb, n)
			}
			broken = false
			write(t, w, plan(0, 8), hours(0, 8))
			if n := rows(t, root); n != 8 {
				t.Errorf("%s at %s: %d rows afterwards", err, verb, n)
			}
		}
	}
}

func unzip(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// parquetInts reads a column of 64-bit numbers back.
func parquetInts(t *testing.T, file []byte, column string) []int64 {
	t.Helper()
	all, err := format.ParquetInts(bytes.NewReader(file), int64(len(file)), column)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
