package protocol

import (
	"cmp"
	"context"
	"encoding/binary"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// DescribeQuorum: v0-2 (flexible, KIP-595)
//
// Behaviour:
//   - The group that orders the site's catalog, under the name that Kafka has for
//     its own: partition 0 of __cluster_metadata. Offsets are Raft's indexes,
//     voters those of the group, observers its learners.
//   - Its leader answers; other nodes pass the request on to it.
//
// Version notes:
//   - v1: times of the last fetch, and of when a replica had all: now, or -1 where
//     that is not so (KIP-836)
//   - v2: directory IDs, here the member's ID with its incarnation; addresses of
//     nodes (KIP-853)
var describeQuorumAPI = api{
	key: 55, name: "DescribeQuorum", min: 0, max: 2,
	shape:  body(0, array(str(), array(fixed(4)))),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceCluster)),
	handle: plain[kmsg.DescribeQuorumRequest]((*Server).describeQuorum),
}

// metadataTopic is what Kafka calls the log of its catalog.
const metadataTopic = "__cluster_metadata"

// Quorum is the group that orders the catalog, as its leader sees it.
type Quorum struct {
	Leader       int32
	Epoch        int32
	Commit, Last uint64 // Raft indexes
	Members      []QuorumMember
}

// QuorumMember is one of its members.
type QuorumMember struct {
	Node    int32
	ID      uint64
	Learner bool
	Match   uint64 // it has the log up to here
	Active  bool   // it was heard lately
}

func (s *Server) describeQuorum(ctx context.Context, r *request, req *kmsg.DescribeQuorumRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeQuorumResponse()
	if err := s.maySite(r, catalog.OpDescribe); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	if leader, _ := s.parts.Leader(catalog.MetaGroup, 0); s.peers.other(leader) && !r.peer {
		passed, err := askOf[*kmsg.DescribeQuorumResponse](s.peers.ask(ctx, leader, req))
		if err == nil {
			s.quorumNodes(r, passed)
			return passed
		}
	}
	q, err := s.quorum(ctx)
	for _, rt := range req.Topics {
		ot := kmsg.NewDescribeQuorumResponseTopic()
		ot.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			why := err
			if rt.Topic != metadataTopic || rp.Partition != 0 {
				why = record.ErrUnknownTopic
			}
			ot.Partitions = append(ot.Partitions, s.quorumPartition(rp.Partition, q, why))
		}
		resp.Topics = append(resp.Topics, ot)
	}
	s.quorumNodes(r, resp)
	return resp
}

// quorum is what this node knows as the leader.
func (s *Server) quorum(ctx context.Context) (Quorum, error) {
	if s.cfg.Quorum == nil {
		return Quorum{}, record.ErrNotLeader
	}
	return s.cfg.Quorum(ctx)
}

func (s *Server) quorumPartition(partition int32, q Quorum, err error) kmsg.DescribeQuorumResponseTopicPartition {
	op := kmsg.NewDescribeQuorumResponseTopicPartition()
	op.Partition, op.ErrorCode, op.ErrorMessage, op.LeaderID = partition, code(err), message(err), -1
	if err != nil {
		return op
	}
	op.LeaderID, op.LeaderEpoch, op.HighWatermark = q.Leader, q.Epoch, int64(q.Commit)
	now := s.cfg.Clock().UnixMilli()
	for _, m := range q.Members {
		one := kmsg.NewDescribeQuorumResponseTopicPartitionReplicaState()
		one.ReplicaID, one.LogEndOffset, one.LastFetchTimestamp, one.LastCaughtUpTimestamp = m.Node, int64(m.Match), -1, -1
		binary.BigEndian.PutUint64(one.ReplicaDirectoryID[8:], m.ID)
		if m.Active {
			one.LastFetchTimestamp = now
			if m.Match >= q.Last {
				one.LastCaughtUpTimestamp = now
			}
		}
		if m.Learner {
			op.Observers = append(op.Observers, one)
		} else {
			op.CurrentVoters = append(op.CurrentVoters, one)
		}
	}
	return op
}

// quorumNodes adds where the client reaches the members.
func (s *Server) quorumNodes(r *request, resp *kmsg.DescribeQuorumResponse) {
	resp.Nodes = nil
	if r.peer {
		return // who asked knows its client's listener
	}
	for _, n := range s.reachable(r) {
		host, port := s.advertised(r, n)
		l := kmsg.NewDescribeQuorumResponseNodeListener()
		l.Name, l.Host, l.Port = strings.ToUpper(cmp.Or(r.listener, MainListener)), host, uint16(port) // Java's client takes no other names
		resp.Nodes = append(resp.Nodes, kmsg.DescribeQuorumResponseNode{NodeID: n.ID, Listeners: []kmsg.DescribeQuorumResponseNodeListener{l}})
	}
}
