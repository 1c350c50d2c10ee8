package protocol

import (
	"context"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// FindCoordinator: v0-6
//
// Behaviour:
//   - A group's coordinator is the leader of its partition of
//     __consumer_offsets, that of a transactional ID the leader of its partition
//     of __transaction_state, that of what a share group has of a partition
//     (v6+, which brokers and tools ask for, with the key
//     group:topic ID:partition) the leader of its partition of
//     __share_group_state. The first request creates the topic.
//   - While it has no leader in reach the answer waits, for electionTime at most,
//     all keys together: not every client asks again (franz-go does not for
//     requests that may be about several groups).
//
// Version notes:
//   - v1: type and error message; v3: flexible; v4: several keys; v6: share groups
var findCoordinatorAPI = api{
	key: 10, name: "FindCoordinator", min: 0, max: 6,
	shape:  body(3, str().to(3), fixed(1).from(1), list(str()).from(4)),
	needs:  needs([]right{{catalog.OpDescribe, catalog.ResourceGroup}, {catalog.OpDescribe, catalog.ResourceTransactionalID}, {catalog.OpClusterAction, catalog.ResourceCluster}}),
	handle: plain[kmsg.FindCoordinatorRequest]((*Server).findCoordinator),
}

// Kinds of coordinators.
const (
	coordinatorOfGroup       = 0
	coordinatorOfTransaction = 1
	coordinatorOfShare       = 2
)

func (s *Server) findCoordinator(ctx context.Context, r *request, req *kmsg.FindCoordinatorRequest) kmsg.Response {
	election, cancel := context.WithTimeout(ctx, electionTime)
	defer cancel()
	resp := kmsg.NewPtrFindCoordinatorResponse()
	if req.Version < 4 {
		c := s.findOne(ctx, election, r, req.CoordinatorType, req.CoordinatorKey)
		resp.NodeID, resp.Host, resp.Port = c.NodeID, c.Host, c.Port
		resp.ErrorCode, resp.ErrorMessage = c.ErrorCode, c.ErrorMessage
		return resp
	}
	for _, key := range req.CoordinatorKeys {
		resp.Coordinators = append(resp.Coordinators, s.findOne(ctx, election, r, req.CoordinatorType, key))
	}
	return resp
}

// findOne waits for a leader until election ends.
func (s *Server) findOne(ctx, election context.Context, r *request, kind int8, key string) kmsg.FindCoordinatorResponseCoordinator {
	out := kmsg.NewFindCoordinatorResponseCoordinator()
	out.Key, out.NodeID, out.Port = key, -1, -1
	n, err := s.coordinatorOf(ctx, election, r, kind, key)
	if err != nil {
		out.ErrorCode, out.ErrorMessage = code(err), message(err)
		return out
	}
	out.NodeID = n.ID
	out.Host, out.Port = s.advertised(r, n)
	return out
}

func (s *Server) coordinatorOf(ctx, election context.Context, r *request, kind int8, key string) (catalog.Node, error) {
	var topic string
	var shardOf func(context.Context, string) (int32, error)
	var err error
	switch {
	case kind == coordinatorOfGroup:
		topic, shardOf, err = catalog.OffsetsTopic, s.groups.shardOf, s.mayGroup(r, catalog.OpDescribe, key)
	case kind == coordinatorOfTransaction:
		topic, shardOf, err = catalog.TransactionsTopic, s.txns.shardOf, s.may(r, catalog.OpDescribe, catalog.ResourceTransactionalID, key)
	case kind == coordinatorOfShare && r.version >= 6:
		topic, shardOf, err = catalog.ShareStateTopic, s.shares.shardOf, s.maySite(r, catalog.OpClusterAction)
		if err == nil {
			err = checkShareKey(key)
		}
	default:
		err = fmt.Errorf("%w: coordinator type %d, want %d or %d, or from version 6 on %d", record.ErrInvalidRequest, kind, coordinatorOfGroup, coordinatorOfTransaction, coordinatorOfShare)
	}
	if err != nil {
		return catalog.Node{}, err
	}
	p, err := shardOf(ctx, key)
	if err != nil {
		return catalog.Node{}, coordinatorError(err)
	}
	s.vacant.leader(election, topic, p)
	leader, _ := s.parts.Leader(topic, p)
	n, ok := s.meta.State().Node(leader)
	if !ok {
		return n, fmt.Errorf("%w: nobody leads %s-%d at present", errNoCoordinator, topic, p)
	}
	if !s.peers.up(leader) {
		return n, fmt.Errorf("%w: node %d leads %s-%d and cannot be reached", errNoCoordinator, leader, topic, p)
	}
	return n, nil
}

// checkShareKey checks that a key is group:topic ID:partition, the ID in base64.
func checkShareKey(key string) error {
	parts := strings.Split(key, ":")
	if n := len(parts); n >= 3 && strings.Join(parts[:n-2], ":") != "" {
		id, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[n-2], "="))
		if _, perr := strconv.ParseUint(parts[n-1], 10, 31); err == nil && perr == nil && len(id) == 16 {
			return nil
		}
	}
	return fmt.Errorf("%w: key %q, want group:topic ID in base64:partition", record.ErrInvalidRequest, key)
}
