package moves

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/catalog/catalogtest"
	"github.com/entrepot-hub/entrepot/hub/reach"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// TestDone: a move whose group is where it shall be is told to be done, by the
// node that leads the group, and no other group is touched: not that of an older
// topic of the name.
func TestDone(t *testing.T) { synctest.Test(t, done) }

func done(t *testing.T) {
	store, err := storage.Open(vfs.NewMem(), "data", storage.Config{Owner: "n"})
	if err != nil {
		t.Fatal(err)
	}
	set, err := replica.Open(replica.Config{Member: 1}, store)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, run := range []func(context.Context) error{store.Run, set.Run} {
		running.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
	s := catalogtest.New(t,
		catalog.SiteInit{Site: "s", SiteID: 1, Founders: []catalog.Founder{{Name: "a", Nonce: "x"}, {Name: "b", Nonce: "y"}}},
		catalog.CreateTopic{Name: "t", ID: record.TopicID{1}, Partitions: 1, Assignment: [][]int32{{1, 2}}},
		catalog.CreateTopic{Name: "new", ID: record.TopicID{2}, Partitions: 1, Assignment: [][]int32{{1, 2}}},
		catalog.AlterPartitionReassignments{Partitions: []catalog.Reassignment{{Topic: "t", Replicas: []int32{1}}, {Topic: "new", Replicas: []int32{1}}}},
	)
	for _, id := range []storage.LogID{{Topic: "t", ID: record.TopicID{1}}, {Topic: "new", ID: record.TopicID{9}}} {
		r, err := set.Add(replica.Spec{ID: id, Born: []uint64{1}, Alone: true})
		if err != nil {
			t.Fatal(err)
		}
		for {
			changed := r.Changed() // before the look, or it is waited for what has been
			if r.Serving() == nil {
				break
			}
			<-changed
		}
	}
	nodes := reach.New(1, nil, nil)
	nodes.Set(2, true)
	m := New(set, s, nodes, slog.New(slog.DiscardHandler))
	if n := len(m.Pending()); n != 2 {
		t.Fatalf("%d moves are pending, want 2", n)
	}
	m.step(t.Context())
	if at, ok := m.Status()[storage.LogID{Topic: "t", ID: record.TopicID{1}}]; !ok || !at.Done || len(m.Status()) != 1 {
		t.Errorf("%+v", m.Status())
	}
	var left []string
	for _, p := range m.Pending() {
		left = append(left, p.Topic.Name)
	}
	if !slices.Equal(left, []string{"new"}) {
		t.Errorf("pending are %v, want the one whose replica is of an older topic", left)
	}
	m.step(t.Context())
	if len(m.Status()) != 0 {
		t.Errorf("what is done is still shown: %+v", m.Status())
	}
	cancel()
	running.Wait()
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}
