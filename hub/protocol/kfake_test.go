package protocol

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/record"
)

// step is a request that both brokers get; topic "t" has one partition with
// three records in both.
type step struct {
	name string
	req  kmsg.Request
	// differs says why the two may answer with other codes.
	differs string
}

// TestLikeTheReference asks this server and kfake the same and compares the
// error codes, in the order of the answer.
func TestLikeTheReference(t *testing.T) {
	cfg := quick()
	ours := startSite(t, cfg)
	ours.topic(t, "t", 1)
	ours.topic(t, "c", 1, "cleanup.policy", "compact")
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	reference := &site{addr: fake.ListenAddrs()[0]}
	for _, s := range []*site{ours, reference} {
		c := s.dial(t)
		if s == reference {
			ct := &kmsg.CreateTopicsRequest{Version: 5, TimeoutMillis: 1000, Topics: []kmsg.CreateTopicsRequestTopic{{
				Topic: "c", NumPartitions: 1, ReplicationFactor: 1, Configs: []kmsg.CreateTopicsRequestTopicConfig{{Name: "cleanup.policy", Value: kmsg.StringPtr("compact")}},
			}}}
			c.ask(ct)
		}
		if p := produced(c, produceRequest(9, "t", record.TopicID{}, batch(t, record.None, "a", "b", "c"))); p.ErrorCode != 0 {
			t.Fatal(p.ErrorCode)
		}
	}
	for _, st := range referenceSteps(t) {
		got, want := codesOf(t, ours, st.req), codesOf(t, reference, st.req)
		switch same := slices.Equal(got, want); {
		case !same && st.differs == "":
			t.Errorf("%s: %v, the reference answers %v", st.name, got, want)
		case same && st.differs != "":
			t.Errorf("%s: both answer %v, though %s", st.name, got, st.differs)
		}
	}
}

// codesOf asks on a connection of its own, and returns all error codes of the
// answer; "closed" if there is none.
func codesOf(t *testing.T, s *site, req kmsg.Request) (codes []string) {
	c := s.dial(t)
	defer func() { _ = c.nc.Close() }()
	id := c.send(req)
	b, err := c.frame()
	if err != nil {
		return []string{"closed"}
	}
	if got := int32(binary.BigEndian.Uint32(b)); got != id {
		t.Fatalf("correlation %d, want %d", got, id)
	}
	b = b[4:]
	if req.IsFlexible() && req.Key() != apiVersionsKey {
		b = b[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	walkCodes(reflect.ValueOf(resp).Elem(), &codes)
	return codes
}

func walkCodes(v reflect.Value, codes *[]string) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name == "ErrorCode" {
				*codes = append(*codes, fmt.Sprint(v.Field(i).Int()))
				continue
			}
			walkCodes(v.Field(i), codes)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walkCodes(v.Index(i), codes)
		}
	}
}

func referenceSteps(t *testing.T) (all []step) {
	add := func(name string, req kmsg.Request, differs ...string) {
		all = append(all, step{name, req, strings.Join(differs, "")})
	}
	good := batch(t, record.None, "v")
	bad := slices.Clone(good)
	bad[len(bad)-2] ^= 0xff
	two := slices.Concat(good, good)
	noKey := record.NewBuilder(record.None)
	if err := noKey.Append(record.Record{Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	keyless, err := noKey.Build()
	if err != nil {
		t.Fatal(err)
	}
	none := record.TopicID{}
	add("produce", produceRequest(9, "t", none, slices.Clone(good)))
	add("produce to no topic", produceRequest(9, "none", none, good))
	add("produce to no ID", produceRequest(13, "", record.TopicID{9}, good))
	add("produce a flipped bit", produceRequest(9, "t", none, bad))
	add("produce two batches", produceRequest(9, "t", none, two), "Kafka answers INVALID_RECORD (ProduceRequest.validateRecords)")
	add("produce without a key", produceRequest(9, "c", none, keyless), "the reference does not look at keys")
	acks := produceRequest(9, "t", none, good)
	acks.Acks = 3
	add("produce acks=3", acks)
	away := produceRequest(9, "t", none, good)
	away.Topics[0].Partitions[0].Partition = 7
	add("produce to no partition", away)

	add("fetch", fetchRequest(12, "t", none, 0))
	add("fetch beyond", fetchRequest(12, "t", none, 100))
	add("fetch below", fetchRequest(12, "t", none, -5))
	add("fetch no topic", fetchRequest(12, "none", none, 0))
	add("fetch no ID", fetchRequest(13, "", record.TopicID{9}, 0))
	newer := fetchRequest(12, "t", none, 0)
	newer.Topics[0].Partitions[0].CurrentLeaderEpoch = 1000
	add("fetch a newer epoch", newer)
	session := fetchRequest(12, "t", none, 0)
	session.SessionID, session.SessionEpoch = 99, 1
	add("fetch with a session", session)

	for _, ts := range []int64{-1, -2, -3, 0, 1 << 60, -77} {
		lo := &kmsg.ListOffsetsRequest{Version: 7, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: "t", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{CurrentLeaderEpoch: -1, Timestamp: ts}}}}}
		add(fmt.Sprintf("list offsets %d", ts), lo)
	}
	add("metadata of no topic", &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("none")}}})
	add("metadata of a bad name", &kmsg.MetadataRequest{Version: 9, Topics: []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("a b")}}}, "Kafka answers INVALID_TOPIC_EXCEPTION")
	add("create again", &kmsg.CreateTopicsRequest{Version: 5, TimeoutMillis: 1000, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "t", NumPartitions: 1, ReplicationFactor: 1}}})
	add("create without partitions", &kmsg.CreateTopicsRequest{Version: 5, TimeoutMillis: 1000, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "n", NumPartitions: 0, ReplicationFactor: 1}}})
	add("delete no topic", &kmsg.DeleteTopicsRequest{Version: 5, TimeoutMillis: 1000, TopicNames: []string{"none"}})
	add("describe settings", &kmsg.DescribeConfigsRequest{Version: 4, Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "none"}}})
	add("epoch of no topic", &kmsg.OffsetForLeaderEpochRequest{Version: 4, ReplicaID: -1, Topics: []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "none", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{}}}}})
	return append(all, groupSteps()...)
}

func groupSteps() (all []step) {
	add := func(name string, req kmsg.Request, differs ...string) {
		all = append(all, step{name, req, strings.Join(differs, "")})
	}
	const unknown = "Kafka answers UNKNOWN_MEMBER_ID when there is no such group"
	add("heartbeat of nobody", &kmsg.HeartbeatRequest{Version: 4, Group: "none", MemberID: "m", Generation: 1}, unknown)
	add("sync of nobody", &kmsg.SyncGroupRequest{Version: 5, Group: "none", MemberID: "m", Generation: 1}, unknown)
	add("leave of nobody", &kmsg.LeaveGroupRequest{Version: 4, Group: "none", Members: []kmsg.LeaveGroupRequestMember{{MemberID: "m"}}}, unknown)
	commit := func(group, member string, generation int32, topic string) *kmsg.OffsetCommitRequest {
		return &kmsg.OffsetCommitRequest{Version: 8, Group: group, MemberID: member, Generation: generation, Topics: []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 1, LeaderEpoch: -1}}}}}
	}
	add("commit of a generation", commit("none", "m", 3, "t"))
	add("commit of nobody", commit("simple", "", -1, "t"))
	add("commit for no topic", commit("simple", "", -1, "none"))
	add("commit of a member of none", commit("simple", "m", 3, "t"), "Kafka answers UNKNOWN_MEMBER_ID for a group that exists")
	fetch := func(group string) *kmsg.OffsetFetchRequest {
		return &kmsg.OffsetFetchRequest{Version: 7, Group: group, Topics: []kmsg.OffsetFetchRequestTopic{{Topic: "t", Partitions: []int32{0, 5}}}}
	}
	add("offsets", fetch("simple"))
	add("offsets of no group", fetch("none"), "Kafka has no error for it (pitfall 9)")
	add("describe no group", &kmsg.DescribeGroupsRequest{Version: 6, Groups: []string{"none"}})
	add("describe no group v5", &kmsg.DescribeGroupsRequest{Version: 5, Groups: []string{"none"}})
	add("delete no group", &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"none", "simple"}})
	join := func(change func(*kmsg.JoinGroupRequest)) *kmsg.JoinGroupRequest {
		r := joinRequest("g", "")
		r.Version = 5
		change(r)
		return r
	}
	add("join without an ID", join(func(*kmsg.JoinGroupRequest) {}))
	add("join with a strange ID", join(func(r *kmsg.JoinGroupRequest) { r.MemberID = "strange" }))
	add("join with a short session", join(func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1 }))
	add("join without protocols", join(func(r *kmsg.JoinGroupRequest) { r.Protocols = nil }), "Kafka looks at the protocols first: INCONSISTENT_GROUP_PROTOCOL")
	add("join no group", join(func(r *kmsg.JoinGroupRequest) { r.Group = "" }))
	add("join with a strange instance", join(func(r *kmsg.JoinGroupRequest) { r.MemberID, r.InstanceID = "m", kmsg.StringPtr("i") }))
	add("join", join(func(r *kmsg.JoinGroupRequest) { r.Version, r.Group = 3, "g3" }))
	add("commit between join and sync", commit("g3", "", -1, "t"))
	add("delete a busy group", &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"g3"}})
	hb := func(group, member string, epoch int32, change ...func(*kmsg.ConsumerGroupHeartbeatRequest)) *kmsg.ConsumerGroupHeartbeatRequest {
		r := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		r.Version, r.Group, r.MemberID, r.MemberEpoch = 1, group, member, epoch
		if epoch == 0 {
			r.RebalanceTimeoutMillis, r.SubscribedTopicNames, r.Topics = 60_000, []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		}
		for _, f := range change {
			f(r)
		}
		return r
	}
	add("heartbeat of a member of no consumer group", hb("none", "m", 3))
	add("first heartbeat without topics", hb("w1", "m", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = nil }), "Kafka answers INVALID_REQUEST")
	add("first heartbeat without a member ID", hb("w2", "", 0), "Kafka answers INVALID_REQUEST from v1 on")
	add("first heartbeat with partitions", hb("new", "m", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{{Partitions: []int32{0}}}
	}))
	add("heartbeat with no assignor there is", hb("new", "m", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.ServerAssignor = kmsg.StringPtr("best") }))
	add("heartbeat with a bad expression", hb("new", "m", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) {
		r.SubscribedTopicNames, r.SubscribedTopicRegex = nil, kmsg.StringPtr("(")
	}), "Kafka answers INVALID_REGULAR_EXPRESSION")
	add("first heartbeat", hb("new", "m", 0))
	add("second heartbeat", hb("new", "m", 1))
	add("heartbeat with a later epoch", hb("new", "m", 7))
	add("heartbeat of a stranger", hb("new", "n", 1))
	add("heartbeat of an instance", hb("new", "s", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = kmsg.StringPtr("i") }))
	add("heartbeat of another with its instance", hb("new", "s2", 0, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = kmsg.StringPtr("i") }))
	add("consumer heartbeat to a classic group", hb("g3", "m", 0))
	add("describe as consumer groups", &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"new", "g3"}})
	add("describe a consumer group as a classic one", &kmsg.DescribeGroupsRequest{Version: 6, Groups: []string{"new"}}, "Kafka answers GROUP_ID_NOT_FOUND")
	stale := commit("new", "m", 0, "t")
	stale.Version = 9
	add("commit with an older epoch", stale)
	add("commit with an older version", commit("new", "m", 1, "t"))
	add("commit of a stranger to a consumer group", commit("new", "n", 1, "t"), "Kafka looks for the member first: UNKNOWN_MEMBER_ID")
	add("delete a busy consumer group", &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"new"}})
	add("leave of a member", hb("new", "m", -1))
	add("leave of nobody", hb("new", "m", -1))
	add("leave of a static member for a while", hb("new", "s", -2, func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = kmsg.StringPtr("i") }))
	add("heartbeat of another group", hb("new2", "m", 0))
	add("classic join of a consumer group", join(func(r *kmsg.JoinGroupRequest) { r.Version, r.Group = 3, "new2" }), "Kafka refuses a member whose metadata it cannot read")
	add("find a coordinator of nothing", &kmsg.FindCoordinatorRequest{Version: 4, CoordinatorKeys: []string{"", "g"}})
	add("an unknown API", &kmsg.AlterPartitionRequest{Version: 1})
	return all
}
