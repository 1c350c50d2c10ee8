package identity

import (
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/storage/vfs"
)

func sample(id int32) Node {
	n := New(NewCluster(), "fra", "fra-1", id, []Founder{{ID: 1, Name: "fra-1", Peer: "a:1"}, {ID: 2, Name: "fra-2", Peer: "b:1"}})
	n.Incarnation, n.Nonce = 2, "x"
	return n
}

func equal(a, b Node) bool {
	same := slices.Equal(a.Founders, b.Founders)
	a.Founders, b.Founders = nil, nil
	return same && a.Version == b.Version && a.Cluster == b.Cluster && a.Site == b.Site && a.Name == b.Name && a.ID == b.ID && a.Incarnation == b.Incarnation
}

// TestPowerCut: after a cut at any moment the directory has no identity, or the
// whole one, and the whole one when Write has returned.
func TestPowerCut(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		mem := vfs.NewMem()
		if err := mem.Mkdir("d"); err != nil {
			t.Fatal(err)
		}
		if err := mem.SyncFS("d"); err != nil {
			t.Fatal(err)
		}
		want := sample(1)
		mem.CutAfter(1+rng.IntN(8), rng)
		done := Write(mem, "d", want) == nil
		got, ok, err := Read(mem.CrashClone(rng), "d")
		switch {
		case err != nil:
			t.Fatalf("seed %d: %v", seed, err)
		case ok && !equal(got, want), done && !ok:
			t.Fatalf("seed %d: written %v, found %v %+v", seed, done, ok, got)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, change := range map[string]func(*Node){
		"version": func(n *Node) { n.Version = 2 }, "cluster": func(n *Node) { n.Cluster = "" },
		"id": func(n *Node) { n.ID = 0 }, "founders": func(n *Node) { n.Founders = nil },
		"order": func(n *Node) { slices.Reverse(n.Founders) },
	} {
		n := sample(1)
		change(&n)
		if n.Check() == nil {
			t.Errorf("%s: %+v is taken", name, n)
		}
	}
	if err := sample(1).Matches("fra", "fra-2"); err == nil || !strings.Contains(err.Error(), "belongs to node fra-1") {
		t.Errorf("another node's directory: %v", err)
	}
	mem := vfs.NewMem()
	_ = mem.Mkdir("d")
	for _, text := range []string{"", "{", `{"version":1,"color":"red"}`} {
		_ = mem.Remove(path.Join("d", File))
		if err := WriteFile(mem, "d", File, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := Read(mem, "d"); ok || err == nil {
			t.Errorf("%q is read", text)
		}
	}
}

// TestSeveral: a node that is not sure to be alone at its site must not begin a
// catalog of its own.
func TestSeveral(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*Node)
		want   bool
	}{
		{"it began the site alone", func(*Node) {}, false},
		{"and has taken in others", func(n *Node) { n.Grown = true }, true},
		{"was wiped, and taken in by those", func(n *Node) { n.Incarnation = 1 }, true},
		{"it joined", func(n *Node) { n.ID = 2 }, true},
		{"it began the site with another", func(n *Node) { n.Founders = append(n.Founders, Founder{ID: 2, Name: "fra-2"}) }, true},
	} {
		n := New(NewCluster(), "fra", "fra-1", 1, []Founder{{ID: 1, Name: "fra-1"}})
		c.change(&n)
		if got := n.Several(); got != c.want {
			t.Errorf("%s: several is %v", c.what, got)
		}
	}
}
