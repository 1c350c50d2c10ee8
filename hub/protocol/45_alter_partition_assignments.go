package protocol

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// AlterPartitionReassignments: v0-1 (KIP-455)
//
// Behaviour:
//   - Says where partitions shall be; each stands for itself. Answered when the
//     catalog has the wish: the leader of the partition takes its group there,
//     which ListPartitionReassignments and Metadata show until it is done.
//   - Null replicas cancel what is under way (NO_REASSIGNMENT_IN_PROGRESS).
//
// Version notes:
//   - v0: flexible; v1: whether the number of replicas may change (KIP-860)
var alterPartitionAssignmentsAPI = api{
	key: 45, name: "AlterPartitionAssignments", min: 0, max: 1,
	shape:  body(0, fixed(4), fixed(1).from(1), array(str(), array(fixed(4), list(fixed(4))))),
	needs:  needs(on(catalog.OpAlter, catalog.ResourceCluster)),
	handle: plain[kmsg.AlterPartitionAssignmentsRequest]((*Server).alterPartitionAssignments),
}

func (s *Server) alterPartitionAssignments(ctx context.Context, r *request, req *kmsg.AlterPartitionAssignmentsRequest) kmsg.Response {
	ctx, cancel := adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrAlterPartitionAssignmentsResponse()
	if err := s.maySite(r, catalog.OpAlter); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	errs, err := s.reassign(ctx, req)
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	for _, rt := range req.Topics {
		ot := kmsg.NewAlterPartitionAssignmentsResponseTopic()
		ot.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			op := kmsg.NewAlterPartitionAssignmentsResponseTopicPartition()
			op.Partition, op.ErrorCode, op.ErrorMessage = rp.Partition, code(errs[0]), message(errs[0])
			errs = errs[1:]
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

// reassign returns an outcome for each partition of a request, in its order.
func (s *Server) reassign(ctx context.Context, req *kmsg.AlterPartitionAssignmentsRequest) ([]error, error) {
	var cmd catalog.AlterPartitionReassignments
	var errs []error
	var asked []int // of the command, in errs
	for _, rt := range req.Topics {
		for _, rp := range rt.Partitions {
			if rp.Replicas != nil && len(rp.Replicas) == 0 { // null, and nothing else, cancels
				errs = append(errs, fmt.Errorf("%w: no node is named for %s-%d", catalog.ErrInvalidAssignment, rt.Topic, rp.Partition))
				continue
			}
			asked, errs = append(asked, len(errs)), append(errs, nil)
			cmd.Partitions = append(cmd.Partitions, catalog.Reassignment{
				Topic: rt.Topic, Partition: rp.Partition, Replicas: slices.Clone(rp.Replicas),
				KeepFactor: req.Version >= 1 && !req.AllowReplicationFactorChange,
			})
		}
	}
	if len(cmd.Partitions) == 0 {
		return errs, nil
	}
	v, err := s.meta.Propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	got, ok := v.([]error)
	if !ok || len(got) != len(asked) {
		return nil, fmt.Errorf("the catalog answered %T for %d partitions", v, len(asked))
	}
	for i, err := range got {
		errs[asked[i]] = err
	}
	return errs, nil
}
