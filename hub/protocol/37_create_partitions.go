package protocol

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// CreatePartitions: v0-3
//
// Behaviour:
//   - Count is the number afterwards. Assignments are of the new ones alone.
//
// Version notes:
//   - v2: flexible; v3: THROTTLING_QUOTA_EXCEEDED (KIP-599)
var createPartitionsAPI = api{
	key: 37, name: "CreatePartitions", min: 0, max: 3,
	shape:  body(2, array(str(), fixed(4), array(list(fixed(4)))), fixed(4), fixed(1)),
	needs:  needs(on(catalog.OpAlter, catalog.ResourceTopic)),
	handle: plain[kmsg.CreatePartitionsRequest]((*Server).createPartitions),
}

func (s *Server) createPartitions(ctx context.Context, r *request, req *kmsg.CreatePartitionsRequest) kmsg.Response {
	ctx, cancel := adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrCreatePartitionsResponse()
	times := map[string]int{}
	for i := range req.Topics {
		times[req.Topics[i].Topic]++
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		cmd := catalog.CreatePartitions{Name: rt.Topic, Count: rt.Count}
		for _, a := range rt.Assignment {
			cmd.Assignment = append(cmd.Assignment, slices.Concat([]int32{}, a.Replicas))
		}
		err := fmt.Errorf("%w: topic %q", errDuplicate, rt.Topic)
		if denied := s.mayTopic(r, catalog.OpAlter, rt.Topic); denied != nil {
			err = denied
		} else if times[rt.Topic] == 1 {
			err = s.addPartitions(ctx, r, cmd, req.ValidateOnly)
		}
		ot := kmsg.NewCreatePartitionsResponseTopic()
		ot.Topic, ot.ErrorCode, ot.ErrorMessage = rt.Topic, code(err), message(err)
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

func (s *Server) addPartitions(ctx context.Context, r *request, cmd catalog.CreatePartitions, validate bool) error {
	if err := s.mayMutate(r, r.version >= 3); err != nil {
		return err
	}
	before := 0
	if t, ok := s.meta.State().Topic(cmd.Name); ok {
		before = len(t.Partitions)
	}
	_, err := s.change(ctx, cmd, validate)
	if err == nil && !validate {
		s.mutated(r, int(cmd.Count)-before)
	}
	return err
}
