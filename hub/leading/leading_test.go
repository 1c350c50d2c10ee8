package leading

import (
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/catalog/catalogtest"
	"github.com/entrepot-hub/entrepot/hub/reach"
)

// TestEndingNodeIsNotToLead: a node that says that it ends is given nothing to
// lead, though it can be reached, until it comes back.
func TestEndingNodeIsNotToLead(t *testing.T) {
	m := catalogtest.New(t, catalog.SiteInit{Site: "s", SiteID: 1}, catalog.RegisterNode{Name: "a", Site: "s"}, catalog.RegisterNode{Name: "b", Site: "s"})
	nodes := reach.New(1, nil, nil)
	well := func(what string, want ...bool) {
		t.Helper()
		var got []bool
		for _, v := range NewTransfers(Config{Node: 1, Reach: nodes}).views(m.State()) {
			got = append(got, v.Well)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v are well, want %v", what, got, want)
		}
	}
	well("not connected", true, false)
	nodes.Set(2, true)
	well("connected", true, true)
	nodes.Ends(2)
	well("about to end", true, false)
	if !nodes.Up(2) {
		t.Error("it cannot be reached any more")
	}
	nodes.Set(2, true) // before it was noticed that the connection of the old one was gone
	well("started again", true, true)
}
