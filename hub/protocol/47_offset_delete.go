package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// OffsetDelete: v0
//
// Behaviour:
//   - Only for groups without members (KIP-496): what members subscribe to is
//     not looked into.
var offsetDeleteAPI = api{
	key: 47, name: "OffsetDelete", min: 0, max: 0,
	shape:  body(lastVersion, str(), array(str(), array(fixed(4)))),
	handle: plain[kmsg.OffsetDeleteRequest]((*Server).offsetDelete),
}

func (s *Server) offsetDelete(ctx context.Context, _ *request, req *kmsg.OffsetDeleteRequest) kmsg.Response {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	var tps []record.TopicPartition
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			tps = append(tps, record.TopicPartition{Topic: t.Topic, Partition: p.Partition})
		}
	}
	subscribed, err := s.deleteOffsets(ctx, req.Group, tps)
	if err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	for _, t := range req.Topics {
		ot := kmsg.OffsetDeleteResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			ot.Partitions = append(ot.Partitions, kmsg.OffsetDeleteResponseTopicPartition{Partition: p.Partition, ErrorCode: code(subscribed)})
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

// deleteOffsets removes offsets; subscribed says why each of them stays.
func (s *Server) deleteOffsets(ctx context.Context, id string, tps []record.TopicPartition) (subscribed, err error) {
	_, err = s.groups.ask(ctx, id, func(_ time.Time, g *group.Group, t group.Ticket) group.Output {
		if g.Vacant() {
			return group.Output{Answers: []group.Answer{{Ticket: t, Err: group.ErrNotFound}}}
		}
		return g.DeleteOffsets(t, tps)
	})
	if code(err) == code(group.ErrSubscribed) {
		return err, nil
	}
	return nil, err
}
