package file

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

func ids(splits []connectors.Split) string {
	var all []string
	for _, s := range splits {
		all = append(all, filepath.Base(s.ID))
	}
	return strings.Join(all, " ")
}

func TestSplits(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"access.log", "access.log.1", "access.log.2.gz", "access.log-20150517", "error.log.1", "other-1.log", "other-2.log", "x.tmp", "access.log.bak"} {
		write(t, filepath.Join(dir, name), name+"\n")
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{
		"access.log":  "access.log",
		"missing.log": "missing.log",
		"*.log":       "access.log other-1.log other-2.log",
		"*.log*":      "access.log access.log.bak error.log other-1.log other-2.log",
		"other-?.log": "other-1.log other-2.log",
		"*.1":         "access.log.1 error.log.1",
	} {
		got, err := Source{}.Splits(t.Context(), config(t, map[string]any{"path": filepath.Join(dir, pattern), "follow": false, "exclude": []string{"*.tmp"}}))
		if err != nil {
			t.Fatal(err)
		}
		if list := ids(<-got); list != want {
			t.Errorf("%s: %s, want %s", pattern, list, want)
		}
		if _, more := <-got; more {
			t.Errorf("%s: the list is final but the channel is open", pattern)
		}
	}
	if _, err := (Source{}).Splits(t.Context(), config(t, map[string]any{"path": filepath.Join(dir, "no*match"), "follow": false})); connectors.ClassOf(err) != connectors.ClassFatal {
		t.Errorf("nothing matches: %v", err)
	}
}

// TestGlobReadsRotatedFirst: a glob that names the rotated files reads them
// from the oldest on, as one log.
func TestGlobReadsRotatedFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		write(t, log+".10", "a\n")
		write(t, log+".9", "b\n")
		write(t, log+".1", "c\nhalf")
		write(t, log, "d\n")
		cfg := config(t, map[string]any{"path": log + "*", "follow": false})
		r := openAt(t, cfg, log, nil)
		r.want("a|b|c|half|d")
		r.close()
		for i, m := range r.got {
			again := openAt(t, cfg, log, m.Position)
			again.want(values(r.got[i+1:]))
			again.close()
		}
		plain := openAt(t, config(t, map[string]any{"path": log, "follow": false}), log, nil)
		plain.want("d")
		plain.close()
	})
}

// TestSplitsFollow: new logs appear; one that is missing for a moment stays.
func TestSplitsFollow(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	synctest.Test(t, func(t *testing.T) {
		write(t, at("a.log"), "")
		got, err := Source{}.Splits(t.Context(), config(t, map[string]any{"path": at("*.log")}))
		if err != nil {
			t.Fatal(err)
		}
		none := func() { // during one look
			t.Helper()
			select {
			case list := <-got:
				t.Fatalf("unexpected list %s", ids(list))
			case <-time.After(5 * time.Second):
			}
		}
		if list := ids(<-got); list != "a.log" {
			t.Errorf("first: %s", list)
		}
		write(t, at("b.log"), "")
		if list := ids(<-got); list != "a.log b.log" {
			t.Errorf("then: %s", list)
		}
		rename(t, at("a.log"), at("a.log.1"))
		none()
		write(t, at("a.log"), "")
		none()
		if err := os.Remove(at("b.log")); err != nil {
			t.Fatal(err)
		}
		if list := ids(<-got); list != "a.log" {
			t.Errorf("at last: %s", list)
		}
	})
}

func TestValidate(t *testing.T) {
	log := filepath.Join(t.TempDir(), "a.log")
	find := func(probe connectors.Probe, values map[string]any) string {
		var words []string
		for _, f := range (Source{}).Validate(t.Context(), config(t, values), probe) {
			words = append(words, fmt.Sprintf("%s warning=%t", f.Field, f.Warning))
		}
		return strings.Join(words, ",")
	}
	for _, c := range []struct {
		probe  connectors.Probe
		values map[string]any
		want   string
	}{
		{connectors.ProbeNone, map[string]any{"path": log}, ""},
		{connectors.ProbeNone, map[string]any{"path": log, "final_line": "emit"}, "final_line warning=false"},
		{connectors.ProbeLive, map[string]any{"path": log}, "path warning=true"},
		{connectors.ProbeLive, map[string]any{"path": log, "follow": false}, "path warning=false"},
		{connectors.ProbeLive, map[string]any{"path": log + "*", "follow": false}, "path warning=false"},
		{connectors.ProbeLive, map[string]any{"path": filepath.Dir(log)}, "path warning=false"},
	} {
		if got := find(c.probe, c.values); got != c.want {
			t.Errorf("%v: got %q, want %q", c.values, got, c.want)
		}
	}
	for _, bad := range []map[string]any{{}, {"path": ""}, {"path": "a[", "follow": true}, {"path": "a", "exclude": []string{"x/y"}}, {"path": "a", "max_line": 0}, {"path": "a", "poll_interval": time.Duration(0)}} {
		if _, err := connectors.NewConfig(Source{}.Spec().Fields, bad); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func TestRotationNames(t *testing.T) {
	yes := func(string) bool { return true }
	for name, want := range map[string]string{
		"a.log.1": "a.log", "a.log.2.gz": "a.log", "a.log-20150517": "a.log", "a.log.2015-05-17": "a.log",
		"a.log-20150517-1431859200.gz": "a.log", "a.log.20150517T100000": "a.log", "a.log": "", "a.log.gz": "", "a.log.bak": "", "a1": "",
	} {
		if got := rotationBase(name, yes); got != want {
			t.Errorf("%s comes from %q, want %q", name, got, want)
		}
	}
}

func TestPositionOrder(t *testing.T) {
	a := position{generation: 1, offset: 5000, line: 3, mtime: 9, identity: identity{dev: 9, ino: 9, fpLen: 9, fp: 9}}
	b := position{generation: 1, offset: 5001, line: 4}
	c := position{generation: 2, offset: 1, line: 1}
	if !(bytes.Compare(a.append(nil), b.append(nil)) < 0 && bytes.Compare(b.append(nil), c.append(nil)) < 0) {
		t.Error("positions are not ordered as they are read")
	}
}

func FuzzPosition(f *testing.F) {
	f.Add(position{generation: 1, offset: 2, line: 3, mtime: 4, identity: identity{5, 6, 7, 8}}.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePosition(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.append(nil), b) {
			t.Errorf("%x decodes to %+v, which encodes to %x", b, p, p.append(nil))
		}
	})
}

// FuzzLines compares with splitting the text at once, however it is read.
func FuzzLines(f *testing.F) {
	f.Add("a\nb\r\n\nc", uint8(3))
	f.Add("\xef\xbb\xbf123456789\n1", uint8(1))
	f.Fuzz(func(t *testing.T, text string, step uint8) {
		l := &lines{settings: settings{maxLine: 5, emitEmpty: true}}
		var got []connectors.Message
		for at := 0; at < len(text); at += int(step) + 1 {
			n := copy(l.grow(int(step)+1), text[at:])
			l.grown(n)
			got = append(got, l.cut("f", connectors.Limits{})...)
		}
		if m, ok := l.final("f"); ok {
			got = append(got, m)
		}
		if l.end() != int64(len(text)) {
			t.Errorf("stands at %d of %d", l.end(), len(text))
		}
		want := strings.Split(text, "\n")
		if want[len(want)-1] == "" {
			want = want[:len(want)-1]
		}
		if len(want) != len(got) {
			t.Fatalf("%d lines, want %d of %q", len(got), len(want), text)
		}
		for i, line := range want {
			line = strings.TrimSuffix(line, "\r")
			if i == 0 {
				line = strings.TrimPrefix(line, "\xef\xbb\xbf")
			}
			if len(line) > 5 {
				if got[i].Err == nil {
					t.Errorf("%q is not refused", line)
				}
				continue
			}
			if string(got[i].Value) != line {
				t.Errorf("line %d is %q, want %q", i+1, got[i].Value, line)
			}
		}
	})
}

func TestRealLog(t *testing.T) {
	const path = "../../../shared/data/access-2015.log"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Skipf("SKIPPED: THE REAL ACCESS LOG IS NOT HERE: %v", err)
	}
	r := openAt(t, config(t, map[string]any{"path": path, "follow": false}), path, nil)
	defer r.close()
	got := r.read(0)
	if len(got) != 10000 || got[9999].Origin.Line != 10000 {
		t.Fatalf("%d lines", len(got))
	}
	if values(got) != strings.ReplaceAll(strings.TrimSuffix(string(text), "\n"), "\n", "|") {
		t.Error("the lines are not those of the file")
	}
}

func BenchmarkRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "a.log")
	write(b, path, strings.Repeat(strings.Repeat("x", 236)+"\n", 100000))
	cfg := config(b, map[string]any{"path": path, "follow": false})
	n := 0
	for b.Loop() {
		r, err := Source{}.Open(b.Context(), task(b, cfg), connectors.Split{ID: path}, nil)
		if err != nil {
			b.Fatal(err)
		}
		for {
			batch, err := r.Read(b.Context(), connectors.Limits{Records: 10000})
			if err != nil {
				break
			}
			n += len(batch.Messages)
		}
		if err := r.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "lines/s")
}
