package protocol

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// ConsumerGroupHeartbeat: v0-1 (KIP-848)
//
// Behaviour:
//   - Epoch 0 joins, -1 leaves, -2 leaves for a while (static members).
//   - A regular expression stands for the topics that the member whose heartbeat
//     looks them up may describe.
//   - Answered when what it tells is committed in __consumer_offsets.
//   - The assignment is in an answer when it changed, or when the member told
//     all about itself.
//   - The session timeout and the interval are those of the group's settings, or
//     of the node's; changes hold from the next heartbeat on.
//   - A group with classic members becomes a consumer group with the first
//     member that joins; back when the last one of the consumer protocol is
//     gone (group.consumer.migration.policy). Otherwise, or with an assignor
//     that is not one of Kafka's, it is no consumer group (GROUP_ID_NOT_FOUND).
//
// Version notes:
//   - v0: the coordinator draws the member ID of a member without one
//   - v1: the client draws it; subscription by regular expression
var consumerGroupHeartbeatAPI = api{
	key: 68, name: "ConsumerGroupHeartbeat", min: 0, max: 1,
	shape: body(0, str(), str(), fixed(4), str(), str(), fixed(4), list(str()), str().from(1), str(),
		array(fixed(16), list(fixed(4)))),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup)),
	handle: plain[kmsg.ConsumerGroupHeartbeatRequest]((*Server).consumerGroupHeartbeat),
}

func (s *Server) consumerGroupHeartbeat(ctx context.Context, r *request, req *kmsg.ConsumerGroupHeartbeatRequest) kmsg.Response {
	resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	err := s.maySubscribe(r, req)
	var ask group.ConsumerHeartbeat
	if err == nil {
		ask, err = s.heartbeatRequest(r, req)
	}
	var a group.Answer
	if err == nil {
		a, err = s.groups.ask(ctx, req.Group, func(now time.Time, g *group.Group, t group.Ticket) group.Output {
			g.Configure(s.groups.configOf(req.Group))
			return g.ConsumerHeartbeat(now, t, ask, s.groups.topics().visibleTo(s, r))
		})
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	resp.MemberID, resp.MemberEpoch = &a.Consumer.MemberID, a.Consumer.Epoch
	resp.HeartbeatIntervalMillis = int32(a.Consumer.Interval.Milliseconds())
	if got := a.Consumer.Assignment; got != nil {
		resp.Assignment = new(kmsg.ConsumerGroupHeartbeatResponseAssignment)
		for _, t := range got.Topics() {
			resp.Assignment.Topics = append(resp.Assignment.Topics, kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{TopicID: t, Partitions: (*got)[t]})
		}
	}
	return resp
}

// maySubscribe: the topics that a member names must be visible to it.
func (s *Server) maySubscribe(r *request, req *kmsg.ConsumerGroupHeartbeatRequest) error {
	err := s.mayGroup(r, catalog.OpRead, req.Group)
	for _, t := range req.SubscribedTopicNames {
		if err == nil {
			err = s.mayTopic(r, catalog.OpDescribe, t)
		}
	}
	return err
}

func (s *Server) heartbeatRequest(r *request, req *kmsg.ConsumerGroupHeartbeatRequest) (group.ConsumerHeartbeat, error) {
	ask := group.ConsumerHeartbeat{
		MemberID: req.MemberID, Epoch: req.MemberEpoch, Instance: req.InstanceID, Rack: req.RackID, Rebalance: -1,
		Topics: req.SubscribedTopicNames, Regex: req.SubscribedTopicRegex, Assignor: req.ServerAssignor,
		ClientID: r.client, ClientHost: "/" + r.host,
	}
	if req.RebalanceTimeoutMillis >= 0 {
		ask.Rebalance = time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond
	}
	if req.Topics != nil {
		owned := group.Assignment{}
		for _, t := range req.Topics {
			if ps := slices.Compact(slices.Sorted(slices.Values(append(owned[t.TopicID], t.Partitions...)))); len(ps) > 0 {
				owned[t.TopicID] = ps
			}
		}
		ask.Owned = &owned
	}
	if req.Version > 0 || req.MemberID != "" || req.MemberEpoch != 0 {
		return ask, nil
	}
	id, err := newUUID(s.cfg.Rand)
	ask.MemberID = id
	return ask, err
}
