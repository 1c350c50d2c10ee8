package file

import (
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// writer plays a program that logs, and the log rotation around it.
type writer struct {
	t       *testing.T
	rng     *rand.Rand
	log     string
	f       *os.File // may be a file that was renamed since
	written int      // whole lines
	partial string   // of the next line, already in the file
	files   int      // rotated ones: .1 to .files
	trace   []string
}

func (w *writer) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v after %s", err, strings.Join(w.trace, ", "))
	}
}

func (w *writer) reopen() {
	if w.f != nil {
		w.must(w.f.Close())
	}
	var err error
	w.f, err = os.OpenFile(w.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	w.must(err)
}

func (w *writer) put(s string) {
	_, err := w.f.WriteString(s)
	w.must(err)
}

func lineText(n int) string { return fmt.Sprintf("%d %s", n, strings.Repeat("x", n*7%97)) }

// lines writes n whole lines, after what is left of a partial one.
func (w *writer) lines(n int) {
	for range n {
		line := lineText(w.written) + "\n"
		w.put(line[len(w.partial):])
		w.partial = ""
		w.written++
	}
}

// half writes the beginning of a line.
func (w *writer) half() {
	if w.partial == "" {
		line := lineText(w.written)
		w.partial = line[:1+w.rng.IntN(len(line))]
		w.put(w.partial)
	}
}

// shift moves .1 to .2 and so on.
func (w *writer) shift() {
	for i := w.files; i >= 1; i-- {
		for _, ext := range []string{"", ".gz"} {
			from := fmt.Sprintf("%s.%d%s", w.log, i, ext)
			if _, err := os.Stat(from); err == nil {
				w.must(os.Rename(from, fmt.Sprintf("%s.%d%s", w.log, i+1, ext)))
			}
		}
	}
	w.files++
}

func (w *writer) rename() {
	w.shift()
	w.must(os.Rename(w.log, w.log+".1"))
	if w.rng.IntN(2) == 0 {
		w.must(os.WriteFile(w.log, nil, 0o600)) // created before the writer reopens
	}
	w.lines(w.rng.IntN(3)) // late, to the old inode
	w.lines(min(1, len(w.partial)))
	w.reopen()
}

func (w *writer) copyTruncate() {
	w.lines(min(1, len(w.partial)))
	w.shift()
	b, err := os.ReadFile(w.log)
	w.must(err)
	w.must(os.WriteFile(w.log+".1", b, 0o600))
	w.must(os.Truncate(w.log, 0))
}

// compress does what gzip does to the second oldest and older files.
func (w *writer) compress() {
	for i := 2; i <= w.files; i++ {
		path := fmt.Sprintf("%s.%d", w.log, i)
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		info, err := os.Stat(path)
		w.must(err)
		z, err := os.Create(path + ".gz")
		w.must(err)
		zw := gzip.NewWriter(z)
		_, err = zw.Write(b)
		w.must(err)
		w.must(zw.Close())
		w.must(z.Close())
		w.must(os.Chtimes(path+".gz", info.ModTime(), info.ModTime()))
		w.must(os.Remove(path))
	}
}

// TestRandomRotation lets a writer, a rotation and a reader that is stopped
// and started take seeded random turns. Every line has to come exactly once
// and in order.
func TestRandomRotation(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T, log string) { randomRotation(t, log, seed) })
		})
	}
}

func randomRotation(t *testing.T, log string, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	w := &writer{t: t, rng: rng, log: log}
	w.reopen()
	cfg := config(t, map[string]any{"path": log, "max_line": 4 << 10})
	r := openAt(t, cfg, log, nil)
	next, contentAt := 0, 0 // lines read; the line with which the present file began
	take := func(got []connectors.Message) {
		for _, m := range got {
			if want := lineText(next); string(m.Value) != want || m.Err != nil {
				t.Fatalf("got %.60q (%s), want %.60q after %s", m.Value, m.Origin, want, strings.Join(w.trace, ", "))
			}
			next++
		}
	}
	for range 60 {
		op := rng.IntN(10)
		w.trace = append(w.trace, [...]string{"lines", "lines", "half", "rename", "copytruncate", "compress", "read", "read some", "restart", "restart earlier"}[op])
		switch op {
		case 0, 1:
			w.lines(rng.IntN(20))
		case 2:
			w.half()
		case 3:
			w.rename()
			contentAt = w.written
		case 4:
			if next > contentAt { // a file of which nothing was seen has no fingerprint
				w.copyTruncate()
				contentAt = w.written
			}
		case 5:
			w.compress()
		case 6:
			take(r.read(0))
		case 7:
			take(r.read(1 + rng.IntN(10)))
		default:
			r, next = restart(t, cfg, log, r, next, op == 9, rng)
		}
	}
	w.lines(1)
	take(r.read(0))
	if next != w.written {
		t.Fatalf("read %d lines of %d after %s", next, w.written, strings.Join(w.trace, ", "))
	}
	r.close()
	w.must(w.f.Close())
}

// restart opens again at the last position, or at one up to five lines before.
func restart(t *testing.T, cfg connectors.Config, log string, r *opened, next int, earlier bool, rng *rand.Rand) (*opened, int) {
	n := len(r.got)
	if n == 0 && r.openedAt == nil {
		return r, next // nothing was ever read: a new start would begin with the newest file
	}
	r.close()
	if n == 0 {
		again := openAt(t, cfg, log, r.openedAt)
		again.openedAt = r.openedAt
		return again, next
	}
	back := 1
	if earlier {
		back = 1 + rng.IntN(min(n, 5))
	}
	at := r.got[n-back].Position
	again := openAt(t, cfg, log, at)
	again.openedAt = at
	return again, next - (back - 1)
}

func TestGzip(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		path := log + ".gz"
		zip := func(text string) string {
			var b strings.Builder
			zw := gzip.NewWriter(&b)
			if _, err := zw.Write([]byte(text)); err != nil {
				t.Fatal(err)
			}
			if err := zw.Close(); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}
		var text strings.Builder
		for i := range 50000 {
			fmt.Fprintf(&text, "line %d\n", i)
		}
		whole := zip(text.String()) + zip("second member\nend")
		write(t, path, whole)
		cfg := config(t, map[string]any{"path": path, "follow": false})
		r := openAt(t, cfg, path, nil)
		got := r.read(0)
		if len(got) != 50002 || string(got[50001].Value) != "end" || string(got[49999].Value) != "line 49999" {
			t.Fatalf("%d lines", len(got))
		}
		r.close()
		for _, i := range []int{0, 1, 40000, 50000, 50001} {
			again := openAt(t, cfg, path, got[i].Position)
			if rest := again.read(0); values(rest) != values(got[i+1:]) {
				t.Errorf("resumed at %d: %d lines", i, len(rest))
			}
			again.close()
		}
		// Cut short it may still be growing; damaged it stays so.
		write(t, path, whole[:len(whole)/2])
		if err := readToError(t, cfg, path); connectors.ClassOf(err) != connectors.ClassRetry || !strings.Contains(err.Error(), "uncompressed bytes") {
			t.Errorf("cut: %v", err)
		}
		damaged := []byte(zip("a\nb\n"))
		damaged[len(damaged)-8] ^= 1
		write(t, path, string(damaged))
		if err := readToError(t, cfg, path); connectors.ClassOf(err) != connectors.ClassFatal {
			t.Errorf("damaged: %v", err)
		}
		write(t, path, "not gzip at all")
		if err := readToError(t, cfg, path); connectors.ClassOf(err) != connectors.ClassFatal {
			t.Errorf("not gzip: %v", err)
		}
	})
}

func readToError(t *testing.T, cfg connectors.Config, path string) error {
	t.Helper()
	r, err := Source{}.Open(t.Context(), task(t, cfg), connectors.Split{ID: path}, nil)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close(t.Context()) }()
	for range 1000 {
		if _, err := r.Read(t.Context(), connectors.Limits{Wait: time.Second}); err != nil {
			return err
		}
	}
	return nil
}
