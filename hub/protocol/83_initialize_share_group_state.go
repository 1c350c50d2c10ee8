package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// InitializeShareGroupState: v0 (KIP-932)
//
// Behaviour:
//   - Between nodes. Makes what a share group keeps of a partition, or, with a
//     higher state epoch, puts it back to a start; said again it changes nothing.
//     Durable when it is answered.
//   - The node that leads the partition that is shared gets it, too, and drops
//     what it had read.
var initializeShareStateAPI = api{
	key: 83, name: "InitializeShareGroupState", min: 0, max: 0,
	shape:  body(0, str(), array(fixed(16), array(fixed(4), fixed(4), fixed(8)))),
	needs:  needs(on(catalog.OpClusterAction, catalog.ResourceCluster)),
	handle: plain[kmsg.InitializeShareGroupStateRequest]((*Server).initializeShareState),
}

func (s *Server) initializeShareState(ctx context.Context, r *request, req *kmsg.InitializeShareGroupStateRequest) kmsg.Response {
	resp := kmsg.NewPtrInitializeShareGroupStateResponse()
	denied := s.maySite(r, catalog.OpClusterAction)
	for _, t := range req.Topics {
		ot := kmsg.NewInitializeShareGroupStateResponseTopic()
		ot.TopicID = t.TopicID
		for _, p := range t.Partitions {
			k, err := shareKey{req.GroupID, t.TopicID, p.Partition}, denied
			switch {
			case err != nil:
			case p.StateEpoch < 0 || p.StartOffset < 0:
				err = fmt.Errorf("%w: state epoch %d, start %d", record.ErrInvalidRequest, p.StateEpoch, p.StartOffset)
			default:
				err = s.shares.begin(ctx, k, p.StateEpoch, p.StartOffset)
				s.windows.forget(k)
			}
			op := kmsg.NewInitializeShareGroupStateResponseTopicPartition()
			op.Partition, op.ErrorCode, op.ErrorMessage = p.Partition, code(err), message(err)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}
