// Package storytest plays stories: text files that tell a state machine what
// happens to it, with what came of each command below it and prose in between.
// It is for tests only.
//
//	# Why this is told.
//	join member=a
//	----
//	generation 1 begins
//
// A line is a verb and its arguments; dashes and the recorded outcome follow, up
// to an empty line. go test -rewrite records what comes of the commands now; read
// the difference before you believe it.
package storytest

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write the expected texts in testdata anew")

// Rewriting reports whether expected texts are to be written anew.
func Rewriting() bool { return *rewrite }

// Run plays every file testdata/*.txt as a subtest named after it. begin returns
// what does one command and tells what came of it.
func Run(t *testing.T, begin func(t *testing.T) func(verb string, a Args) string) {
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
			Golden(t, file, play(t, string(text), begin(t)))
		})
	}
}

func play(t *testing.T, text string, do func(verb string, a Args) string) string {
	var out strings.Builder
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		out.WriteString(line + "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		words := strings.Fields(line)
		out.WriteString("----\n")
		if came := strings.TrimSuffix(do(words[0], Args{t, words[1:]}), "\n"); came != "" {
			out.WriteString(came + "\n")
		}
		if i+1 < len(lines) && lines[i+1] == "----" {
			for i++; i+1 < len(lines) && lines[i+1] != ""; i++ { // as it was
			}
		}
		if i+1 < len(lines) && lines[i+1] != "" {
			out.WriteString("\n")
		}
	}
	return out.String()
}

// Golden compares got with what stands in a file, or writes it there.
func Golden(t *testing.T, file, got string) {
	t.Helper()
	if *rewrite {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got == string(want) {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(string(want), "\n")
	i := 0
	for i < len(g) && i < len(w) && g[i] == w[i] {
		i++
	}
	from := func(lines []string) string { return strings.Join(lines[i:min(i+8, len(lines))], "\n") }
	t.Errorf("%s:%d is otherwise now; if that is right, run with -rewrite. It was\n%s\nand is\n%s", file, i+1, from(w), from(g))
}

// Args are the words after a verb: name=value, or bare ones.
type Args struct {
	T     *testing.T
	Words []string
}

func (a Args) find(name string) (value string, ok bool) {
	for _, w := range a.Words {
		if k, v, _ := strings.Cut(w, "="); k == name {
			return v, true
		}
	}
	return "", false
}

// Get is the value of a name, "" without one.
func (a Args) Get(name string) string { v, _ := a.find(name); return v }

// Has reports whether a name or a bare word is there.
func (a Args) Has(name string) bool { _, ok := a.find(name); return ok }

// Bare is the first bare word.
func (a Args) Bare() string {
	for _, w := range a.Words {
		if !strings.Contains(w, "=") {
			return w
		}
	}
	return ""
}

// Int is the number of a name, or another one without it.
func (a Args) Int(name string, or int64) int64 { return parse(a, name, or, parseInt) }

// Duration is the time of a name, or another one without it.
func (a Args) Duration(name string, or time.Duration) time.Duration {
	return parse(a, name, or, time.ParseDuration)
}

func parseInt(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

func parse[V any](a Args, name string, or V, read func(string) (V, error)) V {
	s := a.Get(name)
	if s == "" {
		return or
	}
	v, err := read(s)
	if err != nil {
		a.T.Fatalf("%s=%s: %v", name, s, err)
	}
	return v
}
