package hub

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/entry"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/peer"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// TestFollowNodes: a node that the catalog takes in is connected with though
// gossip has no news, and let go of when the catalog takes it out.
func TestFollowNodes(t *testing.T) {
	h, stop := start(t, config(t, "solo"), Deps{})
	defer stop()
	known := func() bool {
		return slices.ContainsFunc(h.peers.Stats(), func(s peer.Stat) bool { return s.Node == 2 })
	}
	out, err := h.meta.Propose(t.Context(), catalog.RegisterNode{Name: "solo-2", Site: "solo", Nonce: "n", Peer: "127.0.0.1:1", Level: catalog.Level})
	if err != nil || out != (catalog.Registered{ID: 2}) {
		t.Fatal(out, err)
	}
	until(t, known)
	for _, cmd := range []catalog.Command{catalog.DecommissionNode{Node: 2}, catalog.RemoveNode{Node: 2}} {
		if _, err := h.meta.Propose(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool { return !known() })
}

// TestGrownBeginsNoSecondSite: a node that began its site alone, and has taken
// another one in, does not begin a catalog of its own when the folder of the one
// that it had is taken away; not even when nothing but its identity is left.
func TestGrownBeginsNoSecondSite(t *testing.T) {
	for _, grown := range []string{"by this version", "by one that left no mark"} {
		c := config(t, "solo")
		h, stop := start(t, c, Deps{})
		cluster := h.id.Cluster
		body, err := json.Marshal(catalog.RegisterNode{Name: "solo-2", Site: "solo", Nonce: "n", Peer: "127.0.0.1:1", Level: catalog.Level})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (peerHandler{h}).Call(t.Context(), peer.Peer{Identity: peer.Identity{Name: "solo-2"}}, entry.MethodJoin, body); err != nil {
			t.Fatal(err)
		}
		stop()
		if grown == "by one that left no mark" {
			id, _, err := identity.Read(vfs.OS(), c.Node.DataDir)
			id.Grown = false
			if err := errors.Join(err, identity.Write(vfs.OS(), c.Node.DataDir, id)); err != nil {
				t.Fatal(err)
			}
			_, stop = start(t, c, Deps{}) // and it is marked now
			stop()
		}
		for _, lost := range [][]string{{catalog.MetaGroup + "-0"}, {catalog.MetaGroup + "-0", "known"}} {
			for _, name := range lost {
				if err := os.RemoveAll(filepath.Join(c.Node.DataDir, name)); err != nil {
					t.Fatal(err)
				}
			}
			h, stop = launch(t, c, Deps{})
			group, _ := h.set.Get(record.TopicPartition{Topic: catalog.MetaGroup})
			st := group.Status()
			if st.Quarantined != (len(lost) == 1) || st.Role == replica.RoleLeader || h.ready.Load() == nil || h.id.Cluster != cluster {
				t.Errorf("grown %s, %s is gone: %+v", grown, lost, st)
			}
			if _, err := group.Propose(t.Context(), nil); err == nil {
				t.Errorf("grown %s, %s is gone: it has a catalog of its own", grown, lost)
			}
			stop()
		}
	}
}

// TestOldDirectory: a data directory from before nodes had identities goes on as
// broker 1 of a site of one, with the cluster ID that its clients know; under
// another name it is refused and left as it was.
func TestOldDirectory(t *testing.T) {
	const oldCluster = "4f5t7DuwB1c8FAL3uAYy2g" // of site solo, since before there were identities
	c := config(t, "solo")
	oldDirectory(t, c)
	other := c
	other.Node.ID = "solo-2"
	h, err := Open(t.Context(), other, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "belongs to another node") {
		t.Errorf("another name: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.Node.DataDir, identity.File)); !os.IsNotExist(err) {
		t.Errorf("the name that was refused is written down: %v", err)
	}
	for range 2 { // the second start finds the identity
		h, stop := start(t, c, Deps{})
		if h.id.ID != 1 || h.id.Incarnation != 0 || h.id.Cluster != oldCluster {
			t.Errorf("%+v", h.id)
		}
		if !h.Has("old") || h.Offsets("old", 0).HighWatermark != 0 {
			t.Error("the topic is not there")
		}
		stop()
	}
}

// oldDirectory writes the catalog that a node of a site of one had.
func oldDirectory(t *testing.T, c Config) {
	t.Helper()
	set, stop := replicas(t, c.Node.DataDir)
	group, err := set.Add(replica.Spec{ID: storage.LogID{Topic: catalog.MetaGroup}, Born: []uint64{1}, Alone: true, Machine: catalog.NewMachine()})
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return group.Serving() == nil })
	for _, cmd := range []catalog.Command{
		catalog.SiteInit{Site: "solo", SiteID: c.siteID()}, catalog.RegisterNode{Name: "solo-1", Site: "solo", Kafka: "x:1"},
		catalog.CreateTopic{Name: "old", ID: record.TopicID{7}, Partitions: 1, Replicas: 1},
	} {
		b, err := catalog.Encode(cmd)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := group.Propose(t.Context(), b); err != nil || out.(catalog.Result).Err != nil {
			t.Fatal(out, err)
		}
	}
	stop()
}
