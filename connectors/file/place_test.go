package file

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/entrepot-hub/entrepot/connectors"
)

// TestGrownFileReadsAgainUnderTheSameNames: a line that is read a second time,
// after a crash before the first checkpoint, was doubled when the file had
// grown in between, since its position told how the file had looked.
func TestGrownFileReadsAgainUnderTheSameNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.WriteFile(path, []byte("one\ntwo\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	places := func() (all [][]byte) {
		cfg, err := connectors.NewConfig(Source{}.Spec().Fields, map[string]any{"path": path, "follow": false})
		if err != nil {
			t.Fatal(err)
		}
		task := connectors.TaskContext{Job: "j", Task: "j/0", Config: cfg, Logger: slog.New(slog.DiscardHandler), Clock: time.Now}
		r, err := Source{}.Open(t.Context(), task, connectors.Split{ID: path, Config: splitsOf([]string{path})[0].Config}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = r.Close(t.Context()) }()
		b, err := r.Read(t.Context(), connectors.Limits{Records: 2, Wait: time.Second})
		if err != nil || len(b.Messages) != 2 {
			t.Fatalf("%d messages, %v", len(b.Messages), err)
		}
		for i := range b.Messages {
			m := &b.Messages[i]
			if !bytes.HasPrefix(m.Position, m.Place) {
				t.Errorf("place %x does not begin position %x", m.Place, m.Position)
			}
			all = append(all, m.Identity())
		}
		return all
	}
	before := places()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Repeat([]byte("more\n"), 500)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	after := places()
	for i := range before {
		if !bytes.Equal(before[i], after[i]) {
			t.Errorf("line %d was %x, now %x", i+1, before[i], after[i])
		}
	}
	if bytes.Equal(after[0], after[1]) {
		t.Error("two lines have one name")
	}
}
