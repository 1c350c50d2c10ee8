package leading

import (
	"slices"
	"testing"
)

// TestConnectedAnew: a node that was connected with anew while it was told
// everything is told everything again, as is one that could not be told.
func TestConnectedAnew(t *testing.T) {
	a := NewAnnouncer(Config{})
	wants := func(what string, want bool) {
		t.Helper()
		if whole, _ := a.due(); slices.Contains(whole, 2) != want {
			t.Errorf("%s: %v want everything", what, whole)
		}
	}
	a.Link(2, true)
	wants("connected", true)
	a.Link(2, false)
	a.Link(2, true)
	a.told(2, true)
	wants("connected anew", true)
	a.told(2, true)
	wants("told", false)
	a.told(2, false)
	wants("not told", true)
	a.Link(2, false)
	a.told(2, false)
	wants("gone", false)
}
