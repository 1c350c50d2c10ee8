package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
)

// WriteShareGroupState: v0-1 (KIP-932)
//
// Behaviour:
//   - Between nodes. What the leader of a partition has of a share group there,
//     whole, not what has changed alone. Durable when it is answered.
//   - FENCED_LEADER_EPOCH: a later leader has read it. FENCED_STATE_EPOCH: it was
//     reset or removed.
//
// Version notes:
//   - v1: records that are done, which are counted here
var writeShareStateAPI = api{
	key: 85, name: "WriteShareGroupState", min: 0, max: 1,
	shape: body(0, str(), array(fixed(16), array(fixed(4), fixed(4), fixed(4), fixed(8), fixed(4).from(1),
		array(fixed(8), fixed(8), fixed(1), fixed(2))))),
	needs:  needs(on(catalog.OpClusterAction, catalog.ResourceCluster)),
	handle: plain[kmsg.WriteShareGroupStateRequest]((*Server).writeShareState),
}

func (s *Server) writeShareState(ctx context.Context, r *request, req *kmsg.WriteShareGroupStateRequest) kmsg.Response {
	resp := kmsg.NewPtrWriteShareGroupStateResponse()
	denied := s.maySite(r, catalog.OpClusterAction)
	for _, t := range req.Topics {
		ot := kmsg.NewWriteShareGroupStateResponseTopic()
		ot.TopicID = t.TopicID
		for _, p := range t.Partitions {
			err := denied
			if err == nil {
				batches := make([]share.Batch, len(p.StateBatches))
				for i, b := range p.StateBatches {
					batches[i] = share.Batch{First: b.FirstOffset, Last: b.LastOffset, State: share.State(b.DeliveryState), Count: b.DeliveryCount}
				}
				err = s.shares.store(ctx, shareKey{req.GroupID, t.TopicID, p.Partition}, p.StateEpoch, p.LeaderEpoch, p.StartOffset, batches)
			}
			op := kmsg.NewWriteShareGroupStateResponseTopicPartition()
			op.Partition, op.ErrorCode, op.ErrorMessage = p.Partition, code(err), message(err)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}
