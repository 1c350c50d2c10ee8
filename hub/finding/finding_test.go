package finding

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/catalog/catalogtest"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/mesh"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/mirror"
)

// TestFinding: a node is where gossip shows it alive, else where it registered,
// else where it was when the site began; one that gossip loses is told once, and
// other sites are told with those of their nodes that have not left.
func TestFinding(t *testing.T) {
	m := catalogtest.New(t)
	founders := []identity.Founder{{ID: 1, Name: "a", Peer: "a:1", Nonce: "x"}, {ID: 2, Name: "b", Peer: "b:1", Nonce: "y"}}
	var nodes map[int32]peer.Node
	var failed []int32
	var sites []mirror.Source
	f := New("s")
	f.Changed([]mesh.Member{{ID: "b", Site: "s", Status: mesh.StatusLeaving}})
	if !f.Left("b") || f.Left("a") || len(f.Gossip()) != 1 {
		t.Errorf("before the node is of a site: %+v", f.Gossip())
	}
	f.Begin(Parts{
		Self: identity.Node{ID: 1, Founders: founders}, Catalog: m,
		Nodes:  func(all map[int32]peer.Node) { nodes = all },
		Failed: func(node int32) { failed = append(failed, node) },
		Sites:  func(all []mirror.Source) { sites = all },
	})
	wants := func(what string, want map[int32]peer.Node) {
		t.Helper()
		if !maps.Equal(nodes, want) {
			t.Errorf("%s: %v, want %v", what, nodes, want)
		}
	}
	f.Changed(nil)
	wants("as the site began", map[int32]peer.Node{2: {Addr: "b:1"}})
	m.Do(t, catalog.SiteInit{Site: "s", SiteID: 1, Founders: []catalog.Founder{{Name: "a", Nonce: "x", Peer: "a:1"}, {Name: "b", Nonce: "y", Peer: "b:1"}}})
	m.Do(t, catalog.RegisterNode{Name: "b", Site: "s", Nonce: "z", Wiped: true, Peer: "b:2", Level: catalog.Level})
	f.Changed([]mesh.Member{
		{ID: "w", Site: "west", Kafka: "w:9", Status: mesh.StatusFailed}, {ID: "v", Site: "west", Kafka: "v:9", Status: mesh.StatusLeft},
		{ID: "b", Site: "s", Peer: "b:9", Status: mesh.StatusFailed},
	})
	wants("as it has registered", map[int32]peer.Node{2: {Addr: "b:2", Incarnation: 1}})
	if want := []mirror.Source{{Site: "west", Brokers: []string{"w:9"}}}; !reflect.DeepEqual(sites, want) {
		t.Errorf("sites %+v, want %+v", sites, want)
	}
	f.Changed([]mesh.Member{{ID: "b", Site: "s", Peer: "b:9", Status: mesh.StatusFailed}})
	if !slices.Equal(failed, []int32{2}) {
		t.Errorf("failed are %v, want node 2 once", failed)
	}
	f.Changed([]mesh.Member{{ID: "b", Site: "s", Peer: "b:3", Status: mesh.StatusAlive}, {ID: "b", Site: "t", Peer: "t:1", Status: mesh.StatusAlive}})
	wants("as gossip has it", map[int32]peer.Node{2: {Addr: "b:3", Incarnation: 1}})
	f.Changed([]mesh.Member{{ID: "b", Site: "s", Status: mesh.StatusFailed}})
	if !slices.Equal(failed, []int32{2, 2}) {
		t.Errorf("failed are %v, want node 2 again", failed)
	}
}

// TestSitesBeforeASite: a node that finds other sites before it belongs to one
// itself has links to them as soon as it does, though gossip has no news then.
func TestSitesBeforeASite(t *testing.T) {
	f := New("s")
	f.Changed([]mesh.Member{{ID: "w", Site: "west", Kafka: "w:9", Status: mesh.StatusAlive}})
	var sites []mirror.Source
	f.Begin(Parts{
		Self: identity.Node{ID: 1}, Catalog: catalog.NewMachine(),
		Nodes: func(map[int32]peer.Node) {}, Sites: func(all []mirror.Source) { sites = all },
	})
	ended, end := context.WithCancel(t.Context())
	end()
	if err := f.Run(ended); err != nil {
		t.Fatal(err)
	}
	if want := []mirror.Source{{Site: "west", Brokers: []string{"w:9"}}}; !reflect.DeepEqual(sites, want) {
		t.Errorf("sites %+v, want %+v", sites, want)
	}
}
