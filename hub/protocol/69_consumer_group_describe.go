package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// ConsumerGroupDescribe: v0-1 (KIP-848)
//
// Behaviour:
//   - A classic group, or none, is GROUP_ID_NOT_FOUND; tools then come with
//     DescribeGroups, which answers the same for consumer groups.
//   - Partitions of topics that are gone are left out.
//
// Version notes:
//   - v1: type of the members: of the classic or the consumer protocol
var consumerGroupDescribeAPI = api{
	key: 69, name: "ConsumerGroupDescribe", min: 0, max: 1,
	shape:  body(0, list(str()), fixed(1)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceGroup)),
	handle: plain[kmsg.ConsumerGroupDescribeRequest]((*Server).consumerGroupDescribe),
}

// The types of members.
const (
	classicMember  = 0
	consumerMember = 1
)

func (s *Server) consumerGroupDescribe(ctx context.Context, r *request, req *kmsg.ConsumerGroupDescribeRequest) kmsg.Response {
	resp := kmsg.NewPtrConsumerGroupDescribeResponse()
	st := s.meta.State()
	for _, id := range req.Groups {
		og := s.describeConsumerGroup(ctx, r, st, id)
		if req.IncludeAuthorizedOperations {
			og.AuthorizedOperations = s.operations(r, catalog.ResourceGroup, id)
		}
		resp.Groups = append(resp.Groups, og)
	}
	return resp
}

func (s *Server) describeConsumerGroup(ctx context.Context, r *request, st *catalog.State, id string) kmsg.ConsumerGroupDescribeResponseGroup {
	og := kmsg.NewConsumerGroupDescribeResponseGroup()
	og.Group = id
	if err := s.mayGroup(r, catalog.OpDescribe, id); err != nil {
		og.ErrorCode, og.ErrorMessage = code(err), message(err)
		return og
	}
	var d group.ConsumerDescription
	refused := group.ErrNotFound
	err := s.groups.do(ctx, id, func(_ time.Time, g *group.Group) group.Output {
		switch {
		case g == nil || g.State() == group.Dead || g.Vacant():
		case !g.IsConsumer():
			refused = group.ErrOtherProtocol
		default:
			d, refused = g.DescribeConsumer(), nil
			og.State = g.State().String()
		}
		return group.Output{}
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		og.ErrorCode, og.ErrorMessage = code(err), message(err)
		return og
	}
	og.Epoch, og.AssignmentEpoch, og.AssignorName = d.Epoch, d.TargetEpoch, d.Assignor
	for _, m := range d.Members {
		om := kmsg.NewConsumerGroupDescribeResponseGroupMember()
		om.MemberID, om.InstanceID, om.RackID = m.ID, nonEmpty(m.Instance), nonEmpty(m.Rack)
		om.MemberEpoch, om.ClientID, om.ClientHost = m.Epoch, m.ClientID, m.ClientHost
		om.SubscribedTopics, om.SubscribedTopicRegex = m.Topics, nonEmpty(m.Regex)
		om.Assignment, om.TargetAssignment = describedAssignment(st, m.Assigned), describedAssignment(st, m.Target)
		om.MemberType = consumerMember
		if m.Classic != nil {
			om.MemberType = classicMember
		}
		og.Members = append(og.Members, om)
	}
	return og
}

func describedAssignment(st *catalog.State, a group.Assignment) (out kmsg.Assignment) {
	for _, id := range a.Topics() {
		if t, ok := st.TopicByID(id); ok {
			out.TopicPartitions = append(out.TopicPartitions, kmsg.AssignmentTopicPartition{TopicID: id, Topic: t.Name, Partitions: a[id]})
		}
	}
	return out
}
