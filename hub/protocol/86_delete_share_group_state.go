package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// DeleteShareGroupState: v0 (KIP-932)
//
// Behaviour:
//   - Between nodes. Forgets what a share group keeps of a partition. Durable when
//     it is answered.
//   - The node that leads the partition that is shared gets it, too, and drops
//     what it had read.
var deleteShareStateAPI = api{
	key: 86, name: "DeleteShareGroupState", min: 0, max: 0,
	shape:  body(0, str(), array(fixed(16), array(fixed(4)))),
	needs:  needs(on(catalog.OpClusterAction, catalog.ResourceCluster)),
	handle: plain[kmsg.DeleteShareGroupStateRequest]((*Server).deleteShareState),
}

func (s *Server) deleteShareState(ctx context.Context, r *request, req *kmsg.DeleteShareGroupStateRequest) kmsg.Response {
	resp := kmsg.NewPtrDeleteShareGroupStateResponse()
	denied := s.maySite(r, catalog.OpClusterAction)
	for _, t := range req.Topics {
		ot := kmsg.NewDeleteShareGroupStateResponseTopic()
		ot.TopicID = t.TopicID
		for _, p := range t.Partitions {
			k, err := shareKey{req.GroupID, t.TopicID, p.Partition}, denied
			if err == nil {
				err = s.shares.remove(ctx, k)
				s.windows.forget(k)
			}
			op := kmsg.NewDeleteShareGroupStateResponseTopicPartition()
			op.Partition, op.ErrorCode, op.ErrorMessage = p.Partition, code(err), message(err)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}
