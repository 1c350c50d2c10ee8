package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/share"
)

// ShareGroupDescribe: v1 (KIP-932)
//
// Behaviour:
//   - A group of another protocol, or none, is GROUP_ID_NOT_FOUND. A share group
//     without members is there as long as it has offsets.
//   - Whoever may not describe a topic that is assigned sees nothing of the group.
var shareGroupDescribeAPI = api{
	key: 77, name: "ShareGroupDescribe", min: 1, max: 1,
	shape:  body(0, list(str()), fixed(1)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceGroup)),
	handle: plain[kmsg.ShareGroupDescribeRequest]((*Server).shareGroupDescribe),
}

// shareAssignor is the name of the only one, as in Kafka.
const shareAssignor = "simple"

func (s *Server) shareGroupDescribe(ctx context.Context, r *request, req *kmsg.ShareGroupDescribeRequest) kmsg.Response {
	resp := kmsg.NewPtrShareGroupDescribeResponse()
	for _, id := range req.GroupIDs {
		og := kmsg.NewShareGroupDescribeResponseGroup()
		if err := s.describeShareGroup(ctx, r, id, &og); err != nil {
			og = kmsg.NewShareGroupDescribeResponseGroup()
			og.ErrorCode, og.ErrorMessage = code(err), message(err)
		}
		og.GroupID = id
		if req.IncludeAuthorizedOperations {
			og.AuthorizedOperations = s.operations(r, catalog.ResourceGroup, id)
		}
		resp.Groups = append(resp.Groups, og)
	}
	return resp
}

func (s *Server) describeShareGroup(ctx context.Context, r *request, id string, og *kmsg.ShareGroupDescribeResponseGroup) error {
	if err := s.mayGroup(r, catalog.OpDescribe, id); err != nil {
		return err
	}
	st := s.meta.State()
	og.GroupState, og.Assignor = group.Empty.String(), shareAssignor
	found := false
	err := s.groups.lookShare(ctx, id, func(g *share.Group) error {
		if g == nil {
			return nil
		}
		found = true
		og.GroupState, og.GroupEpoch, og.AssignmentEpoch = group.Stable.String(), g.Epoch(), g.Epoch()
		for _, m := range g.Members() {
			om := kmsg.NewShareGroupDescribeResponseGroupMember()
			om.MemberID, om.RackID, om.MemberEpoch = m.ID, nonEmpty(m.Rack), m.Epoch
			om.ClientID, om.ClientHost, om.SubscribedTopicNames = m.ClientID, m.ClientHost, m.Topics
			for _, t := range describedAssignment(st, group.Assignment(m.Assignment)).TopicPartitions {
				om.Assignment.TopicPartitions = append(om.Assignment.TopicPartitions, kmsg.ShareGroupDescribeResponseGroupMemberAssignmentTopicPartition{
					TopicID: t.TopicID, Topic: t.Topic, Partitions: t.Partitions,
				})
			}
			og.Members = append(og.Members, om)
		}
		return nil
	})
	if err != nil || found {
		return s.seesAll(r, og, err)
	}
	kept, err := s.keepsShare(ctx, id)
	if err == nil && !kept {
		err = group.ErrNotFound
	}
	return err
}

// seesAll refuses who may not describe a topic that is assigned.
func (s *Server) seesAll(r *request, og *kmsg.ShareGroupDescribeResponseGroup, err error) error {
	for _, m := range og.Members {
		for _, t := range m.Assignment.TopicPartitions {
			if err == nil {
				err = s.mayTopic(r, catalog.OpDescribe, t.Topic)
			}
		}
	}
	return err
}
