package protocol

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// What tools ask about replicas and leaders of a site of one node is answered,
// and nothing moves.
func TestReplicasStayWhereTheyAre(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 2)
	c := s.dial(t)

	list := ask[*kmsg.ListPartitionReassignmentsResponse](c, &kmsg.ListPartitionReassignmentsRequest{})
	if list.ErrorCode != 0 || len(list.Topics) != 0 {
		t.Errorf("reassignments: %+v", list)
	}

	assign := func(topic string, p int32, replicas []int32) int16 {
		return ask[*kmsg.AlterPartitionAssignmentsResponse](c, &kmsg.AlterPartitionAssignmentsRequest{Topics: []kmsg.AlterPartitionAssignmentsRequestTopic{{
			Topic: topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: p, Replicas: replicas}},
		}}}).Topics[0].Partitions[0].ErrorCode
	}
	wantCode(t, "where it is", assign("t", 1, []int32{1}), nil)
	wantCode(t, "elsewhere", assign("t", 1, []int32{2}), kerr.InvalidReplicaAssignment)
	wantCode(t, "cancel nothing", assign("t", 1, nil), kerr.NoReassignmentInProgress)
	wantCode(t, "no partition", assign("t", 2, []int32{1}), kerr.UnknownTopicOrPartition)

	elect := func(topics []kmsg.ElectLeadersRequestTopic) *kmsg.ElectLeadersResponse {
		return ask[*kmsg.ElectLeadersResponse](c, &kmsg.ElectLeadersRequest{Version: 2, Topics: topics})
	}
	if all := elect(nil); all.ErrorCode != 0 || len(all.Topics) != 0 {
		t.Errorf("elect all: %+v", all)
	}
	one := []kmsg.ElectLeadersRequestTopic{{Topic: "t", Partitions: []int32{0, 7}}}
	got := elect(one).Topics[0].Partitions
	wantCode(t, "the preferred leader leads", got[0].ErrorCode, kerr.ElectionNotNeeded)
	wantCode(t, "no partition", got[1].ErrorCode, kerr.UnknownTopicOrPartition)
	s.setAway("t", 0, true)
	wantCode(t, "nobody leads", elect(one).Topics[0].Partitions[0].ErrorCode, kerr.PreferredLeaderNotAvailable)

	move := func(dir string) int16 {
		return ask[*kmsg.AlterReplicaLogDirsResponse](c, &kmsg.AlterReplicaLogDirsRequest{Version: 2, Dirs: []kmsg.AlterReplicaLogDirsRequestDir{{
			Dir: dir, Topics: []kmsg.AlterReplicaLogDirsRequestDirTopic{{Topic: "t", Partitions: []int32{0}}},
		}}}).Topics[0].Partitions[0].ErrorCode
	}
	wantCode(t, "to where it is", move(quick().LogDir), nil)
	wantCode(t, "to another disk", move("/other"), kerr.LogDirNotFound)

	for kind, want := range map[int8]*kerr.Error{1: nil, 2: kerr.MismatchedEndpointType, 3: kerr.UnsupportedEndpointType} {
		got := ask[*kmsg.DescribeClusterResponse](c, &kmsg.DescribeClusterRequest{Version: 2, EndpointType: kind})
		wantCode(t, "describe the cluster", got.ErrorCode, want)
	}
}

// Partitions go where they are asked to, each by itself, and tools see what is
// under way until it is done or taken back (KIP-455).
func TestPartitionsAreReassigned(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	ns.spread(t, "t")
	c := ns[1].dial(t)
	assign := func(p int32, replicas ...int32) *kmsg.AlterPartitionAssignmentsRequest {
		r := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		r.Version = 1
		r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{
			Topic: "t", Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: p, Replicas: replicas}},
		}}
		return r
	}
	code := func(r *kmsg.AlterPartitionAssignmentsRequest) int16 {
		return ask[*kmsg.AlterPartitionAssignmentsResponse](c, r).Topics[0].Partitions[0].ErrorCode
	}
	list := func(topics ...string) string {
		r := kmsg.NewPtrListPartitionReassignmentsRequest()
		for _, name := range topics {
			r.Topics = append(r.Topics, kmsg.ListPartitionReassignmentsRequestTopic{Topic: name, Partitions: []int32{0, 1, 9}})
		}
		var all []string
		for _, t := range ask[*kmsg.ListPartitionReassignmentsResponse](c, r).Topics {
			for _, p := range t.Partitions {
				all = append(all, fmt.Sprintf("%s-%d %v +%v -%v", t.Topic, p.Partition, p.Replicas, p.AddingReplicas, p.RemovingReplicas))
			}
		}
		return strings.Join(all, ", ")
	}
	keep := assign(0, 2, 3)
	keep.AllowReplicationFactorChange = false
	wantCode(t, "another number", code(keep), kerr.InvalidReplicaAssignment)
	none := assign(0)
	none.Topics[0].Partitions[0].Replicas = []int32{}
	wantCode(t, "no node", code(none), kerr.InvalidReplicaAssignment)
	both := assign(0, 2, 3)
	both.Topics[0].Partitions = append(both.Topics[0].Partitions, assign(1, 7).Topics[0].Partitions[0])
	got := ask[*kmsg.AlterPartitionAssignmentsResponse](c, both).Topics[0].Partitions
	wantCode(t, "one that is well", got[0].ErrorCode, nil)
	wantCode(t, "beside one that is not", got[1].ErrorCode, kerr.InvalidReplicaAssignment)
	const want = "t-0 [2 3 1] +[] -[1]"
	if all, named, other := list(), list("t"), list("none"); all != want || named != want || other != "" {
		t.Errorf("under way: %q, of t %q, of none %q, want %q", all, named, other, want)
	}
	if p := ns.metadata(c, "t").Partitions[0]; !slices.Equal(p.Replicas, []int32{2, 3, 1}) {
		t.Errorf("while it moves: %+v", p)
	}
	wantCode(t, "take it back", code(assign(0)), nil)
	if all := list(); all != "" {
		t.Errorf("after it was taken back: %q", all)
	}
	wantCode(t, "take back nothing", code(assign(1)), kerr.NoReassignmentInProgress)
}

// kafka-reassign-partitions takes the throttles away that it might have set, once
// all is where it shall be. A broker's other settings are not changed like this.
func TestThrottlesAreTakenAway(t *testing.T) {
	s := startSite(t, quick())
	s.topic(t, "t", 1)
	c, rate := s.dial(t), "1"
	alter := func(kind kmsg.ConfigResourceType, resource string, op kmsg.IncrementalAlterConfigOp, value *string, names ...string) int16 {
		r := kmsg.IncrementalAlterConfigsRequestResource{ResourceType: kind, ResourceName: resource}
		for _, name := range names {
			r.Configs = append(r.Configs, kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Op: op, Value: value})
		}
		return ask[*kmsg.IncrementalAlterConfigsResponse](c, &kmsg.IncrementalAlterConfigsRequest{Version: 1, Resources: []kmsg.IncrementalAlterConfigsRequestResource{r}}).Resources[0].ErrorCode
	}
	const broker, topic, set, del = kmsg.ConfigResourceTypeBroker, kmsg.ConfigResourceTypeTopic, kmsg.IncrementalAlterConfigOpSet, kmsg.IncrementalAlterConfigOpDelete
	wantCode(t, "a broker's", alter(broker, "1", del, nil, throttles[:]...), nil)
	wantCode(t, "a topic's", alter(topic, "t", del, nil, "leader.replication.throttled.replicas", "follower.replication.throttled.replicas"), nil)
	wantCode(t, "set a broker's", alter(broker, "1", set, &rate, throttles[0]), kerr.InvalidRequest)
	wantCode(t, "another beside it", alter(broker, "1", del, nil, throttles[0], "log.retention.ms"), kerr.InvalidRequest)
}

// metadata is a topic as a node describes it.
func (ns nodes) metadata(c *rawConn, topic string) kmsg.MetadataResponseTopic {
	return ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 12, Topics: []kmsg.MetadataRequestTopic{{Topic: &topic}}}).Topics[0]
}

// The preferred replica is let lead by the present leader, whatever node is
// asked.
func TestPreferredLeadersAreElected(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	ns.spread(t, "t")
	c := ns[2].dial(t)
	elect := func(kind int8, topics ...kmsg.ElectLeadersRequestTopic) (got []string) {
		r := kmsg.NewPtrElectLeadersRequest()
		r.Version, r.ElectionType, r.Topics = 2, kind, topics
		for _, t := range ask[*kmsg.ElectLeadersResponse](c, r).Topics {
			for _, p := range t.Partitions {
				text := fmt.Sprintf("%s-%d", t.Topic, p.Partition)
				if err := kerr.TypedErrorForCode(p.ErrorCode); err != nil {
					text += " " + err.Message
				}
				got = append(got, text)
			}
		}
		return got
	}
	check := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	one := func(ps ...int32) kmsg.ElectLeadersRequestTopic {
		return kmsg.ElectLeadersRequestTopic{Topic: "t", Partitions: ps}
	}
	check("nothing to do", elect(0))
	check("named", elect(0, one(0, 9)), "t-0 ELECTION_NOT_NEEDED", "t-9 UNKNOWN_TOPIC_OR_PARTITION")
	ns.move(t, "t", 0, 2)
	ns.move(t, "t", 1, 3)
	check("some that are elsewhere", elect(0), "t-0", "t-1")
	for p, leader := range []int32{1, 2, 3} {
		if got := ns.metadata(c, "t").Partitions[p].Leader; got != leader {
			t.Errorf("t-%d is led by %d, want %d", p, got, leader)
		}
	}
	ns.move(t, "t", 0, 2)
	ns[0].cut(1, true)
	check("the preferred one is down", elect(0, one(0)), "t-0 PREFERRED_LEADER_NOT_AVAILABLE")
	ns[0].cut(1, false)
	ns[0].cut(2, true)
	check("the leader is not reached", elect(0, one(0)), "t-0 PREFERRED_LEADER_NOT_AVAILABLE")
	ns[0].cut(2, false)
	check("unclean, with a leader", elect(1, one(0)), "t-0 ELECTION_NOT_NEEDED")
	ns.move(t, "t", 0, 0)
	check("unclean, without", elect(1, one(0)), "t-0 ELIGIBLE_LEADERS_NOT_AVAILABLE")
	check("preferred, without", elect(0, one(0)), "t-0 PREFERRED_LEADER_NOT_AVAILABLE")
}

// Clients are sent to nodes that are there; replicas on others are offline.
func TestMetadataOfNodesThatAreDown(t *testing.T) {
	ns := nodes(startNodes(t, 3, quick()))
	ns.spread(t, "t")
	c := ns[0].dial(t)
	ns[0].cut(3, true)
	look := func() string {
		m := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 12})
		var ids []int32
		for _, b := range m.Brokers {
			ids = append(ids, b.NodeID)
		}
		p := m.Topics[0].Partitions[2]
		return fmt.Sprintf("brokers %v, t-2 led by %d, %v, in sync %v, offline %v", ids, p.Leader, p.Replicas, p.ISR, p.OfflineReplicas)
	}
	if got, want := look(), "brokers [1 2 3], t-2 led by 3, [3 1 2], in sync [1 2], offline [3]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	ns.move(t, "t", 2, 1)
	if got, want := look(), "brokers [1 2], t-2 led by 1, [3 1 2], in sync [1 2], offline [3]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	l := ns[0].memLog(t, "t", 2)
	appendIn(t, l, batch(t, record.None, "v"))
	l.hear(2, 0)
	if got, want := look(), "brokers [1 2], t-2 led by 1, [3 1 2], in sync [1], offline [3]"; got != want {
		t.Errorf("with node 2 behind: %s, want %s", got, want)
	}
	l.hear(2, -1)
	paged := ask[*kmsg.DescribeTopicPartitionsResponse](c, &kmsg.DescribeTopicPartitionsRequest{ResponsePartitionLimit: 10}).Topics[0].Partitions[2]
	if !slices.Equal(paged.OfflineReplicas, []int32{3}) || !slices.Equal(paged.ISR, []int32{1, 2}) {
		t.Errorf("in pages: %+v", paged)
	}
	if got := ask[*kmsg.DescribeClusterResponse](c, &kmsg.DescribeClusterRequest{Version: 2, EndpointType: 1}); len(got.Brokers) != 2 || got.ControllerID != 1 {
		t.Errorf("the cluster: %+v", got)
	}
	// What nobody leads is no fault of the client: Java's consumer would end.
	ns.move(t, "t", 0, 0)
	f := fetchRequest(12, "t", [16]byte{}, 0)
	wantCode(t, "fetch without a leader", fetched(c, f).ErrorCode, kerr.NotLeaderForPartition)
	ns[0].cut(3, false)
	for key, want := range map[string]*kerr.Error{"g:AAAAAAAAAAAAAAAAAAAAAQ:0": nil, "g:x:0": kerr.InvalidRequest, "g": kerr.InvalidRequest} {
		r := &kmsg.FindCoordinatorRequest{Version: 6, CoordinatorType: coordinatorOfShare, CoordinatorKeys: []string{key}}
		wantCode(t, key, ask[*kmsg.FindCoordinatorResponse](c, r).Coordinators[0].ErrorCode, want)
	}
}

// Each node calls itself the controller, also where another one leads the catalog:
// it passes changes on, and is there for who has just asked it.
func TestEachNodeIsController(t *testing.T) {
	for i, n := range nodes(startNodes(t, 3, quick())) {
		want, c := int32(i+1), n.dial(t)
		md := ask[*kmsg.MetadataResponse](c, &kmsg.MetadataRequest{Version: 12})
		dc := ask[*kmsg.DescribeClusterResponse](c, &kmsg.DescribeClusterRequest{Version: 2, EndpointType: 1})
		if md.ControllerID != want || dc.ControllerID != want {
			t.Errorf("node %d: the controller is %d in Metadata, %d in DescribeCluster", want, md.ControllerID, dc.ControllerID)
		}
	}
}

// A topic without a number of replicas has one on each of three nodes, and
// otherwise one: two replicas need both.
func TestReplicasByDefault(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 1, 4: 3} {
		ns := nodes(startNodes(t, n, quick()))
		c := ns[0].dial(t)
		r := &kmsg.CreateTopicsRequest{Version: 7, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "t", NumPartitions: -1, ReplicationFactor: -1}}}
		wantCode(t, "create", ask[*kmsg.CreateTopicsResponse](c, r).Topics[0].ErrorCode, nil)
		ns.coordinator(t, coordinatorOfGroup, "g")
		for _, topic := range []string{"t", catalog.OffsetsTopic} {
			if got := len(ns.metadata(c, topic).Partitions[0].Replicas); got != want {
				t.Errorf("%d nodes: %s has %d replicas, want %d", n, topic, got, want)
			}
		}
	}
}
