package protocol

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// nextGen is quick with heartbeats that make tests short.
func nextGen() Config {
	c := quick()
	c.Group.Consumer.Interval = 50 * time.Millisecond
	return c
}

func describeConsumers(t *testing.T, s *site, id string) kmsg.ConsumerGroupDescribeResponseGroup {
	t.Helper()
	return ask[*kmsg.ConsumerGroupDescribeResponse](s.dial(t), &kmsg.ConsumerGroupDescribeRequest{Version: 1, Groups: []string{id}}).Groups[0]
}

// owners is the number of members with partitions of a stable consumer group
// in which each of n partitions belongs to one member.
func owners(t *testing.T, s *site, id string, n int) (members int) {
	g := describeConsumers(t, s, id)
	owned := map[int32]int{}
	for _, m := range g.Members {
		for _, topic := range m.Assignment.TopicPartitions {
			members++
			for _, p := range topic.Partitions {
				owned[p]++
			}
		}
	}
	for _, by := range owned {
		if by != 1 {
			t.Errorf("a partition has %d owners", by)
		}
	}
	if g.State != "Stable" || len(owned) != n {
		return 0
	}
	return members
}

func TestConsumerGroupsRebalance(t *testing.T) {
	for name, balancer := range map[string]kgo.GroupBalancer{"range": kgo.RangeBalancer(), "uniform": kgo.StickyBalancer()} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, nextGen())
			s.topic(t, "work", 6)
			produceN(t, s, "work", 0, 100)
			ms := &members{seen: map[string]int{}}
			var clients []*kgo.Client
			for i := range 3 {
				clients = append(clients, ms.run(t, s, "work", "g", kgo.ServerSideBalancer(), kgo.Balancers(balancer)))
				produceN(t, s, "work", 100*(i+1), 100)
			}
			eventually(t, "all records are seen", func() bool { return ms.count() == 400 })
			eventually(t, "three members share the partitions", func() bool { return owners(t, s, "g", 6) == 3 })
			if got := describeConsumers(t, s, "g").AssignorName; got != name {
				t.Errorf("the assignor is %s, want %s", got, name)
			}
			clients[0].Close() // leaves
			eventually(t, "two members share the partitions", func() bool { return owners(t, s, "g", 6) == 2 })
			produceN(t, s, "work", 400, 100)
			eventually(t, "the others go on", func() bool { return ms.count() == 500 })
			clients[1].Close()
			clients[2].Close()
			ms.wg.Wait()
			eventually(t, "the group is empty", func() bool { return describeConsumers(t, s, "g").State == "Empty" })
			offsets, err := s.admin(t).FetchOffsets(testContext(t), "g")
			if err != nil {
				t.Fatal(err)
			}
			sum := int64(0)
			offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
			if sum != 500 {
				t.Errorf("the committed offsets sum to %d, want 500", sum)
			}
		})
	}
}

// A topic that grows is read from its new partitions, and one that an
// expression matches from its creation on.
func TestConsumerGroupFollowsItsTopics(t *testing.T) {
	s := startSite(t, nextGen())
	s.topic(t, "log-1", 1)
	ms := &members{seen: map[string]int{}}
	cl := ms.run(t, s, "log-.*", "g", kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()), kgo.ConsumeRegex(), kgo.MetadataMinAge(50*time.Millisecond), kgo.MetadataMaxAge(200*time.Millisecond))
	produceN(t, s, "log-1", 0, 10)
	eventually(t, "the first topic is read", func() bool { return ms.count() == 10 })
	s.topic(t, "log-2", 2)
	produceN(t, s, "log-2", 10, 10)
	eventually(t, "the second topic is read", func() bool { return ms.count() == 20 })
	cl.Close()
	ms.wg.Wait()
}

// After a change of leadership the members go on with their epochs and
// partitions, without joining again.
func TestConsumerGroupSurvivesALoad(t *testing.T) {
	s := startSite(t, nextGen())
	s.topic(t, "work", 6)
	produceN(t, s, "work", 0, 60)
	ms := &members{seen: map[string]int{}}
	var clients []*kgo.Client
	for range 2 {
		clients = append(clients, ms.run(t, s, "work", "g", kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())))
	}
	eventually(t, "two members", func() bool { return owners(t, s, "g", 6) == 2 })
	before := describeConsumers(t, s, "g")
	for p := range int32(3) {
		s.memLog(t, catalog.OffsetsTopic, p).newEpoch()
	}
	if after := describeConsumers(t, s, "g"); !reflect.DeepEqual(before, after) {
		t.Errorf("after the load the group is\n%+v, it was\n%+v", after, before)
	}
	produceN(t, s, "work", 60, 60)
	eventually(t, "the members go on", func() bool { return ms.count() == 120 })
	if after := describeConsumers(t, s, "g"); after.Epoch != before.Epoch {
		t.Errorf("the epoch is %d, it was %d", after.Epoch, before.Epoch)
	}
	for _, cl := range clients {
		cl.Close()
	}
	ms.wg.Wait()
}

func TestGroupsOfBothProtocolsSideBySide(t *testing.T) {
	s := startSite(t, nextGen())
	s.topic(t, "work", 2)
	c := s.dial(t)
	hb := func(group, member string, epoch int32) *kmsg.ConsumerGroupHeartbeatResponse {
		r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		r.Version, r.Group, r.MemberID, r.MemberEpoch, r.RebalanceTimeoutMillis = 1, group, member, epoch, 5000
		r.SubscribedTopicNames, r.Topics = []string{"work"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		return ask[*kmsg.ConsumerGroupHeartbeatResponse](c, r)
	}
	if got := hb("new", "m", 0); got.ErrorCode != 0 || got.MemberEpoch != 1 || len(got.Assignment.Topics[0].Partitions) != 2 {
		t.Fatalf("join: %+v", got)
	}
	j := ask[*kmsg.JoinGroupResponse](c, joinRequest("old", ""))
	ask[*kmsg.SyncGroupResponse](c, &kmsg.SyncGroupRequest{Version: 5, Group: "old", MemberID: j.MemberID, Generation: j.Generation})
	wantCode(t, "a classic member in a consumer group", ask[*kmsg.JoinGroupResponse](c, joinRequest("new", "")).ErrorCode, kerr.InconsistentGroupProtocol)
	wantCode(t, "a consumer member in a classic group", hb("old", "m", 0).ErrorCode, kerr.GroupIDNotFound)
	wantCode(t, "a classic group as a consumer group", describeConsumers(t, s, "old").ErrorCode, kerr.GroupIDNotFound)
	wantCode(t, "no group", describeConsumers(t, s, "none").ErrorCode, kerr.GroupIDNotFound)
	if g := describe(t, s, "new"); g.State != "Dead" {
		t.Errorf("a consumer group as a classic one: %+v", g)
	}
	for _, want := range []struct {
		types  []string
		groups []string
	}{{nil, []string{"new", "old"}}, {[]string{"Consumer"}, []string{"new"}}, {[]string{"classic"}, []string{"old"}}} {
		got, err := s.admin(t).ListGroupsByType(testContext(t), want.types)
		if err != nil || !slices.Equal(got.Groups(), want.groups) {
			t.Errorf("%v: %v, %v, want %v", want.types, got.Groups(), err, want.groups)
		}
	}
	del := func(id string) int16 {
		return ask[*kmsg.DeleteGroupsResponse](c, &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{id}}).Groups[0].ErrorCode
	}
	wantCode(t, "delete a busy group", del("new"), kerr.NonEmptyGroup)
	hb("new", "m", -1)
	wantCode(t, "delete an empty group", del("new"), nil)
	wantCode(t, "delete it again", del("new"), kerr.GroupIDNotFound)
}

// Every record of a consumer group comes back from its bytes as it was.
func TestGroupEntriesComeBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	assignment := func() group.Assignment {
		a := group.Assignment{}
		for range rng.IntN(4) {
			var id record.TopicID
			id[0], id[15] = byte(rng.IntN(256)), byte(rng.IntN(256))
			for p := range int32(1 + rng.IntN(5)) {
				a[id] = append(a[id], p*3)
			}
		}
		return a
	}
	word := func() string { return []string{"", "a", "some.topic", "ünï"}[rng.IntN(4)] }
	for range 500 {
		for _, e := range []group.Entry{
			{Key: group.EntryKey{Kind: group.GroupEntry}, Value: group.GroupEpoch{Epoch: rng.Int32(), Hash: int64(rng.Uint64())}},
			{Key: group.EntryKey{Kind: group.MemberEntry, Name: "m"}, Value: group.ConsumerMember{
				Instance: word(), Rack: word(), ClientID: word(), ClientHost: word(), Topics: []string{word(), word()}, Regex: word(),
				Rebalance: time.Duration(rng.IntN(1e6)) * time.Millisecond, Assignor: word(),
			}},
			{Key: group.EntryKey{Kind: group.MemberEntry, Name: "c"}, Value: group.ConsumerMember{
				ClientID: word(), Topics: []string{word()}, Classic: &group.ClassicMember{
					Session: time.Duration(rng.IntN(1e6)) * time.Millisecond, Protocols: []group.Protocol{{Name: word(), Metadata: []byte(word())}, {Name: "b", Metadata: []byte{}}},
				},
			}},
			{Key: group.EntryKey{Kind: group.TargetEpochEntry}, Value: group.TargetEpoch{Epoch: rng.Int32()}},
			{Key: group.EntryKey{Kind: group.TargetEntry, Name: "m"}, Value: group.Target{Assignment: assignment()}},
			{Key: group.EntryKey{Kind: group.CurrentEntry, Name: "m"}, Value: group.Current{
				Epoch: rng.Int32(), Previous: -1, State: group.Unreleased, Assigned: assignment(), Revoking: assignment(),
			}},
			{Key: group.EntryKey{Kind: group.RegexEntry, Name: "a.*"}, Value: group.Resolved{Topics: []string{"a"}, Version: 7, At: int64(rng.Uint64())}},
		} {
			groups := map[string]*keptGroup{}
			if err := readGroupRecord(groups, record.NoProducer, record.Record{Key: entryKey("g", e.Key), Value: entryValue(e.Value)}); err != nil {
				t.Fatal(err)
			}
			if got := groups["g"].entries[e.Key]; !reflect.DeepEqual(got, e.Value) {
				t.Fatalf("got %+v, want %+v", got, e.Value)
			}
			if err := readGroupRecord(groups, record.NoProducer, record.Record{Key: entryKey("g", e.Key)}); err != nil || len(groups["g"].entries) != 0 {
				t.Fatalf("a tombstone leaves %v: %v", groups["g"].entries, err)
			}
		}
	}
}

// The bytes are those of Kafka's schemas.
func TestGroupEntriesAreKafkas(t *testing.T) {
	id := record.TopicID{0xaa, 15: 0xbb}
	for _, c := range []struct {
		e          group.Entry
		key, value string
	}{
		{
			group.Entry{Key: group.EntryKey{Kind: group.GroupEntry}, Value: group.GroupEpoch{Epoch: 5, Hash: 258}},
			"\x00\x03\x00\x01g", "\x00\x00\x00\x00\x00\x05\x01\x00\x08\x00\x00\x00\x00\x00\x00\x01\x02",
		},
		{
			group.Entry{Key: group.EntryKey{Kind: group.MemberEntry, Name: "m"}, Value: group.ConsumerMember{ClientID: "c", ClientHost: "/h", Topics: []string{"t"}, Rebalance: time.Second, Assignor: "range"}},
			"\x00\x05\x00\x01g\x00\x01m", "\x00\x00\x00\x00\x02c\x03/h\x02\x02t\x00\x00\x00\x03\xe8\x06range\x00",
		},
		{
			group.Entry{Key: group.EntryKey{Kind: group.MemberEntry, Name: "m"}, Value: group.ConsumerMember{
				ClientID: "c", ClientHost: "/h", Topics: []string{"t"}, Rebalance: time.Second,
				Classic: &group.ClassicMember{Session: 2 * time.Second, Protocols: []group.Protocol{{Name: "range", Metadata: []byte{1, 2}}}},
			}},
			"\x00\x05\x00\x01g\x00\x01m", "\x00\x00\x00\x00\x02c\x03/h\x02\x02t\x00\x00\x00\x03\xe8\x00" +
				"\x01\x00\x11\x01\x00\x00\x07\xd0\x02\x06range\x03\x01\x02\x00\x00",
		},
		{
			group.Entry{Key: group.EntryKey{Kind: group.CurrentEntry, Name: "m"}, Value: group.Current{Epoch: 2, Previous: 1, State: group.Unrevoked, Assigned: group.Assignment{id: {1, 2}}}},
			"\x00\x08\x00\x01g\x00\x01m",
			"\x00\x00\x00\x00\x00\x02\x00\x00\x00\x01\x01\x02\xaa\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xbb\x03\x00\x00\x00\x01\x00\x00\x00\x02\x00\x01\x00",
		},
	} {
		if k, v := entryKey("g", c.e.Key), entryValue(c.e.Value); string(k) != c.key || string(v) != c.value {
			t.Errorf("%+v: key %q, value %q, want %q, %q", c.e, k, v, c.key, c.value)
		}
	}
}

// What changes in a group of thousands of members is written in batches that
// every topic takes.
func TestLargeGroupIsWrittenInBatches(t *testing.T) {
	const n = 5000
	w := group.Write{Entries: []group.Entry{{Key: group.EntryKey{Kind: group.GroupEntry}, Value: group.GroupEpoch{Epoch: 1}}}}
	for i := range n {
		a := group.Assignment{{1}: {int32(i), int32(i + n)}, {2}: {int32(i)}}
		w.Entries = append(w.Entries, group.Entry{Key: group.EntryKey{Kind: group.TargetEntry, Name: fmt.Sprintf("member-%036d", i)}, Value: group.Target{Assignment: a}})
	}
	b := newGroupBatch(1)
	b.add("g", w)
	batches, err := b.build()
	if err != nil || len(batches) < 2 {
		t.Fatalf("%d batches: %v", len(batches), err)
	}
	groups := map[string]*keptGroup{}
	for _, batch := range batches {
		if len(batch) > maxGroupBatch {
			t.Errorf("a batch has %d bytes", len(batch))
		}
		if err := batch.Each(maxGroupRecords, func(r record.Record) error { return readGroupRecord(groups, -1, r) }); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(groups["g"].entries); got != len(w.Entries) {
		t.Errorf("%d records come back, want %d", got, len(w.Entries))
	}
}

// A group's own session timeout and heartbeat interval are what its members are
// told and how long they are waited for, also after a change of leadership.
func TestConsumerGroupTiming(t *testing.T) {
	cfg := quick()
	cfg.Group.Bounds.Min = group.Timing{Session: 200 * time.Millisecond, Interval: 10 * time.Millisecond}
	s := startSite(t, cfg)
	s.topic(t, "t", 1)
	c := s.dial(t)
	join := func(id, member string) *kmsg.ConsumerGroupHeartbeatResponse {
		req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.RebalanceTimeoutMillis = 1, id, member, 60_000
		req.SubscribedTopicNames, req.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		return ask[*kmsg.ConsumerGroupHeartbeatResponse](c, req)
	}
	if a := join("g", "early"); a.ErrorCode != 0 || a.HeartbeatIntervalMillis != 5000 {
		t.Fatalf("error %d, heartbeats every %d ms, want 5000", a.ErrorCode, a.HeartbeatIntervalMillis)
	}
	for _, bad := range [][]string{
		{catalog.GroupSession, "199"}, {catalog.GroupSession, "60001"}, {catalog.GroupSession, "long"}, {catalog.GroupSession, "5000"},
		{catalog.GroupInterval, "9"}, {catalog.GroupInterval, "15001"}, {catalog.GroupInterval, "300", catalog.GroupSession, "300"},
	} {
		wantCode(t, fmt.Sprint(bad), setGroup(t, c, "g", bad...), kerr.InvalidConfig)
	}
	wantCode(t, "set", setGroup(t, c, "g", catalog.GroupSession, "300", catalog.GroupInterval, "20"), nil)
	if a := join("g", "late"); a.ErrorCode != 0 || a.HeartbeatIntervalMillis != 20 {
		t.Errorf("error %d, heartbeats every %d ms, want 20", a.ErrorCode, a.HeartbeatIntervalMillis)
	}
	if a := join("other", "m"); a.ErrorCode != 0 || a.HeartbeatIntervalMillis != 5000 {
		t.Errorf("error %d, heartbeats of another group every %d ms, want 5000", a.ErrorCode, a.HeartbeatIntervalMillis)
	}
	eventually(t, "the late member is out", func() bool { return len(describeConsumers(t, s, "g").Members) == 1 })
	// The early one began its session when it was 45 s; a load begins it anew.
	offsets, _ := s.State().Topic(catalog.OffsetsTopic)
	for p := range offsets.Partitions {
		s.memLog(t, catalog.OffsetsTopic, int32(p)).newEpoch()
	}
	eventually(t, "the early member is out", func() bool { return len(describeConsumers(t, s, "g").Members) == 0 })
	if n := len(describeConsumers(t, s, "other").Members); n != 1 {
		t.Errorf("the other group has %d members, want 1", n)
	}
}
