package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// AlterShareGroupOffsets: v0 (KIP-932)
//
// Behaviour:
//   - Puts the start of partitions where the client wants it, and forgets what
//     was delivered. The group must have no members; one that does not exist is
//     made.
//   - An offset outside the log is taken to its nearest end.
var alterShareOffsetsAPI = api{
	key: 91, name: "AlterShareGroupOffsets", min: 0, max: 0,
	shape:  body(0, str(), array(str(), array(fixed(4), fixed(8)))),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup), on(catalog.OpRead, catalog.ResourceTopic)),
	handle: plain[kmsg.AlterShareGroupOffsetsRequest]((*Server).alterShareOffsets),
}

func (s *Server) alterShareOffsets(ctx context.Context, r *request, req *kmsg.AlterShareGroupOffsetsRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterShareGroupOffsetsResponse()
	err := s.mayGroup(r, catalog.OpRead, req.GroupID)
	if err == nil && req.GroupID == "" {
		err = group.ErrInvalidGroupID
	}
	if err == nil {
		err = s.groups.vacantShare(ctx, req.GroupID)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		ot := kmsg.NewAlterShareGroupOffsetsResponseTopic()
		ot.Topic = rt.Topic
		t, err := s.findFor(r, catalog.OpRead, s.meta.State(), false, rt.Topic, record.TopicID{})
		if err == nil {
			ot.TopicID = t.ID
		}
		for _, p := range rt.Partitions {
			op := kmsg.NewAlterShareGroupOffsetsResponseTopicPartition()
			op.Partition = p.Partition
			fault := err
			if fault == nil {
				fault = s.alterShareOffset(ctx, req.GroupID, t, p.Partition, p.StartOffset)
			}
			op.ErrorCode, op.ErrorMessage = code(fault), message(fault)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

func (s *Server) alterShareOffset(ctx context.Context, id string, t *catalog.Topic, partition int32, offset int64) error {
	if offset < 0 {
		return fmt.Errorf("%w: offset %d", record.ErrInvalidRequest, offset)
	}
	s.vacant.leader(ctx, t.Name, partition)
	first, err := s.end(ctx, t, partition, timeEarliest)
	if err != nil {
		return err
	}
	next, err := s.end(ctx, t, partition, timeLatest)
	if err != nil {
		return err
	}
	return s.resetShare(ctx, shareKey{id, t.ID, partition}, max(first, min(offset, next)))
}
