package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// OffsetDelete: v0
//
// Behaviour:
//   - Topics that members read keep their offsets (GROUP_SUBSCRIBED_TO_TOPIC,
//     KIP-496). A group with members that are no consumers is refused as a whole.
var offsetDeleteAPI = api{
	key: 47, name: "OffsetDelete", min: 0, max: 0,
	shape:  body(lastVersion, str(), array(str(), array(fixed(4)))),
	needs:  needs(on(catalog.OpDelete, catalog.ResourceGroup), on(catalog.OpRead, catalog.ResourceTopic)),
	handle: plain[kmsg.OffsetDeleteRequest]((*Server).offsetDelete),
}

func (s *Server) offsetDelete(ctx context.Context, r *request, req *kmsg.OffsetDeleteRequest) kmsg.Response {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	if err := s.mayGroup(r, catalog.OpDelete, req.Group); err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	var tps []record.TopicPartition
	for _, t := range req.Topics {
		if s.mayTopic(r, catalog.OpRead, t.Topic) != nil {
			continue
		}
		for _, p := range t.Partitions {
			tps = append(tps, record.TopicPartition{Topic: t.Topic, Partition: p.Partition})
		}
	}
	a, err := s.groups.ask(ctx, req.Group, func(_ time.Time, g *group.Group, t group.Ticket) group.Output {
		if g.Vacant() {
			return group.Output{Answers: []group.Answer{{Ticket: t, Err: group.ErrNotFound}}}
		}
		return g.DeleteOffsets(t, tps)
	})
	if err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	for _, t := range req.Topics {
		ot := kmsg.OffsetDeleteResponseTopic{Topic: t.Topic}
		denied := s.mayTopic(r, catalog.OpRead, t.Topic)
		for _, p := range t.Partitions {
			why := denied
			if why == nil {
				why, a.Commit = a.Commit[0], a.Commit[1:]
			}
			ot.Partitions = append(ot.Partitions, kmsg.OffsetDeleteResponseTopicPartition{Partition: p.Partition, ErrorCode: code(why)})
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}
