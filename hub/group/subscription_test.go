package group

import (
	"bytes"
	"testing"
)

// What clients put into their metadata and assignments.
func TestClassicBytesAreRead(t *testing.T) {
	b := newBoard()
	b.set("t", 3)
	header := "\x00\x00\x00\x01\x00\x01t" // one topic
	for _, c := range []struct {
		name, bytes string
		ok          bool
		owned, rack string
	}{
		{"version 0", "\x00\x00" + header + "\xff\xff\xff\xff", true, "-", ""},
		{"version 1 that ends early", "\x00\x01" + header + "\xff\xff\xff\xff", true, "-", ""},
		{"version 1", "\x00\x01" + header + "\x00\x00\x00\x01u" + header + "\x00\x00\x00\x01\x00\x00\x00\x02", true, "t:2", ""},
		{"version 3", "\x00\x03" + header + "\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x09\x00\x01r", true, "-", "r"},
		{"a later version", "\x00\x09" + header + "\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x09\xff\xffmore", true, "-", ""},
		{"too many topics", "\x00\x00\x7f\xff\xff\xff\x00\x01t", false, "", ""},
		{"a short name", "\x00\x00\x00\x00\x00\x01\x00\x09t", false, "", ""},
		{"another language", "what", false, "", ""},
	} {
		s, ok := readSubscription([]byte(c.bytes))
		if ok != c.ok || ok && (len(s.topics) != 1 || s.topics[0] != "t" || b.named(fromNames(s.owned, b)) != c.owned || s.rack != c.rack) {
			t.Errorf("%s: %+v, %v", c.name, s, ok)
		}
	}
	plain := b.bytes("t:0,2")
	if got, ok := readAssignment(plain, b); !ok || b.named(got) != "t:0,2" {
		t.Errorf("an assignment comes back as %v, %v", got, ok)
	}
	own := append(bytes.TrimSuffix(plain, []byte{255, 255, 255, 255}), 0, 0, 0, 1, 'x')
	if got, ok := readAssignment(own, b); ok {
		t.Errorf("data of an assignor was dropped: %v", got)
	}
}

// FuzzClassicBytes: no bytes of a client do harm, and what is read of an
// assignment is written as it was.
func FuzzClassicBytes(f *testing.F) {
	b := newBoard()
	b.set("t", 3)
	f.Add([]byte("\x00\x01\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Add(b.bytes("t:0,2"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if s, ok := readSubscription(in); ok {
			fromNames(s.owned, b)
		}
		a, ok := readAssignment(in, b)
		if !ok {
			return
		}
		if again, ok := readAssignment(appendAssignment(a, 3, b), b); !ok || !again.equal(a) {
			t.Errorf("%v comes back as %v, %v", a, again, ok)
		}
	})
}
