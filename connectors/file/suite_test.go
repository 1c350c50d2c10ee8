package file

import (
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/connectors/conntest"
)

func suiteLines(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("line %d %s", i, strings.Repeat("x", i%40)))
	}
	return all
}

func text(lines []string) string { return strings.Join(lines, "\n") + "\n" }

// TestSuitePlain runs the suite of all connectors on one file.
func TestSuitePlain(t *testing.T) {
	conntest.Source(t, Source{}, func(t *testing.T) conntest.SourceCase {
		path := filepath.Join(t.TempDir(), "a.log")
		lines := suiteLines(0, 60)
		write(t, path, text(lines)+"no newline")
		lines = append(lines, "no newline")
		return conntest.SourceCase{
			Config: conntest.Config(t, Source{}.Spec(), map[string]any{"path": path, "follow": false}),
			Want:   map[string][]string{path: lines},
		}
	})
}

// TestSuiteRotated runs it on a glob: a log with its rotated files, one of
// them compressed, and another log; some lines are too long.
func TestSuiteRotated(t *testing.T) {
	conntest.Source(t, Source{}, func(t *testing.T) conntest.SourceCase {
		dir := t.TempDir()
		a, b := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log")
		zipped, err := os.Create(a + ".2.gz")
		if err != nil {
			t.Fatal(err)
		}
		zw := gzip.NewWriter(zipped)
		if _, err := zw.Write([]byte(text(suiteLines(0, 20)))); err != nil {
			t.Fatal(err)
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		if err := zipped.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, a+".1", text(suiteLines(20, 40)))
		write(t, a, text(suiteLines(40, 60)))
		write(t, b, text(suiteLines(0, 30)))
		want := map[string][]string{a: suiteLines(0, 60), b: suiteLines(0, 30)}
		for _, lines := range want {
			for i, l := range lines {
				lines[i] = l[:min(len(l), 40)]
			}
		}
		cfg := map[string]any{"path": filepath.Join(dir, "*.log*"), "follow": false, "max_line": 40}
		c := conntest.SourceCase{Config: conntest.Config(t, Source{}.Spec(), cfg), Want: want}
		cfg["follow"] = true
		waiting := conntest.Config(t, Source{}.Spec(), cfg)
		c.Waiting = &waiting
		return c
	})
}
