package host

import (
	"bytes"
	"context"
	"log/slog"
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
		secrets []string
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
	for _, s := range l.mu.secrets {
		line = strings.ReplaceAll(line, s, "***")
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

// hide makes a text unreadable in what is printed from now on.
func (l *lines) hide(secret string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.mu.secrets {
		if s == secret {
			return
		}
	}
	l.mu.secrets = append(l.mu.secrets, secret)
}
