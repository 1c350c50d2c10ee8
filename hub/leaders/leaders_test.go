package leaders

import (
	"reflect"
	"testing"

	"github.com/entrepot-hub/entrepot/record"
)

var topic = record.TopicID{1}

func claim(p int32, term uint64) Claim {
	return Claim{Topic: "t", ID: topic, Partition: p, Term: term, Epoch: int32(term), InSync: []int32{1, 2}}
}

func leader(t *testing.T, tab *Table, p int32) int32 {
	t.Helper()
	c, ok := tab.Leader(topic, p)
	if !ok {
		return 0
	}
	return c.Node
}

// TestHighestTermWins: whatever comes late or twice.
func TestHighestTermWins(t *testing.T) {
	tab := New()
	tab.Update(1, []Claim{claim(0, 5), claim(1, 5)}, true)
	tab.Update(2, []Claim{claim(0, 6)}, false)
	tab.Update(1, []Claim{claim(0, 5)}, false) // late
	if got := leader(t, tab, 0); got != 2 {
		t.Errorf("node %d leads, want 2", got)
	}
	gone := claim(0, 5)
	gone.Gone = true
	tab.Update(1, []Claim{gone}, false)
	if got := leader(t, tab, 0); got != 2 {
		t.Errorf("node 1's resignation took the claim of node %d", got)
	}
	tab.Update(1, nil, true)
	if got := leader(t, tab, 1); got != 0 {
		t.Errorf("node %d leads what it no longer names", got)
	}
	gone.Term = 6
	tab.Update(2, []Claim{gone}, false)
	if got := leader(t, tab, 0); got != 0 {
		t.Errorf("node %d leads what it gave up", got)
	}
}

// TestClaimIsKept: a leader tells once what it leads. Told while another one's
// claim of the same or a higher term stands, it counts when that is taken back.
func TestClaimIsKept(t *testing.T) {
	for _, term := range []uint64{5, 6, 7} {
		tab := New()
		tab.Update(1, []Claim{claim(0, 6)}, true)
		tab.Update(2, []Claim{claim(0, term)}, false)
		if got, want := leader(t, tab, 0), map[bool]int32{true: 1, false: 2}[term < 6]; got != want {
			t.Errorf("term %d: node %d leads, want %d", term, got, want)
		}
		gone := claim(0, 6)
		gone.Gone = true
		tab.Update(1, []Claim{gone}, false)
		if got := leader(t, tab, 0); got != 2 {
			t.Errorf("term %d: node %d leads, want 2, which was not told again", term, got)
		}
		if n := tab.Counts(); n[1] != 0 || n[2] != 1 {
			t.Errorf("term %d: %v", term, n)
		}
		tab.Update(2, nil, true)
		if got := leader(t, tab, 0); got != 0 || len(tab.mu.claims) != 0 {
			t.Errorf("term %d: node %d leads, and %v is left", term, got, tab.mu.claims)
		}
	}
}

func TestChanges(t *testing.T) {
	before := map[Partition]Claim{{topic, 0}: claim(0, 1), {topic, 1}: claim(1, 1), {topic, 2}: claim(2, 1)}
	now := map[Partition]Claim{{topic, 0}: claim(0, 1), {topic, 1}: claim(1, 2), {topic, 3}: claim(3, 1)}
	got := Changes(before, now)
	gone := claim(2, 1)
	gone.Gone, gone.InSync = true, nil
	if want := []Claim{claim(1, 2), gone, claim(3, 1)}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Encode([]Claim{claim(0, 7), {Topic: "u", Gone: true}}, true))
	f.Add([]byte{1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		claims, whole, err := Decode(b)
		if err != nil {
			return
		}
		again, w, err := Decode(Encode(claims, whole))
		if err != nil || w != whole || !reflect.DeepEqual(again, claims) {
			t.Fatalf("%+v becomes %+v: %v", claims, again, err)
		}
	})
}
