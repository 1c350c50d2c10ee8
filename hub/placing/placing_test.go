package placing

import (
	"errors"
	"log/slog"
	"reflect"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/catalog/catalogtest"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/record"
)

// twoNodes is a site with two nodes, each with its placing, which have heard of
// each other. Both have connector log in their jobs files, node 1 with one task
// and node 2 with two; node 2 alone has own.
func twoNodes(t *testing.T) (catalogtest.Site, []*Placing) {
	t.Helper()
	s := catalogtest.New(t, catalog.SiteInit{Site: "s", SiteID: 1, Founders: []catalog.Founder{{Name: "a", Nonce: "x"}, {Name: "b", Nonce: "y"}}})
	files := []map[string]int{{"log": 1}, {"log": 2, "own": 1}}
	var all []*Placing
	for i, f := range files {
		all = append(all, New(Config{
			Node: int32(i + 1), Files: f, Parts: func(map[string]string) int { return 1 }, Most: 2, Catalog: s,
			Reach: reach.New(int32(i+1), nil, nil), Left: func(string) bool { return false }, Several: func() bool { return true }, Log: slog.New(slog.DiscardHandler),
		}))
	}
	for i, p := range all {
		if err := p.Heard(int32(2-i), all[1-i].Notice()); err != nil {
			t.Fatal(err)
		}
	}
	return s, all
}

// TestShares: nodes whose jobs files give a connector another number of tasks go
// by the highest, and each runs the tasks that it has the lease of.
func TestShares(t *testing.T) {
	s, nodes := twoNodes(t)
	for part, node := range []int32{2, 1} {
		s.Do(t, catalog.GrantLease{Task: catalog.TaskName("log", part, 2), Node: node})
	}
	names := []string{"log", "own"}
	for i, want := range []map[string]Share{{"log": {2, []int{1}}}, {"log": {2, []int{0}}}} {
		if got := nodes[i].Mine(names); !reflect.DeepEqual(got, want) {
			t.Errorf("node %d is to run %v, want %v", i+1, got, want)
		}
		if got, want := nodes[i].Holders("log"), []int32{int32(2 - i)}; !reflect.DeepEqual(got, want) {
			t.Errorf("beside node %d, %v have tasks, want %v", i+1, got, want)
		}
	}
	if at := nodes[0].Divided(s.State())["log"].At(s.State(), "log"); !reflect.DeepEqual(at, []int32{2, 1}) {
		t.Errorf("the tasks are at %v", at)
	}
	if _, here := nodes[0].Divided(s.State())["own"]; here {
		t.Error("node 1 could run what only node 2 has")
	}
	nodes[0].cfg.Several = func() bool { return false }
	if got, want := nodes[0].Mine(names), (map[string]Share{"log": {}, "own": {}}); !reflect.DeepEqual(got, want) {
		t.Errorf("a node alone is to run %v, want all", got)
	}
}

// TestLease: a node is granted the leases that it is to have, with one epoch for
// all of them above those before, and none of another node.
func TestLease(t *testing.T) {
	s, nodes := twoNodes(t)
	mine := Share{2, []int{0, 1}}
	for part := range 2 {
		s.Do(t, catalog.GrantLease{Task: catalog.TaskName("log", part, 2), Node: 1})
	}
	first, err := nodes[0].Lease(t.Context(), "log", mine, 0)
	if err != nil {
		t.Fatal(err)
	}
	second, err := nodes[0].Lease(t.Context(), "log", mine, 0)
	if err != nil || second <= first {
		t.Errorf("epoch %d after %d: %v", second, first, err)
	}
	if _, err := nodes[1].Lease(t.Context(), "log", mine, 0); !errors.Is(err, record.ErrInvalidRequest) {
		t.Errorf("another node's leases: %v", err)
	}
}
