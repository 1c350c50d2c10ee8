package mesh

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// logLines turns Serf's and memberlist's lines ("[WARN] memberlist: …") into
// slog records. What is ordinary in a mesh (joins, probes, retries) becomes
// Debug; complaints become Warn, each kind once in quietFor, because a peer
// that is down makes several a second.
type logLines struct {
	log  *slog.Logger
	pool string

	mu struct {
		sync.Mutex
		told map[string]time.Time // by kind of line
	}
}

const (
	quietFor = time.Minute
	maxKinds = 256 // kinds remembered; then all are forgotten and told anew
)

func newLogLines(log *slog.Logger, pool string) *logLines {
	l := &logLines{log: log, pool: pool}
	l.mu.told = map[string]time.Time{}
	return l
}

// levels by Serf's prefixes. Lines without one are complaints of memberlist.
var levels = []struct {
	prefix string
	level  slog.Level
}{
	{"[DEBUG] ", slog.LevelDebug},
	{"[INFO] ", slog.LevelDebug},
	{"[WARN] ", slog.LevelInfo},
	{"[ERR] ", slog.LevelWarn},
	{"[ERROR] ", slog.LevelWarn},
	{"", slog.LevelWarn},
}

// ordinary lines that Serf calls warnings or errors although they belong to
// the life of a mesh: a stop, a peer that restarts, a guard that refuses (it
// has told so itself), a name conflict (likewise).
var ordinary = []string{
	"Shutdown without a Leave", "Refuting a", "Failed to send", "Push/Pull with", "Failed fallback TCP ping",
	"ignoring alive message", "Conflicting address", "name conflicts", "Failed push/pull merge", "Failed to re-join",
	"over TCP but UDP probes failed", "Binding to public address",
}

// Write receives one line.
func (l *logLines) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	for _, lv := range levels {
		if rest, ok := strings.CutPrefix(text, lv.prefix); ok {
			l.tell(lv.level, rest)
			break
		}
	}
	return len(line), nil
}

func (l *logLines) tell(level slog.Level, text string) {
	for _, o := range ordinary {
		if strings.Contains(text, o) {
			level = slog.LevelDebug
		}
	}
	if level >= slog.LevelInfo && !l.fresh(text) {
		level = slog.LevelDebug
	}
	l.log.Log(context.Background(), level, "mesh: gossip", "pool", l.pool, "text", text)
}

// fresh reports whether this kind of line has not been told for a while.
func (l *logLines) fresh(text string) bool {
	kind := kindOf(text)
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.mu.told[kind]; ok && now.Sub(at) < quietFor {
		return false
	}
	if len(l.mu.told) >= maxKinds {
		clear(l.mu.told)
	}
	l.mu.told[kind] = now
	return true
}
