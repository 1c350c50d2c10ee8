package record

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestTopicID(t *testing.T) {
	id, err := NewTopicID(bytes.NewReader(bytes.Repeat([]byte{0xff}, 16)))
	if err != nil || id[6] != 0x4f || id[8] != 0xbf {
		t.Fatalf("%x is no version 4 UUID (%v)", id, err)
	}
	if got, err := ParseTopicID(id.String()); got != id || err != nil || len(id.String()) != 22 {
		t.Errorf("%v reads as %v, %v", id, got, err)
	}
	for _, bad := range []string{"", "short", id.Hex(), id.String() + "A", strings.Repeat("+", 22)} {
		if _, err := ParseTopicID(bad); err == nil {
			t.Errorf("%q passes for a topic id", bad)
		}
	}
	if _, err := NewTopicID(strings.NewReader("few")); err == nil {
		t.Error("an ID of three random bytes")
	}
	if id.IsZero() || !(TopicID{}).IsZero() {
		t.Error("IsZero")
	}
}

func TestCheckTopicName(t *testing.T) {
	for _, good := range []string{"a", "orders.v2_x-Y", "...", strings.Repeat("a", MaxTopicName)} {
		if err := CheckTopicName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "a/b", "a b", "ä", "a\x00", strings.Repeat("a", MaxTopicName+1)} {
		if err := CheckTopicName(bad); !errors.Is(err, ErrInvalidTopic) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestLastHeaderWins(t *testing.T) {
	r := Record{Headers: []Header{{"a", []byte("1")}, {"b", nil}, {"a", []byte("2")}}}
	if v, ok := r.Header("a"); string(v) != "2" || !ok {
		t.Errorf("a is %q, %v", v, ok)
	}
	if v, ok := r.Header("b"); v != nil || !ok {
		t.Errorf("b is %q, %v", v, ok)
	}
	if _, ok := r.Header("c"); ok {
		t.Error("c is there")
	}
}
