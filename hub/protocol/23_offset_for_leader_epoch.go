package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// OffsetForLeaderEpoch: v2-4
//
// Behaviour:
//   - Answers from the partition's own history of epochs (KIP-320).
//
// Version notes:
//   - v3: replica ID; v4: flexible
var offsetForLeaderEpochAPI = api{
	key: 23, name: "OffsetForLeaderEpoch", min: 2, max: 4,
	shape:  body(4, fixed(4).from(3), array(str(), array(fixed(4), fixed(4), fixed(4)))),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceTopic)),
	handle: plain[kmsg.OffsetForLeaderEpochRequest]((*Server).offsetForLeaderEpoch),
}

func (s *Server) offsetForLeaderEpoch(_ context.Context, r *request, req *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	st := s.meta.State()
	for _, rt := range req.Topics {
		ot := kmsg.NewOffsetForLeaderEpochResponseTopic()
		ot.Topic = rt.Topic
		t, err := s.findFor(r, catalog.OpDescribe, st, false, rt.Topic, record.TopicID{})
		for _, rp := range rt.Partitions {
			op := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			op.Partition, op.LeaderEpoch, op.EndOffset = rp.Partition, -1, -1
			var p Partition
			perr := err
			if perr == nil {
				p, perr = s.serving(t, rp.Partition)
			}
			if perr == nil {
				perr = checkEpoch(rp.CurrentLeaderEpoch, p.Offsets().LeaderEpoch)
			}
			if perr == nil {
				end := p.EpochEnd(rp.LeaderEpoch)
				op.LeaderEpoch, op.EndOffset = end.Epoch, end.End
			}
			op.ErrorCode = code(perr)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}
