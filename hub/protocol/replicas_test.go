package protocol

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// What tools ask about replicas and leaders is answered, and nothing moves.
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
