package catalog

import (
	"bytes"
	"testing"
)

func FuzzDecodeCommand(f *testing.F) {
	for _, c := range []Command{
		SiteInit{Site: "east", SiteID: 1},
		RegisterNode{Name: "a", Site: "east", Kafka: "a:9092"},
		CreateTopic{Name: "clicks", ID: topicID(1), Partitions: 6, Replicas: 1, Config: map[string]string{"mirror.to": "west"}, Mirror: &Mirror{"west", "l", 1, MirrorActive}},
		DeleteTopic{"clicks"},
		AlterTopicConfig{Name: "clicks", Set: map[string]string{"retention.ms": "1"}, Remove: []string{"durability"}},
		CreatePartitions{Name: "clicks", Count: 7, Assignment: [][]int32{{1}}},
		AllocateProducerIDs{1000},
		SetJob{"lake", JobPaused},
		SetMirror{Name: "clicks"},
		CreateACLs{ACLs: []ACL{anACL("t")}},
		DeleteACLs{ACLs: []ACL{anACL("t")}},
		AlterScram{Delete: []ScramKey{{"u", 1}}, Set: []Scram{credential("v", ScramSHA512)}},
		AlterQuota{User: new(string), Set: map[string]float64{QuotaProduce: 1.5}, Remove: []string{QuotaFetch}},
		GrantLease{Task: "lake", Node: 1, Floor: 4},
		ReleaseLease{Task: "lake", Node: 1, Epoch: 5},
		AlterGroupConfig{Group: "g", Set: map[string]string{GroupShareReset: "earliest"}, Remove: []string{GroupShareLock}},
		SetConnector{Name: "lake", Config: map[string]string{"connector.class": "files-sink"}, New: true},
		DeleteConnector{"lake"},
		SiteInit{Site: "east", SiteID: 1, Cluster: "c", Founders: []Founder{{Name: "a", Nonce: "d", Peer: "a:1"}, {Name: "b"}}},
		RegisterNode{Name: "a", Site: "east", Nonce: "e", Wiped: true},
		RegisterNode{Name: "a", Site: "east", Node: 1, Incarnation: 1, Level: Level},
		AlterPartitionReassignments{[]Reassignment{{Topic: "t", Replicas: []int32{1, 2}, Was: []int32{1}, KeepFactor: true}, {Topic: "t", Partition: 1}}},
		CompleteMove{Topic: "t", Seq: 1, Members: []uint64{1, 1<<32 | 2}},
		DrainNode{Node: 1, Off: true},
		DecommissionNode{Node: 2, Cancel: true},
		ReplaceNode{Node: 2, With: 3},
		RemoveNode{Node: 2},
	} {
		b, err := Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{commandVersion, kindSiteInit, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Encode(c)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q decodes and encodes to %q: %v", b, again, err)
		}
		// Whatever decodes can be applied, and what comes of it can be kept.
		s, _, _ := New().Apply(SiteInit{Site: "east", SiteID: 1})
		for _, name := range []string{"a", "b", "c"} {
			s, _, _ = s.Apply(RegisterNode{Name: name, Site: "east"})
		}
		s, _, _ = s.Apply(CreateTopic{Name: "t", ID: topicID(1), Assignment: [][]int32{{1, 2}, {2}}})
		s, _, _ = s.Apply(AlterPartitionReassignments{[]Reassignment{{Topic: "t", Replicas: []int32{1, 3}}}})
		next, _, _ := s.Apply(c)
		kept, err := next.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeState(kept); err != nil {
			t.Fatalf("after %q the catalog does not decode: %v", b, err)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	s := New()
	for _, c := range []Command{
		SiteInit{Site: "east", SiteID: 1},
		RegisterNode{Name: "a", Site: "east"},
		CreateTopic{Name: "clicks", ID: topicID(1), Partitions: 2, Replicas: 1},
		SetJob{"lake", JobPaused},
		SetConnector{Name: "lake", Config: map[string]string{"topic": "clicks"}},
		RegisterNode{Name: "b", Site: "east", Nonce: "d"},
		AlterPartitionReassignments{[]Reassignment{{Topic: "clicks", Replicas: []int32{1, 2}}}},
		RegisterNode{Name: "b", Site: "east", Nonce: "e", Wiped: true},
		DecommissionNode{Node: 2},
	} {
		s, _, _ = s.Apply(c)
	}
	b, err := s.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{snapshotVersion, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q decodes and encodes to %q: %v", b, again, err)
		}
		s.Apply(CreateTopic{Name: "t", ID: topicID(9), Partitions: 1, Replicas: 1})
		s.PendingMoves(MoveLimits{}, nil)
		s.PlanLeaving()
		s.PlanInternal(3)
		s.PlanLevel(nil, 0)
		s.MetaMembers(nil, nil)
		s.MayLose()
	})
}
