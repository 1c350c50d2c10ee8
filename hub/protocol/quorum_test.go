package protocol

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestDescribeQuorum: the leader of the catalog's group tells of it, in each
// version; of other topics, and where nobody leads, there is nothing to tell.
func TestDescribeQuorum(t *testing.T) {
	req := func(version int16, topic string) *kmsg.DescribeQuorumRequest {
		return &kmsg.DescribeQuorumRequest{Version: version, Topics: []kmsg.DescribeQuorumRequestTopic{{Topic: topic, Partitions: []kmsg.DescribeQuorumRequestTopicPartition{{}}}}}
	}
	cfg := quick()
	cfg.Clock = func() time.Time { return time.UnixMilli(77) }
	none := startSite(t, cfg).dial(t)
	wantCode(t, "nobody leads", ask[*kmsg.DescribeQuorumResponse](none, req(2, metadataTopic)).Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition)
	cfg.Quorum = func(context.Context) (Quorum, error) {
		return Quorum{Leader: 1, Epoch: 4, Commit: 90, Last: 100, Members: []QuorumMember{
			{Node: 1, ID: 1, Match: 100, Active: true}, {Node: 2, ID: 3<<32 | 2, Match: 95, Active: true}, {Node: 3, ID: 3, Match: 100}, {Node: 4, ID: 4, Learner: true, Match: 100, Active: true},
		}}, nil
	}
	c := startSite(t, cfg).dial(t)
	for version := range int16(3) {
		resp := ask[*kmsg.DescribeQuorumResponse](c, req(version, metadataTopic))
		p := resp.Topics[0].Partitions[0]
		got := fmt.Sprint(p.LeaderID, p.LeaderEpoch, p.HighWatermark)
		for _, m := range append(p.CurrentVoters, p.Observers...) {
			got += fmt.Sprint(" ", m.ReplicaID, ":", m.LogEndOffset)
			if version > 0 {
				got += fmt.Sprint(",", m.LastFetchTimestamp, ",", m.LastCaughtUpTimestamp)
			}
			if version > 1 {
				got += fmt.Sprintf(",%x", m.ReplicaDirectoryID[8:])
			}
		}
		want := [...]string{
			"1 4 90 1:100 2:95 3:100 4:100",
			"1 4 90 1:100,77,77 2:95,77,-1 3:100,-1,-1 4:100,77,77",
			"1 4 90 1:100,77,77,0000000000000001 2:95,77,-1,0000000300000002 3:100,-1,-1,0000000000000003 4:100,77,77,0000000000000004",
		}[version]
		if got != want || p.ErrorCode != 0 || len(p.Observers) != 1 {
			t.Errorf("v%d: %s, error %d, want %s", version, got, p.ErrorCode, want)
		}
		if version > 1 && (len(resp.Nodes) != 1 || resp.Nodes[0].Listeners[0].Name != "KAFKA") {
			t.Errorf("nodes %+v", resp.Nodes)
		}
	}
	wantCode(t, "a topic", ask[*kmsg.DescribeQuorumResponse](c, req(2, "orders")).Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
}
