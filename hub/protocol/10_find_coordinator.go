package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// FindCoordinator: v0-6
//
// Behaviour:
//   - A group's coordinator is the leader of its partition of
//     __consumer_offsets, which the first request creates.
//   - Coordinators of transactions and share groups get INVALID_REQUEST: a
//     client that asked again would do so for ever.
//
// Version notes:
//   - v1: type and error message; v3: flexible; v4: several keys
var findCoordinatorAPI = api{
	key: 10, name: "FindCoordinator", min: 0, max: 6,
	shape:  body(3, str().to(3), fixed(1).from(1), list(str()).from(4)),
	handle: plain[kmsg.FindCoordinatorRequest]((*Server).findCoordinator),
}

const coordinatorOfGroup = 0

func (s *Server) findCoordinator(ctx context.Context, r *request, req *kmsg.FindCoordinatorRequest) kmsg.Response {
	resp := kmsg.NewPtrFindCoordinatorResponse()
	if req.Version < 4 {
		c := s.findOne(ctx, r, req.CoordinatorType, req.CoordinatorKey)
		resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
		resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
		return resp
	}
	for _, key := range req.CoordinatorKeys {
		resp.Coordinators = append(resp.Coordinators, s.findOne(ctx, r, req.CoordinatorType, key))
	}
	return resp
}

func (s *Server) findOne(ctx context.Context, r *request, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	out := kmsg.NewFindCoordinatorResponseCoordinator()
	out.Key, out.NodeID, out.Port = key, -1, -1
	n, err := s.coordinatorOf(ctx, kind, key)
	if err != nil {
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
		return out
	}
	out.NodeID = n.ID
	out.Host, out.Port = s.advertised(r, n)
	return out
}

func (s *Server) coordinatorOf(ctx context.Context, kind int8, key string) (catalog.Node, error) {
	switch {
	case kind == 1:
		return catalog.Node{}, errNoTransactions
	case kind != coordinatorOfGroup:
		return catalog.Node{}, fmt.Errorf("%w: coordinator type %d, want %d", record.ErrInvalidRequest, kind, coordinatorOfGroup)
	}
	p, err := s.groups.shardOf(ctx, key)
	if err != nil {
		return catalog.Node{}, coordinatorError(err)
	}
	leader, _ := s.parts.Leader(catalog.OffsetsTopic, p)
	n, ok := s.meta.State().Node(leader)
	if !ok {
		return n, fmt.Errorf("%w: nobody leads %s-%d at present", errNoCoordinator, catalog.OffsetsTopic, p)
	}
	return n, nil
}
