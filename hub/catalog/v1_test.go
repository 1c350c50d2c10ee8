package catalog

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestOldEncodings reads commands and a snapshot that a node wrote before sites
// had several nodes: each decodes, is written as it was, byte for byte, and the
// commands still give that catalog.
func TestOldEncodings(t *testing.T) {
	text, err := os.ReadFile("testdata/v1/commands")
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := os.ReadFile("testdata/v1/snapshot")
	if err != nil {
		t.Fatal(err)
	}
	m := NewMachine()
	for line := range strings.Lines(string(text)) {
		b, err := strconv.Unquote(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Decode([]byte(b))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		again, err := Encode(c)
		if err != nil || string(again) != b {
			t.Errorf("%s is written as %q now: %v", line, again, err)
		}
		m.Apply(1, []byte(b))
	}
	if got := m.Snapshot(); !bytes.Equal(got, snapshot) {
		t.Errorf("the old commands give another catalog now:\n%s\nnot\n%s", got, snapshot)
	}
	old := NewMachine()
	if err := old.Restore(snapshot); err != nil {
		t.Fatal(err)
	}
	if got := old.Snapshot(); !bytes.Equal(got, snapshot) {
		t.Errorf("the old snapshot is written anew as\n%s\nnot\n%s", got, snapshot)
	}
	for _, topic := range old.State().Topics() {
		for i, p := range topic.Partitions {
			if b := p.BornMembers(); len(b) != 1 || b[0] != 1 {
				t.Errorf("%s-%d was born on %v, want member 1", topic.Name, i, b)
			}
		}
	}
}
