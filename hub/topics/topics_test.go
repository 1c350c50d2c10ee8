package topics

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/catalog/catalogtest"
	"github.com/entrepot-hub/entrepot/hub/replica"
	"github.com/entrepot-hub/entrepot/record"
	"github.com/entrepot-hub/entrepot/storage"
	"github.com/entrepot-hub/entrepot/storage/vfs"
)

// TestAlike: what concerns no partition of this node is not looked at again; all
// that does is.
func TestAlike(t *testing.T) {
	m, topics := catalogtest.New(t), Topics{self: 1}
	for _, step := range []struct {
		cmd   catalog.Command
		alike bool
	}{
		{catalog.SiteInit{Site: "s", SiteID: 1, Founders: []catalog.Founder{{Name: "a", Nonce: "x"}, {Name: "b", Nonce: "y"}}}, false},
		{catalog.CreateTopic{Name: "t", ID: record.TopicID{1}, Partitions: 2, Assignment: [][]int32{{1}, {1}}}, false},
		{catalog.AllocateProducerIDs{Count: 1}, true},
		{catalog.SetJob{Name: "j", Desired: catalog.JobPaused}, true},
		{catalog.AlterTopicConfig{Name: "t", Set: map[string]string{"retention.ms": "1000"}}, false},
		{catalog.CreatePartitions{Name: "t", Count: 3}, false},
		{catalog.AlterPartitionReassignments{Partitions: []catalog.Reassignment{{Topic: "t", Replicas: []int32{2}}}}, false},
		{catalog.CompleteMove{Topic: "t", Seq: 1, Members: []uint64{2}}, false},
		{catalog.RegisterNode{Name: "b", Site: "s", Nonce: "z", Wiped: true, Level: catalog.Level}, false}, // with what moves to its new member
		{catalog.DeleteTopic{Name: "t"}, false},
		{catalog.DrainNode{Node: 2}, true},
		{catalog.RegisterNode{Name: "a", Site: "s", Nonce: "z", Wiped: true, Level: catalog.Level}, false}, // this one has a successor
		{catalog.CreateTopic{Name: "t", ID: record.TopicID{2}, Partitions: 1, Replicas: 1}, false},
	} {
		before := m.State()
		if m.Do(t, step.cmd); m.State() == before {
			t.Fatalf("%T changes nothing", step.cmd)
		}
		if got := topics.alike(m.State(), before); got != step.alike {
			t.Errorf("%T: alike is %v, want %v", step.cmd, got, step.alike)
		}
	}
}

// TestFollowWaitsAside: while a partition that was opened does not serve, as with
// a disk that hangs, who waits for it keeps nobody from following other changes.
func TestFollowWaitsAside(t *testing.T) { synctest.Test(t, followWaitsAside) }

func followWaitsAside(t *testing.T) {
	store, err := storage.Open(vfs.NewMem(), "data", storage.Config{Owner: "n"})
	if err != nil {
		t.Fatal(err)
	}
	set, err := replica.Open(replica.Config{Member: 1}, store) // nothing runs it: no group finds its leader
	if err != nil {
		t.Fatal(err)
	}
	m := catalogtest.New(t)
	var logged bytes.Buffer
	topics := New(1, set, m, slog.New(slog.NewTextHandler(&logged, nil)))
	topics.Open(t.Context(), nil)
	m.Do(t, catalog.SiteInit{Site: "s", SiteID: 1, Founders: []catalog.Founder{{Name: "a", Nonce: "x"}}})
	m.Do(t, catalog.CreateTopic{Name: "hangs", ID: record.TopicID{1}, Partitions: 1, Assignment: [][]int32{{1}}})
	waited := make(chan error)
	go func() { waited <- topics.Follow(t.Context()) }()
	synctest.Wait()
	if !topics.turn.TryLock() {
		t.Fatal("who waits for a partition keeps the lock meanwhile")
	}
	topics.turn.Unlock()
	m.Do(t, catalog.DeleteTopic{Name: "hangs"})
	if err := topics.align(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	// It waited until the replica went, not until its time was over.
	if logged.Len() > 0 {
		t.Errorf("logged: %s", logged.String())
	}

	m.Do(t, catalog.CreateTopic{Name: "hangs", ID: record.TopicID{2}, Partitions: 3, Assignment: [][]int32{{1}, {1}, {1}}})
	began := time.Now()
	if err := topics.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took != leaderTime || strings.Count(logged.String(), "does not serve") != 3 {
		t.Errorf("waited for %s, want %s for all three; logged: %s", took, leaderTime, logged.String())
	}
	if topics.await(t.Context()); time.Since(began) != leaderTime {
		t.Errorf("waited again")
	}
}
