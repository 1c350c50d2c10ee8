package host

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
	"github.com/entrepot-hub/entrepot/connectors/conntest"
	"github.com/entrepot-hub/entrepot/plugins/wire"
	"github.com/entrepot-hub/entrepot/record"
)

// counted is the number that a plugin has written into a file.
func counted(file string) int {
	text, _ := os.ReadFile(file)
	n, _ := strconv.Atoi(string(text))
	return n
}

// TestReadsAhead: a plugin reads ahead while nobody takes its messages, but
// only as far as there is room for them.
func TestReadsAhead(t *testing.T) {
	reg, _, _ := bad(t, "endless")
	s, file := reg.Sources["bad"], filepath.Join(t.TempDir(), "count")
	r, err := s.Open(t.Context(), conntest.Task(conntest.Config(t, s.Spec(), map[string]any{"once": file})), connectors.Split{ID: "0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	limits := connectors.Limits{Bytes: 1 << 20, Wait: 50 * time.Millisecond}
	taken := 0
	for range 50 {
		b, err := r.Read(t.Context(), limits)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range b.Messages {
			taken += m.Size()
		}
		if ahead := counted(file) - taken; ahead > wire.Window+wire.ChunkBytes {
			t.Fatalf("%d bytes read ahead, want at most %d", ahead, wire.Window)
		}
	}
	before := 0
	until(t, "it reads no further", func() bool {
		now := counted(file)
		same := now == before && now-taken >= wire.Window/2 // not a pause of the plugin
		before = now
		if !same {
			_ = connectors.Pause(t.Context(), 100*time.Millisecond)
		}
		return same
	})
	if ahead := before - taken; ahead < wire.Window/2 || ahead > wire.Window+wire.ChunkBytes {
		t.Errorf("%d bytes read ahead, want about %d", ahead, wire.Window)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestWritesWithinCredit: no more of a plan is sent than the plugin has room
// for, and one that gives none is taken for hung.
func TestWritesWithinCredit(t *testing.T) {
	reg, _, _ := bad(t, "stingy")
	file := filepath.Join(t.TempDir(), "count")
	p, b := connectors.Plan{Partition: record.TopicPartition{Topic: "t"}, To: 50}, connectors.Batch{}
	for o := range p.To {
		b.Messages = append(b.Messages, connectors.Message{Value: bytes.Repeat([]byte("x"), 64<<10), Offset: o})
	}
	_, err := openSink(t, reg, map[string]any{"once": file}).Write(t.Context(), p, b)
	if connectors.ClassOf(err) != connectors.ClassUnknown {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
	if n := counted(file); n == 0 || n > 512<<10+wire.ChunkBytes {
		t.Errorf("%d bytes were sent, want at most %d", n, 512<<10+wire.ChunkBytes)
	}
}

// TestUnread: a plugin that gives room and does not read its stream is killed,
// and does not hold the writer for good.
func TestUnread(t *testing.T) {
	reg, _, _ := bad(t, "unread")
	p, b := connectors.Plan{Partition: record.TopicPartition{Topic: "t"}, To: 64}, connectors.Batch{}
	value := bytes.Repeat([]byte("x"), 1<<20) // in all more than what lies in windows and sockets
	for o := range p.To {
		b.Messages = append(b.Messages, connectors.Message{Value: value, Offset: o})
	}
	_, err := openSink(t, reg, nil).Write(t.Context(), p, b)
	if connectors.ClassOf(err) != connectors.ClassUnknown || !strings.Contains(err.Error(), "it took nothing for 1s (sink bad) and was killed") {
		t.Errorf("class %v: %v", connectors.ClassOf(err), err)
	}
}
