package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// ReadShareGroupState: v0 (KIP-932)
//
// Behaviour:
//   - Between nodes. What a share group keeps of a partition, for who leads the
//     partition: leaders of lower epochs are refused from then on. Epoch -1 reads
//     it for nobody.
//   - A start of -1: there is nothing.
var readShareStateAPI = api{
	key: 84, name: "ReadShareGroupState", min: 0, max: 0,
	shape:  body(0, str(), array(fixed(16), array(fixed(4), fixed(4)))),
	needs:  needs(on(catalog.OpClusterAction, catalog.ResourceCluster)),
	handle: plain[kmsg.ReadShareGroupStateRequest]((*Server).readShareState),
}

func (s *Server) readShareState(ctx context.Context, r *request, req *kmsg.ReadShareGroupStateRequest) kmsg.Response {
	resp := kmsg.NewPtrReadShareGroupStateResponse()
	denied := s.maySite(r, catalog.OpClusterAction)
	for _, t := range req.Topics {
		ot := kmsg.NewReadShareGroupStateResponseTopic()
		ot.TopicID = t.TopicID
		for _, p := range t.Partitions {
			op, err := kmsg.NewReadShareGroupStateResponseTopicPartition(), denied
			op.StartOffset = -1
			var found shareFound
			if err == nil {
				found, err = s.shares.look(ctx, shareKey{req.GroupID, t.TopicID, p.Partition}, p.LeaderEpoch)
			}
			if err == nil && found.there {
				op.StateEpoch, op.StartOffset = found.epoch, found.start
				for _, b := range found.batches {
					op.StateBatches = append(op.StateBatches, kmsg.ReadShareGroupStateResponseTopicPartitionStateBatch{
						FirstOffset: b.First, LastOffset: b.Last, DeliveryState: int8(b.State), DeliveryCount: b.Count,
					})
				}
			}
			op.Partition, op.ErrorCode, op.ErrorMessage = p.Partition, code(err), message(err)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}
