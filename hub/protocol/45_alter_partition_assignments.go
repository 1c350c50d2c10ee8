package protocol

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// AlterPartitionReassignments: v0-1
//
// Behaviour:
//   - Replicas stay where they are: what a partition has already is accepted,
//     anything else is INVALID_REPLICA_ASSIGNMENT. Nothing is ever under way, so
//     that there is nothing to cancel (NO_REASSIGNMENT_IN_PROGRESS).
//
// Version notes:
//   - v0: flexible; v1: whether the number of replicas may change
var alterPartitionAssignmentsAPI = api{
	key: 45, name: "AlterPartitionAssignments", min: 0, max: 1,
	shape:  body(0, fixed(4), fixed(1).from(1), array(str(), array(fixed(4), list(fixed(4))))),
	needs:  needs(on(catalog.OpAlter, catalog.ResourceCluster)),
	handle: plain[kmsg.AlterPartitionAssignmentsRequest]((*Server).alterPartitionAssignments),
}

var (
	errNotMoving  = errors.New("no reassignment is in progress")
	errCannotMove = errors.New("replicas cannot be moved by this version")
)

func (s *Server) alterPartitionAssignments(_ context.Context, r *request, req *kmsg.AlterPartitionAssignmentsRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	if err := s.maySite(r, catalog.OpAlter); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	st := s.meta.State()
	for _, rt := range req.Topics {
		ot := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		ot.Topic = rt.Topic
		t, err := find(st, false, rt.Topic, record.TopicID{})
		for _, rp := range rt.Partitions {
			op := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			why := hasPartition(t, rp.Partition, err)
			switch {
			case why != nil:
			case rp.Replicas == nil:
				why = fmt.Errorf("%w: %s-%d", errNotMoving, rt.Topic, rp.Partition)
			case !slices.Equal(rp.Replicas, t.Partitions[rp.Partition].Replicas):
				why = fmt.Errorf("%w: %s-%d is on %v", errCannotMove, rt.Topic, rp.Partition, t.Partitions[rp.Partition].Replicas)
			}
			op.Partition, op.ErrorCode, op.ErrorMessage = rp.Partition, code(why), message(why)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}
