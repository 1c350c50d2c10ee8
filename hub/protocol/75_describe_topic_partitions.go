package protocol

import (
	"cmp"
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// DescribeTopicPartitions: v0 (flexible)
//
// Behaviour:
//   - Metadata in pages (KIP-966): topics by name, at most as many partitions
//     as asked for and 2,000, and a cursor to go on from.
var describeTopicPartitionsAPI = api{
	key: 75, name: "DescribeTopicPartitions", min: 0, max: 0,
	shape:  body(0, array(str()), fixed(4), maybe(str(), fixed(4))),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceTopic)),
	handle: plain[kmsg.DescribeTopicPartitionsRequest]((*Server).describeTopicPartitions),
}

const partitionsPerPage = 2000

func (s *Server) describeTopicPartitions(_ context.Context, r *request, req *kmsg.DescribeTopicPartitionsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	st := s.meta.State()
	left := min(max(int(req.ResponsePartitionLimit), 1), partitionsPerPage)
	for _, name := range s.pagedNames(r, st, req) {
		from := int32(0)
		if c := req.Cursor; c != nil {
			if name < c.Topic {
				continue
			}
			if name == c.Topic {
				from = max(c.Partition, 0)
			}
		}
		t, err := s.findFor(r, catalog.OpDescribe, st, false, name, record.TopicID{})
		if left == 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: from}
			break
		}
		ot := kmsg.NewDescribeTopicPartitionsResponseTopic()
		ot.Topic, ot.ErrorCode = &name, code(err)
		if err == nil {
			ot.TopicID, ot.IsInternal, ot.AuthorizedOperations = t.ID, isInternal(name), s.operations(r, catalog.ResourceTopic, name)
			to := min(len(t.Partitions), int(from)+left)
			for i := int(from); i < to; i++ {
				ot.Partitions = append(ot.Partitions, s.pagedPartition(t, int32(i)))
			}
			left -= len(ot.Partitions)
			if to < len(t.Partitions) {
				resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: int32(to)}
			}
		}
		resp.Topics = append(resp.Topics, ot)
		if resp.NextCursor != nil {
			break
		}
	}
	return resp
}

// pagedNames are the topics asked for, or all, by name.
func (s *Server) pagedNames(r *request, st *catalog.State, req *kmsg.DescribeTopicPartitionsRequest) (names []string) {
	for _, t := range req.Topics {
		names = append(names, t.Topic)
	}
	if len(req.Topics) == 0 {
		for _, t := range s.visible(r, st.Topics()) {
			names = append(names, t.Name)
		}
	}
	slices.SortFunc(names, cmp.Compare)
	return slices.Compact(names)
}

func (s *Server) pagedPartition(t *catalog.Topic, i int32) kmsg.DescribeTopicPartitionsResponseTopicPartition {
	op := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
	op.Partition = i
	op.LeaderID, op.LeaderEpoch = s.parts.Leader(t.Name, i)
	if op.LeaderID < 0 {
		op.ErrorCode = code(record.ErrLeaderUnknown)
	}
	op.Replicas, op.ISR, op.OfflineReplicas = s.replicas(t, i)
	// Empty, not null: Java's client takes null for a fault of its own.
	op.EligibleLeaderReplicas, op.LastKnownELR = []int32{}, []int32{}
	return op
}
