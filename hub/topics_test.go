package hub

import (
	"testing"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// TestAlike: what concerns no partition of this node is not looked at again; all
// that does is.
func TestAlike(t *testing.T) {
	m, topics := catalog.NewMachine(), topics{self: 1}
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
		b, err := catalog.Encode(step.cmd)
		if err != nil {
			t.Fatal(err)
		}
		switch out := m.Apply(0, b).(catalog.Result); {
		case out.Err != nil:
			t.Fatalf("%T: %v", step.cmd, out.Err)
		case m.State() == before:
			t.Fatalf("%T changes nothing", step.cmd)
		}
		if got := topics.alike(m.State(), before); got != step.alike {
			t.Errorf("%T: alike is %v, want %v", step.cmd, got, step.alike)
		}
	}
}
