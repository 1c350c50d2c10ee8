package host

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	maxLine     = 2 << 10 // bytes of a line that are kept
	linesAtOnce = 200     // that are logged in
	linesEvery  = 10 * time.Second
	keptLines   = 5 // for the error of a program that does not start
)

// lines writes what a program says on its standard error into the log: long
// lines are cut, and of very many only the first of each while are there.
type lines struct {
	log *slog.Logger

	mu struct {
		sync.Mutex
		rest    []byte // of a line that has no end yet
		cut     bool
		since   time.Time // the present while
		count   int
		dropped int
		kept    []string
		secrets []string // and their lines; the longest first, as one may be in another
	}
}

func newLines(log *slog.Logger) *lines { return &lines{log: log} }

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		p = rest
		for _, text := range l.add(line, whole) {
			l.log.LogAttrs(context.Background(), slog.LevelInfo, text.msg, text.attrs...)
		}
	}
	return n, nil
}

type entry struct {
	msg   string
	attrs []slog.Attr
}

// add takes a piece and returns what is to be logged.
func (l *lines) add(piece []byte, whole bool) (out []entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	room := maxLine - len(l.mu.rest)
	if len(piece) > room {
		piece, l.mu.cut = piece[:room], true
	}
	l.mu.rest = append(l.mu.rest, piece...)
	if !whole {
		return nil
	}
	line := strings.TrimRight(strings.ToValidUTF8(string(l.mu.rest), "?"), "\r")
	cut := l.mu.cut
	l.mu.rest, l.mu.cut = l.mu.rest[:0], false
	if line == "" {
		return nil
	}
	line = covered(line, l.mu.secrets)
	if cut {
		line = withoutStart(line, l.mu.secrets)
	}
	l.mu.kept = append(l.mu.kept, line)[max(0, len(l.mu.kept)+1-keptLines):]
	if now := time.Now(); now.Sub(l.mu.since) > linesEvery {
		if l.mu.dropped > 0 {
			out = append(out, entry{"a plugin printed more than is logged", []slog.Attr{slog.Int("dropped", l.mu.dropped)}})
		}
		l.mu.since, l.mu.count, l.mu.dropped = now, 0, 0
	}
	if l.mu.count++; l.mu.count > linesAtOnce {
		l.mu.dropped++
		return out
	}
	attrs := []slog.Attr{slog.String("line", line)}
	if cut {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	return append(out, entry{"a plugin prints", attrs})
}

// last is what was printed last, for an error message.
func (l *lines) last() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.kept) == 0 {
		return ""
	}
	return "; it printed: " + strings.Join(l.mu.kept, " / ")
}

// minSecret is how long a secret has to be for its text to be looked for.
const minSecret = 4

// hide makes a text unreadable in what is said from now on, and each of its
// lines, as what is printed comes in lines.
func (l *lines) hide(secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range append(strings.Split(secret, "\n"), secret) {
		if s = strings.TrimSpace(s); len(s) >= minSecret && !slices.Contains(l.mu.secrets, s) {
			l.mu.secrets = append(l.mu.secrets, s)
		}
	}
	slices.SortStableFunc(l.mu.secrets, func(a, b string) int { return len(b) - len(a) })
}

// redact is a text without the secrets.
func (l *lines) redact(text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return covered(text, l.mu.secrets)
}

func covered(text string, secrets []string) string {
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}

// withoutStart is a line that was cut, without the start of a secret at its end.
func withoutStart(line string, secrets []string) string {
	for _, s := range secrets {
		for n := len(s) - 1; n >= minSecret; n-- {
			if rest, ok := strings.CutSuffix(line, s[:n]); ok {
				return rest + "***"
			}
		}
	}
	return line
}
