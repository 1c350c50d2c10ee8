package file

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

func TestLines(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
		more       map[string]any
	}{
		"plain":           {"a\nb\nc\n", "a|b|c", nil},
		"crlf":            {"a\r\nb\r\n", "a|b", nil},
		"byte order mark": {"\xef\xbb\xbfa\nb\n", "a|b", nil},
		"empty skipped":   {"\n\na\n\r\nb\n\n", "a|b", nil},
		"empty emitted":   {"\na\n\r\n", "|a|", map[string]any{"empty_lines": "emit"}},
		"blank kept":      {" \n", " ", nil},
		"no newline":      {"a\nb", "a|b", nil},
		"no newline wait": {"a\nb", "a", map[string]any{"final_line": "wait"}},
		"header":          {"h1\nh2\na\n", "a", map[string]any{"header_lines": 2}},
		"at the limit":    {"12345\n12345\r\n123456\n1\n", "12345|12345|!12345|1", map[string]any{"max_line": 5}},
		"far too long":    {"1234567890\n1\n1234567890", "!12345|1|!12345", map[string]any{"max_line": 5}},
		"nothing":         {"", "", nil},
		"not utf-8":       {"\xff\xfa\n", "\xff\xfa", nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, log string) {
				write(t, log, c.text)
				all := map[string]any{"path": log, "follow": false}
				maps.Copy(all, c.more)
				r := openAt(t, config(t, all), log, nil)
				r.want(c.want)
				if _, err := r.Read(t.Context(), connectors.Limits{}); !errors.Is(err, io.EOF) {
					t.Errorf("after the end: %v", err)
				}
				r.close()
			})
		})
	}
}

// TestLongLine: the line may be longer than what is read at a time, its
// beginning is kept, and reading goes on after it.
func TestLongLine(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		long := strings.Repeat("x", 3*chunk+17)
		write(t, log, "a\n"+long+"\nb\n"+long)
		r := openAt(t, config(t, map[string]any{"path": log, "follow": false, "max_line": 1000}), log, nil)
		got := r.read(0)
		r.close()
		if len(got) != 4 || values(got) != "a|!"+long[:1000]+"|b|!"+long[:1000] {
			t.Fatalf("got %d: %.100s", len(got), values(got))
		}
		if err := got[1].Err; connectors.ClassOf(err) != connectors.ClassPoison || !strings.Contains(err.Error(), "the line has 786449 bytes and max_line allows 1000") {
			t.Errorf("got %v", err)
		}
		if got[2].Origin.Line != 3 || got[2].Origin.String() != log+":3" {
			t.Errorf("origin %s", got[2].Origin)
		}
	})
}

func TestLimits(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		write(t, log, strings.Repeat("0123456789\n", 100))
		r := openAt(t, config(t, map[string]any{"path": log, "follow": false}), log, nil)
		for _, c := range []struct {
			limits connectors.Limits
			want   int
		}{{connectors.Limits{Records: 7}, 7}, {connectors.Limits{Bytes: 35}, 3}, {connectors.Limits{Bytes: 1}, 1}, {connectors.Limits{}, 89}} {
			b, err := r.Read(t.Context(), c.limits)
			if err != nil || len(b.Messages) != c.want {
				t.Errorf("%+v: %d messages, %v", c.limits, len(b.Messages), err)
			}
		}
		r.close()
	})
}

// TestPartialLine: a line counts when its newline is there, however it comes.
func TestPartialLine(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		cfg := config(t, map[string]any{"path": log})
		r := openAt(t, cfg, log, nil)
		r.want("")
		appendTo(t, log, "a\nb")
		r.want("a")
		appendTo(t, log, "b")
		r.want("")
		appendTo(t, log, "b\r")
		r.want("")
		again := openAt(t, cfg, log, r.got[0].Position)
		again.want("")
		appendTo(t, log, "\nc\n")
		r.want("bbb|c")
		again.want("bbb|c")
		r.close()
		again.close()
	})
}

// TestRename: the old inode is read to its end, with what a slow writer adds
// after the rename, and only then the new file.
func TestRename(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		write(t, log, "a\n")
		cfg := config(t, map[string]any{"path": log})
		r := openAt(t, cfg, log, nil)
		r.want("a")
		rename(t, log, log+".1")
		appendTo(t, log+".1", "b\n")
		r.want("b")
		write(t, log, "d\n")
		b, err := r.Read(t.Context(), connectors.Limits{Wait: time.Second})
		if err != nil || len(b.Messages) > 0 {
			t.Fatalf("got %s, %v: the new file before rotate_wait", values(b.Messages), err)
		}
		appendTo(t, log+".1", "c\nno newline")
		b, err = r.Read(t.Context(), connectors.Limits{Wait: time.Second})
		if err != nil || values(b.Messages) != "c" {
			t.Fatalf("got %s, %v: the new file before rotate_wait", values(b.Messages), err)
		}
		r.check(b.Messages)
		r.want("no newline|d")
		r.close()
		for i, m := range r.got {
			again := openAt(t, cfg, log, m.Position)
			again.want(values(r.got[i+1:]))
			again.close()
		}
	})
}

// TestSeveralRenames: rotated more than once while nobody was reading.
func TestSeveralRenames(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		write(t, log, "a\nb\n")
		cfg := config(t, map[string]any{"path": log})
		r := openAt(t, cfg, log, nil)
		first := r.read(1)
		r.close()
		rename(t, log, log+".3")
		write(t, log+".2", "c\n")
		write(t, log+".1", "d\n")
		write(t, log, "e\n")
		again := openAt(t, cfg, log, first[0].Position)
		again.want("b|c|d|e")
		again.close()
	})
}

// TestCopyTruncate: what was not read yet comes from the copy.
func TestCopyTruncate(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		cfg := config(t, map[string]any{"path": log})
		write(t, log, "a\nb\n")
		r := openAt(t, cfg, log, nil)
		if got := values(r.read(1)); got != "a" {
			t.Fatal(got)
		}
		live := openAt(t, cfg, log, nil)
		live.want("a|b")
		appendTo(t, log, "c\n")
		copyFile(t, log, log+".1")
		if err := os.Truncate(log, 0); err != nil {
			t.Fatal(err)
		}
		appendTo(t, log, "d\n")
		live.want("c|d")
		r.want("b|c|d")
		r.close()
		live.close()
		for i, m := range r.got {
			again := openAt(t, cfg, log, m.Position)
			again.want(values(r.got[i+1:]))
			again.close()
		}
	})
}

// TestCopyTruncateGrownPast: the file is longer again than it was when it is
// next looked at; only the fingerprint tells.
func TestCopyTruncateGrownPast(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		write(t, log, "a\n")
		r := openAt(t, config(t, map[string]any{"path": log}), log, nil)
		r.want("a")
		copyFile(t, log, log+"-20150517")
		write(t, log, "x longer\nthan before\n") // truncates, same inode
		r.want("x longer|than before")
		r.close()
	})
}

// TestShorter: the file begins as before, but is shorter than the place
// reached; only its size tells.
func TestShorter(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		head := strings.Repeat("x", 2*fingerprintBytes)
		write(t, log, head+"\na\nb\n")
		r := openAt(t, config(t, map[string]any{"path": log}), log, nil)
		r.want(head + "|a|b")
		write(t, log, head+"\nc\n")
		r.want(head + "|c")
		r.close()
	})
}

// TestTruncateWithoutCopy starts over, and does not lose half a line silently.
func TestTruncateWithoutCopy(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		write(t, log, "a\nhal")
		r := openAt(t, config(t, map[string]any{"path": log}), log, nil)
		r.want("a")
		write(t, log, "z\n")
		r.want("hal|z")
		r.close()
	})
}

// TestGone: the file of the position exists no more; files that are newer
// than it are read, older ones are not.
func TestGone(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		cfg := config(t, map[string]any{"path": log})
		at := func(path, text string, minutes int) {
			write(t, path, text)
			stamp := time.Date(2020, 1, 1, 0, minutes, 0, 0, time.UTC)
			if err := os.Chtimes(path, stamp, stamp); err != nil {
				t.Fatal(err)
			}
		}
		at(log+".9", "old\n", 1)
		at(log, "a\n", 2)
		r := openAt(t, cfg, log, nil)
		r.want("a")
		r.close()
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
		at(log+".1", "b\n", 3)
		at(log, "c\n", 4)
		again := openAt(t, cfg, log, r.got[0].Position)
		again.want("b|c")
		again.close()
	})
}

func TestErrors(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		ctx := t.Context()
		cfg := config(t, map[string]any{"path": log, "follow": false})
		r := openAt(t, cfg, log, nil)
		if _, err := r.Read(ctx, connectors.Limits{Wait: time.Hour}); connectors.ClassOf(err) != connectors.ClassFatal || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("no file: %v", err)
		}
		if err := os.Mkdir(log, 0o700); err != nil {
			t.Fatal(err)
		}
		if _, err := (Source{}).Open(ctx, task(t, cfg), connectors.Split{ID: log}, nil); connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("a folder: %v", err)
		}
		if err := os.Remove(log); err != nil {
			t.Fatal(err)
		}
		write(t, log, "\xff\xfea\x00\n\x00")
		if _, err := (Source{}).Open(ctx, task(t, cfg), connectors.Split{ID: log}, nil); connectors.ClassOf(err) != connectors.ClassFatal || !strings.Contains(err.Error(), "UTF-16") {
			t.Errorf("UTF-16: %v", err)
		}
		if _, err := (Source{}).Open(ctx, task(t, cfg), connectors.Split{ID: log}, connectors.Position("x")); connectors.ClassOf(err) != connectors.ClassFatal {
			t.Errorf("a foreign position: %v", err)
		}
	})
}

func TestCancelWhileWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T, log string) {
		r := openAt(t, config(t, map[string]any{"path": log}), log, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if _, err := r.Read(ctx, connectors.Limits{Wait: time.Hour}); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		r.close()
	})
}
