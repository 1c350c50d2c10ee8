package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// DeleteTopics: v1-6
//
// Behaviour:
//   - Groups forget their offsets of a deleted topic: one of the same name that
//     comes later must not begin at them.
//
// Version notes:
//   - v4: flexible; v5: error message, THROTTLING_QUOTA_EXCEEDED (KIP-599); v6: by name or by ID
var deleteTopicsAPI = api{
	key: 20, name: "DeleteTopics", min: 1, max: 6,
	shape:  body(4, array(str(), fixed(16)).from(6), list(str()).to(5), fixed(4)),
	needs:  needs(on(catalog.OpDelete, catalog.ResourceTopic)),
	handle: plain[kmsg.DeleteTopicsRequest]((*Server).deleteTopics),
}

func (s *Server) deleteTopics(ctx context.Context, r *request, req *kmsg.DeleteTopicsRequest) kmsg.Response {
	ctx, cancel := adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	topics := req.Topics
	for _, name := range req.TopicNames {
		topics = append(topics, kmsg.DeleteTopicsRequestTopic{Topic: &name})
	}
	resp := kmsg.NewPtrDeleteTopicsResponse()
	for i := range topics {
		ot := kmsg.NewDeleteTopicsResponseTopic()
		ot.Topic, ot.TopicID = topics[i].Topic, topics[i].TopicID
		t, err := s.deleteTopic(ctx, r, &topics[i])
		if t != nil {
			ot.Topic, ot.TopicID = &t.Name, t.ID
		}
		ot.ErrorCode, ot.ErrorMessage = code(err), message(err)
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

func (s *Server) deleteTopic(ctx context.Context, r *request, rt *kmsg.DeleteTopicsRequestTopic) (*catalog.Topic, error) {
	byID := !record.TopicID(rt.TopicID).IsZero()
	if byID == (rt.Topic != nil) {
		return nil, fmt.Errorf("%w: a topic is named by its name or by its ID, one of them", record.ErrInvalidRequest)
	}
	t, err := s.findToChange(ctx, r, catalog.OpDelete, byID, orEmpty(rt.Topic), rt.TopicID)
	if err != nil {
		return nil, err
	}
	if err := s.mayMutate(r, r.version >= 5); err != nil {
		return t, err
	}
	if _, err := s.meta.Propose(ctx, catalog.DeleteTopic{Name: t.Name}); err != nil {
		return t, err
	}
	s.mutated(r, len(t.Partitions))
	s.groups.topicDeleted(t.Name)
	return t, nil
}
