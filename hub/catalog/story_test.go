package catalog

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write what the stories print into testdata")

// A story is a text file of steps: a line with a verb and its arguments, a line
// of dashes, the output, an empty line. Lines with # are prose.

// runStories runs every file of testdata, each with a fresh env.
func runStories(t *testing.T, env func(t *testing.T) func(verb string, args args) string) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runStory(t, string(text), env(t))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if i, a, b := firstDifference(string(text), got); a != b {
				t.Errorf("%s:%d: %q is %q now; if that is right, run with -rewrite", file, i, a, b)
			}
		})
	}
}

// firstDifference is the first line, counted from 1, that differs.
func firstDifference(was, is string) (line int, a, b string) {
	before, now := strings.Split(was, "\n"), strings.Split(is, "\n")
	for line < len(before) && line < len(now) && before[line] == now[line] {
		line++
	}
	if line < len(before) {
		a = before[line]
	}
	if line < len(now) {
		b = now[line]
	}
	if a == b && len(before) != len(now) {
		b += " (end)"
	}
	return line + 1, a, b
}

func runStory(t *testing.T, text string, do func(verb string, args args) string) string {
	t.Helper()
	var out strings.Builder
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" || strings.HasPrefix(line, "#") {
			out.WriteString(line + "\n")
			continue
		}
		verb, rest, _ := strings.Cut(line, " ")
		fmt.Fprintf(&out, "%s\n----\n", line)
		if result := do(verb, args{t, strings.Fields(rest)}); result != "" {
			out.WriteString(strings.TrimSuffix(result, "\n") + "\n")
		}
		out.WriteString("\n")
		for i++; i < len(lines) && lines[i] != ""; i++ { // the output as it was
		}
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// args are the words after the verb: name=value, or a bare word.
type args struct {
	t     *testing.T
	words []string
}

func (a args) get(name string) string {
	for _, w := range a.words {
		if k, v, ok := strings.Cut(w, "="); ok && k == name {
			return v
		}
	}
	return ""
}

func (a args) bare() string {
	for _, w := range a.words {
		if !strings.Contains(w, "=") {
			return w
		}
	}
	return ""
}

func (a args) int(name string) int64 {
	v := a.get(name)
	if v == "" {
		return 0
	}
	var n int64
	if _, err := fmt.Sscan(v, &n); err != nil {
		a.t.Fatalf("%s=%s: %v", name, v, err)
	}
	return n
}
