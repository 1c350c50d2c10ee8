package hub

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/identity"
	"github.com/entrepot-hub/entrepot/hub/leaders"
	"github.com/entrepot-hub/entrepot/hub/meta"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// TestReplicaOfAnOlderTopic: a node that has heard that a topic was made anew, and
// has not yet removed the replica of the one before, neither serves that one nor
// names its leader.
func TestReplicaOfAnOlderTopic(t *testing.T) {
	set, stop := replicas(t, t.TempDir())
	defer stop()
	older, newer := record.TopicID{1}, record.TopicID{2}
	r, err := set.Add(replica.Spec{ID: storage.LogID{Topic: "t", ID: older}, Born: []uint64{1}, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return r.Serving() == nil })
	h := &Hub{set: set, leaders: leaders.New(), id: identity.Node{ID: 1}}
	h.meta, err = meta.Open(set, meta.Config{
		Born: []uint64{1}, Alone: true,
		Applied: func(context.Context) error { return nil }, Leader: func() int32 { return 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	do := func(cmd catalog.Command) {
		t.Helper()
		if _, err := h.meta.Propose(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
	}
	do(catalog.SiteInit{Site: "s", SiteID: 1, Founders: []catalog.Founder{{Name: "a"}, {Name: "b"}}})
	do(catalog.CreateTopic{Name: "t", ID: older, Partitions: 1, Replicas: 2})
	p := partitions{h}
	if _, err := p.Partition("t", 0); err != nil {
		t.Errorf("the topic as the replica has it: %v", err)
	}
	do(catalog.DeleteTopic{Name: "t"})
	do(catalog.CreateTopic{Name: "t", ID: newer, Partitions: 1, Replicas: 2})
	if _, err := p.Partition("t", 0); !errors.Is(err, record.ErrNotLeader) {
		t.Errorf("made anew: %v, want that it is not led here", err)
	}
	if _, err := p.Follower("t", 0); !errors.Is(err, record.ErrNotLeader) {
		t.Errorf("made anew, to follow: %v", err)
	}
	if node, _ := p.Leader("t", 0); node != -1 {
		t.Errorf("made anew, and led by %d", node)
	}
	h.leaders.Update(2, []leaders.Claim{{Topic: "t", ID: newer, Term: 1, InSync: []int32{2}}}, false)
	if node, _ := p.Leader("t", 0); node != 2 || !slices.Equal(p.InSync("t", 0), []int32{2}) {
		t.Errorf("made anew, led by %d, in sync %v, want 2", node, p.InSync("t", 0))
	}
}

// replicas opens a data directory, with what runs there until stop.
func replicas(t *testing.T, dir string) (set *replica.Set, stop func()) {
	t.Helper()
	store, err := storage.Open(vfs.OS(), dir, storage.Config{Owner: "n1"})
	if err != nil {
		t.Fatal(err)
	}
	if set, err = replica.Open(replica.Config{Member: 1}, store); err != nil {
		t.Fatal(err)
	}
	logs := newLayer(func(error) {})
	logs.run("storage", store.Run)
	logs.run("replicas", set.Run)
	return set, func() {
		logs.stop()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}
}
