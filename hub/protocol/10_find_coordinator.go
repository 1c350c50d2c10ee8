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
//     __consumer_offsets, that of a transactional ID the leader of its partition
//     of __transaction_state. The first request creates the topic.
//   - Coordinators of share groups get INVALID_REQUEST: a client that asked
//     again would do so for ever.
//
// Version notes:
//   - v1: type and error message; v3: flexible; v4: several keys
var findCoordinatorAPI = api{
	key: 10, name: "FindCoordinator", min: 0, max: 6,
	shape:  body(3, str().to(3), fixed(1).from(1), list(str()).from(4)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceGroup, catalog.ResourceTransactionalID)),
	handle: plain[kmsg.FindCoordinatorRequest]((*Server).findCoordinator),
}

// Kinds of coordinators.
const (
	coordinatorOfGroup       = 0
	coordinatorOfTransaction = 1
)

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
	n, err := s.coordinatorOf(ctx, r, kind, key)
	if err != nil {
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
		return out
	}
	out.NodeID = n.ID
	out.Host, out.Port = s.advertised(r, n)
	return out
}

func (s *Server) coordinatorOf(ctx context.Context, r *request, kind int8, key string) (catalog.Node, error) {
	topic, shardOf, resource := catalog.OffsetsTopic, s.groups.shardOf, catalog.ResourceGroup
	switch kind {
	case coordinatorOfGroup:
	case coordinatorOfTransaction:
		topic, shardOf, resource = catalog.TransactionsTopic, s.txns.shardOf, catalog.ResourceTransactionalID
	default:
		return catalog.Node{}, fmt.Errorf("%w: coordinator type %d, want %d or %d", record.ErrInvalidRequest, kind, coordinatorOfGroup, coordinatorOfTransaction)
	}
	if err := s.may(r, catalog.OpDescribe, resource, key); err != nil {
		return catalog.Node{}, err
	}
	p, err := shardOf(ctx, key)
	if err != nil {
		return catalog.Node{}, coordinatorError(err)
	}
	leader, _ := s.parts.Leader(topic, p)
	n, ok := s.meta.State().Node(leader)
	if !ok {
		return n, fmt.Errorf("%w: nobody leads %s-%d at present", errNoCoordinator, topic, p)
	}
	return n, nil
}
