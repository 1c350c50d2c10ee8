package record

import (
	"errors"
	"testing"
)

func TestMarkerRoundTrip(t *testing.T) {
	for _, commit := range []bool{true, false} {
		b := NewMarker(77, 5, commit, 9, 1234)
		b.SetBaseOffset(1000)
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
		gotCommit, epoch, err := b.Marker()
		if gotCommit != commit || epoch != 9 || err != nil {
			t.Errorf("commit %v reads as %v, epoch %d, %v", commit, gotCommit, epoch, err)
		}
		if !b.IsControl() || !b.IsTransactional() || b.ProducerID() != 77 || b.ProducerEpoch() != 5 || b.LastSequence() != -1 || b.MaxTime() != 1234 || b.LastOffset() != 1000 {
			t.Errorf("header %x", []byte(b[:BatchHeaderSize]))
		}
		if err := b.CheckProduced(); !errors.Is(err, ErrInvalidBatch) {
			t.Errorf("from a client: %v", err)
		}
	}
}

func TestMarkerRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		control bool
		recs    []Record
	}{
		{"data", false, []Record{{Key: []byte("\x00\x00\x00\x01"), Value: make([]byte, 6)}}},
		{"two records", true, make([]Record, 2)},
		{"no key", true, []Record{{Value: make([]byte, 6)}}},
		{"a short value", true, []Record{{Key: make([]byte, 4), Value: make([]byte, 5)}}},
		{"a leader change", true, []Record{{Key: []byte("\x00\x00\x00\x02"), Value: make([]byte, 6)}}},
		{"a negative version", true, []Record{{Key: []byte("\xff\xff\x00\x01"), Value: make([]byte, 6)}}},
	} {
		n := NewBuilder(None)
		n.Control = c.control
		mustAppend(t, n, c.recs...)
		if _, _, err := mustBuild(t, n).Marker(); !errors.Is(err, ErrInvalidBatch) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, _, err := handmade(1, 0, None, []byte{1}).Marker(); !errors.Is(err, ErrInvalidBatch) {
		t.Errorf("a broken batch without the control bit: %v", err)
	}
}
