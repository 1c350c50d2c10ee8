package protocol

import (
	"context"
	"fmt"
	"slices"
	"sync"
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

// produceN writes n records k0... to a topic.
func produceN(t testing.TB, s *site, topic string, from, n int) {
	t.Helper()
	cl := s.client(t, kgo.DefaultProduceTopic(topic))
	defer cl.Close()
	var rs []*kgo.Record
	for i := range n {
		rs = append(rs, &kgo.Record{Key: fmt.Appendf(nil, "k%d", from+i)})
	}
	if err := cl.ProduceSync(testContext(t), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// members runs clients of one group, each polling until the test ends, and
// counts what they get.
type members struct {
	mu   sync.Mutex
	seen map[string]int
	wg   sync.WaitGroup
}

func (ms *members) run(t *testing.T, s *site, topic, id string, opts ...kgo.Opt) *kgo.Client {
	cl := s.client(t, append([]kgo.Opt{
		kgo.ConsumerGroup(id), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(50 * time.Millisecond), kgo.SessionTimeout(6 * time.Second), kgo.AutoCommitInterval(100 * time.Millisecond),
	}, opts...)...)
	ms.wg.Go(func() {
		for {
			fs := cl.PollFetches(context.Background())
			if fs.IsClientClosed() {
				return
			}
			ms.mu.Lock()
			for r := range fs.RecordsAll() {
				ms.seen[string(r.Key)]++
			}
			ms.mu.Unlock()
		}
	})
	return cl
}

func (ms *members) count() int {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	return len(ms.seen)
}

func TestGroupsRebalance(t *testing.T) {
	for name, balancer := range map[string]kgo.GroupBalancer{
		"eager": kgo.RangeBalancer(), "sticky": kgo.StickyBalancer(), "cooperative": kgo.CooperativeStickyBalancer(),
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, quick())
			s.topic(t, "work", 6)
			produceN(t, s, "work", 0, 100)
			ms := &members{seen: map[string]int{}}
			var clients []*kgo.Client
			for i := range 3 {
				clients = append(clients, ms.run(t, s, "work", "g", kgo.Balancers(balancer)))
				produceN(t, s, "work", 100*(i+1), 100)
			}
			eventually(t, "all records are seen", func() bool { return ms.count() == 400 })
			eventually(t, "three members share the partitions", func() bool { return sharedBy(t, s, "g") == 3 })
			clients[0].Close() // leaves
			eventually(t, "two members share the partitions", func() bool { return sharedBy(t, s, "g") == 2 })
			produceN(t, s, "work", 400, 100)
			eventually(t, "the others go on", func() bool { return ms.count() == 500 })
			clients[1].Close()
			clients[2].Close()
			ms.wg.Wait()
			eventually(t, "the group is empty", func() bool { return describe(t, s, "g").State == "Empty" })
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

func describe(t *testing.T, s *site, id string) kadm.DescribedGroup {
	t.Helper()
	gs, err := s.admin(t).DescribeGroups(testContext(t), id)
	if err != nil {
		t.Fatal(err)
	}
	return gs[id]
}

// sharedBy is the number of members with partitions of a stable group in which
// every partition of "work" belongs to one member.
func sharedBy(t *testing.T, s *site, id string) (members int) {
	g := describe(t, s, id)
	if g.State != "Stable" {
		return 0
	}
	owned := map[int32]int{}
	for _, m := range g.Members {
		a, ok := m.Assigned.AsConsumer()
		if !ok {
			return 0
		}
		for _, topic := range a.Topics {
			if len(topic.Partitions) > 0 {
				members++
			}
			for _, p := range topic.Partitions {
				owned[p]++
			}
		}
	}
	for p := range int32(6) {
		if owned[p] != 1 {
			return 0
		}
	}
	return members
}

func TestStaticMemberComesBackWithoutARebalance(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "work", 6)
	produceN(t, s, "work", 0, 60)
	ms := &members{seen: map[string]int{}}
	a := ms.run(t, s, "work", "g", kgo.InstanceID("a"), kgo.Balancers(kgo.RangeBalancer()))
	b := ms.run(t, s, "work", "g", kgo.InstanceID("b"), kgo.Balancers(kgo.RangeBalancer()))
	eventually(t, "two members", func() bool { return sharedBy(t, s, "g") == 2 })
	_, generation := a.GroupMetadata()
	b.Close() // a static member does not leave
	b = ms.run(t, s, "work", "g", kgo.InstanceID("b"), kgo.Balancers(kgo.RangeBalancer()))
	eventually(t, "b is back", func() bool {
		_, g := b.GroupMetadata()
		return g == generation && sharedBy(t, s, "g") == 2
	})
	// A second process with a's name fences the first.
	id, generation := a.GroupMetadata()
	c := ms.run(t, s, "work", "g", kgo.InstanceID("a"), kgo.Balancers(kgo.RangeBalancer()))
	eventually(t, "a is fenced", func() bool {
		hb := &kmsg.HeartbeatRequest{Version: 4, Group: "g", MemberID: id, Generation: generation, InstanceID: kmsg.StringPtr("a")}
		return ask[*kmsg.HeartbeatResponse](s.dial(t), hb).ErrorCode == code(group.ErrFencedInstance)
	})
	for _, cl := range []*kgo.Client{a, b, c} {
		cl.Close()
	}
	ms.wg.Wait()
}

// After a change of leadership the coordinator loads the groups from
// __consumer_offsets: members and offsets are as they were.
func TestGroupsSurviveALoad(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "work", 6)
	produceN(t, s, "work", 0, 60)
	ms := &members{seen: map[string]int{}}
	a := ms.run(t, s, "work", "g")
	eventually(t, "stable", func() bool { return sharedBy(t, s, "g") == 1 })
	eventually(t, "all seen", func() bool { return ms.count() == 60 })
	if err := a.CommitUncommittedOffsets(testContext(t)); err != nil {
		t.Fatal(err)
	}
	before, generation := a.GroupMetadata()
	for p := range int32(3) {
		s.memLog(t, catalog.OffsetsTopic, p).newEpoch()
	}
	g := describe(t, s, "g")
	if g.State != "Stable" || len(g.Members) != 1 || g.Members[0].MemberID != before {
		t.Fatalf("after the load: %+v, want member %s", g, before)
	}
	offsets, err := s.admin(t).FetchOffsets(testContext(t), "g")
	if err != nil {
		t.Fatal(err)
	}
	sum := int64(0)
	offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
	if sum != 60 {
		t.Errorf("offsets sum to %d, want 60", sum)
	}
	if id, gen := a.GroupMetadata(); id != before || gen != generation {
		t.Errorf("the member is %s in generation %d, was %s in %d", id, gen, before, generation)
	}
	a.Close()
	ms.wg.Wait()
}

// What another node wrote while it led is read before anything is answered.
func TestANewEpochLoadsTheGroupsAnew(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "work", 1)
	adm := s.admin(t)
	if err := adm.CommitAllOffsets(testContext(t), "g", kadm.Offsets{"work": {0: {Topic: "work", At: 7}}}); err != nil {
		t.Fatal(err)
	}
	log := s.memLog(t, catalog.OffsetsTopic, partitionOf("g", 3))
	log.newEpoch()
	b := newGroupBatch(1)
	b.add("g", group.Write{Offsets: []group.OffsetWrite{{TopicPartition: record.TopicPartition{Topic: "work"}, Offset: &group.Offset{Offset: 9, CommitTime: time.Now().UnixMilli()}}}})
	other, err := b.build()
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan struct{})
	log.Append(other, func([]record.Appended, error) { close(written) })
	<-written
	log.newEpoch()
	if o, err := adm.FetchOffsets(testContext(t), "g"); err != nil || o["work"][0].At != 9 {
		t.Errorf("%v: the offset is %d, want 9", err, o["work"][0].At)
	}
}

// An ordinary client can read __consumer_offsets, and finds Kafka's records.
func TestConsumerOffsetsAreReadable(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "work", 1)
	adm := s.admin(t)
	var want kadm.Offsets
	want.Add(kadm.Offset{Topic: "work", Partition: 0, At: 7, LeaderEpoch: 3, Metadata: "hello"})
	if err := adm.CommitAllOffsets(testContext(t), "simple", want); err != nil {
		t.Fatal(err)
	}
	r := consume(t, s, catalog.OffsetsTopic, 1)[0]
	var key kmsg.OffsetCommitKey
	value := kmsg.NewOffsetCommitValue()
	if err := key.ReadFrom(r.Key); err != nil {
		t.Fatal(err)
	}
	if err := value.ReadFrom(r.Value); err != nil {
		t.Fatal(err)
	}
	if key.Group != "simple" || key.Topic != "work" || value.Offset != 7 || value.LeaderEpoch != 3 || value.Metadata != "hello" {
		t.Errorf("got %+v %+v", key, value)
	}
	if want := partitionOf("simple", 3); r.Partition != want {
		t.Errorf("in partition %d, want %d", r.Partition, want)
	}
}

// The hash is Java's String.hashCode; the values are from its definition.
func TestGroupsGoToKafkasPartition(t *testing.T) {
	for id, hash := range map[string]int32{"": 0, "a": 97, "abc": 96354, "console-consumer-1": 35782224, "\U0001F600": 1772899} {
		if got := partitionOf(id, 1<<31-1); got != (hash&0x7fffffff)%(1<<31-1) {
			t.Errorf("%q: %d, want %d", id, got, hash)
		}
	}
}

// Parked joins do not hold up others, and nothing is left of a client that
// goes away while parked.
func TestParkedJoinBlocksNobody(t *testing.T) {
	cfg := quick()
	cfg.Group.InitialDelay = time.Hour
	s := startSite(t, cfg)
	s.topic(t, "work", 1)
	parked := s.dial(t)
	parked.send(joinRequest("g", ""))
	eventually(t, "the member is there", func() bool { return describe(t, s, "g").State == "PreparingRebalance" })
	ask[*kmsg.HeartbeatResponse](s.dial(t), &kmsg.HeartbeatRequest{Version: 4, Group: "g", MemberID: "x"})
	before := s.srv.Stats().Connections
	_ = parked.nc.Close()
	eventually(t, "the connection is gone", func() bool { return s.srv.Stats().Connections < before })
	eventually(t, "the coordinator has forgotten the wait", func() bool {
		n := -1
		err := s.srv.groups.onShard(t.Context(), partitionOf("g", 3), func(time.Time, *shard) { n = len(s.srv.groups.parked) })
		return err == nil && n == 0
	})
}

func joinRequest(id, member string) *kmsg.JoinGroupRequest {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Version, r.Group, r.MemberID = 3, id, member
	r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.ProtocolType = 10_000, 60_000, "consumer"
	r.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
	return r
}

// While the coordinator's partition cannot be used, clients are told so, never
// that the group is unknown (pitfall 9).
func TestPitfall9CoordinatorErrorsAfterAFailover(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "work", 1)
	c := s.dial(t)
	j := ask[*kmsg.JoinGroupResponse](c, joinRequest("g", ""))
	if j.ErrorCode != 0 {
		t.Fatalf("join: %d", j.ErrorCode)
	}
	p := partitionOf("g", 3)
	move := func(to int32) {
		t.Helper()
		if err := s.move(catalog.OffsetsTopic, p, to); err != nil {
			t.Fatal(err)
		}
	}
	move(2)
	hb := &kmsg.HeartbeatRequest{Version: 4, Group: "g", MemberID: j.MemberID, Generation: j.Generation}
	if got := ask[*kmsg.HeartbeatResponse](c, hb).ErrorCode; got != code(errNotCoordinator) {
		t.Errorf("heartbeat without the partition: %d, want NOT_COORDINATOR", got)
	}
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Version, fetch.Group = 7, "g"
	if got := ask[*kmsg.OffsetFetchResponse](c, fetch).ErrorCode; got != code(errNotCoordinator) {
		t.Errorf("fetch without the partition: %d, want NOT_COORDINATOR", got)
	}
	move(1)
	// The join was never synced, so nothing of it was durable.
	if got := ask[*kmsg.HeartbeatResponse](c, hb).ErrorCode; got != code(group.ErrUnknownMember) {
		t.Errorf("heartbeat after the load: %d, want UNKNOWN_MEMBER_ID", got)
	}
	fetch.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: "work", Partitions: []int32{0}}}
	got := ask[*kmsg.OffsetFetchResponse](c, fetch)
	if one := got.Topics[0].Partitions[0]; got.ErrorCode != 0 || one.Offset != -1 || one.ErrorCode != 0 {
		t.Errorf("offset of an unknown group: %+v", got)
	}
}

// A commit is answered only when it is in the log.
func TestCommitWaitsForTheLog(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "work", 1)
	c := s.dial(t)
	commit := func(offset int64) *kmsg.OffsetCommitRequest {
		r := kmsg.NewPtrOffsetCommitRequest()
		r.Version, r.Group, r.Generation = 5, "g", -1
		r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "work", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Partition: 0, Offset: offset}, {Partition: 9, Offset: offset}}}}
		return r
	}
	got := ask[*kmsg.OffsetCommitResponse](c, commit(1))
	if a, b := got.Topics[0].Partitions[0].ErrorCode, got.Topics[0].Partitions[1].ErrorCode; a != 0 || b != code(record.ErrUnknownTopic) {
		t.Fatalf("commit: %d, %d", a, b)
	}
	log := s.memLog(t, catalog.OffsetsTopic, partitionOf("g", 3))
	log.hold()
	second := commit(2)
	id := c.send(second)
	eventually(t, "the commit is proposed", func() bool { return log.heldAppends() == 1 })
	if o, err := s.admin(t).FetchOffsets(testContext(t), "g"); err != nil || o["work"][0].At != 1 {
		t.Errorf("the offset is %v before the commit: %v", o["work"][0].At, err)
	}
	log.release()
	if got := c.receive(second, id).(*kmsg.OffsetCommitResponse); got.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Errorf("commit: %+v", got)
	}
	log.refuse(record.ErrDiskFull)
	if got := ask[*kmsg.OffsetCommitResponse](c, commit(3)).Topics[0].Partitions[0].ErrorCode; got != code(errNoCoordinator) {
		t.Errorf("commit on a full disk: %d, want COORDINATOR_NOT_AVAILABLE", got)
	}
}

// The offsets of a deleted topic go, whoever deleted it: with a sweep when no
// one told the coordinator, and with a load when a topic of the same name was
// made in the meantime.
func TestOffsetsOfADeletedTopicGo(t *testing.T) {
	cfg := quick()
	cfg.GroupSweep = 20 * time.Millisecond
	clock := time.Now()
	cfg.Clock = func() time.Time { return clock }
	s := startSite(t, cfg)
	adm := s.admin(t)
	gone, again, kept := s.topic(t, "gone", 1), s.topic(t, "again", 1), s.topic(t, "kept", 1)
	offsets := kadm.Offsets{}
	for _, topic := range []*catalog.Topic{gone, again, kept} {
		offsets.AddOffset(topic.Name, 0, 7, -1)
	}
	if err := adm.CommitAllOffsets(testContext(t), "g", offsets); err != nil {
		t.Fatal(err)
	}
	// What the group has after a commit to another topic: what a load or a
	// sweep removes was written before.
	committed := func() (topics []string) {
		t.Helper()
		also := kadm.Offsets{}
		also.AddOffset("kept", 0, 8, -1)
		if err := adm.CommitAllOffsets(testContext(t), "g", also); err != nil {
			t.Fatal(err)
		}
		err := s.srv.groups.do(t.Context(), "g", func(_ time.Time, g *group.Group) group.Output {
			for tp := range g.Offsets() {
				topics = append(topics, tp.Topic)
			}
			return group.Output{}
		})
		if err != nil {
			t.Fatal(err)
		}
		return topics
	}
	// Another node deletes: this coordinator sees it in the catalog alone.
	remove := func(topic *catalog.Topic) {
		t.Helper()
		if _, err := s.Propose(t.Context(), catalog.DeleteTopic{Name: topic.Name}); err != nil {
			t.Fatal(err)
		}
	}
	remove(gone)
	eventually(t, "the offsets of a topic that is gone go", func() bool { return !slices.Contains(committed(), "gone") })

	remove(again)
	clock = clock.Add(time.Second)
	s.topic(t, "again", 1)
	s.memLog(t, catalog.OffsetsTopic, partitionOf("g", 3)).newEpoch()
	if got := committed(); !slices.Equal(got, []string{"kept"}) {
		t.Errorf("after a load the group has offsets in %v, want kept alone", got)
	}

	// A node whose clock is behind commits in it.
	clock = clock.Add(-time.Minute)
	back := kadm.Offsets{}
	back.AddOffset("again", 0, 3, -1)
	if err := adm.CommitAllOffsets(testContext(t), "g", back); err != nil {
		t.Fatal(err)
	}
	s.memLog(t, catalog.OffsetsTopic, partitionOf("g", 3)).newEpoch()
	if got := committed(); len(got) != 2 {
		t.Errorf("after a commit by a slow clock: %v", got)
	}
}

// A member that has left does not come back with a change of leadership, though
// the others have not joined again yet.
func TestLeaveOutlivesTheCoordinator(t *testing.T) {
	s := startSite(t, quick())
	c, other := s.dial(t), s.dial(t)
	join := func(c *rawConn, member string) *kmsg.JoinGroupResponse {
		req := kmsg.NewPtrJoinGroupRequest()
		req.Version, req.Group, req.MemberID, req.ProtocolType = 5, "g", member, "consumer"
		req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 60_000, 60_000
		req.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range"}}
		return ask[*kmsg.JoinGroupResponse](c, req)
	}
	stay := join(c, join(c, "").MemberID).MemberID
	leaving := join(other, "").MemberID
	joined := make(chan *kmsg.JoinGroupResponse, 1)
	go func() { joined <- join(other, leaving) }()
	eventually(t, "the group waits for the first member", func() bool {
		req := kmsg.NewPtrHeartbeatRequest()
		req.Version, req.Group, req.MemberID, req.Generation = 3, "g", stay, 1
		return ask[*kmsg.HeartbeatResponse](c, req).ErrorCode == kerr.RebalanceInProgress.Code
	})
	generation := join(c, stay).Generation
	<-joined
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.MemberID, sync.Generation = 3, "g", stay, generation
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: stay, MemberAssignment: []byte("a")}, {MemberID: leaving, MemberAssignment: []byte("b")}}
	wantCode(t, "sync", ask[*kmsg.SyncGroupResponse](c, sync).ErrorCode, nil)

	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Version, leave.Group, leave.Members = 3, "g", []kmsg.LeaveGroupRequestMember{{MemberID: leaving}}
	wantCode(t, "leave", ask[*kmsg.LeaveGroupResponse](other, leave).Members[0].ErrorCode, nil)
	offsets, _ := s.State().Topic(catalog.OffsetsTopic)
	for p := range offsets.Partitions {
		s.memLog(t, catalog.OffsetsTopic, int32(p)).newEpoch()
	}
	if again := join(c, stay); again.ErrorCode != 0 || again.Generation != generation+1 || len(again.Members) != 1 {
		t.Errorf("error %d, generation %d with %d members, want %d with 1", again.ErrorCode, again.Generation, len(again.Members), generation+1)
	}
}
