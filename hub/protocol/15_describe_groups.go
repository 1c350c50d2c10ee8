package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// DescribeGroups: v0-6
//
// Behaviour:
//   - A group that does not exist is Dead; from v6 on with GROUP_ID_NOT_FOUND.
//     So is one of the consumer protocol, which ConsumerGroupDescribe shows.
//
// Version notes:
//   - v3: authorised operations; v4: instance ID; v5: flexible; v6: error message
var describeGroupsAPI = api{
	key: 15, name: "DescribeGroups", min: 0, max: 6,
	shape:  body(5, list(str()), fixed(1).from(3)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceGroup)),
	handle: plain[kmsg.DescribeGroupsRequest]((*Server).describeGroups),
}

func (s *Server) describeGroups(ctx context.Context, r *request, req *kmsg.DescribeGroupsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeGroupsResponse()
	for _, id := range req.Groups {
		og := s.describeGroup(ctx, r, req.Version, id)
		if req.IncludeAuthorizedOperations {
			og.AuthorizedOperations = s.operations(r, catalog.ResourceGroup, id)
		}
		resp.Groups = append(resp.Groups, og)
	}
	return resp
}

func (s *Server) describeGroup(ctx context.Context, r *request, version int16, id string) kmsg.DescribeGroupsResponseGroup {
	og := kmsg.NewDescribeGroupsResponseGroup()
	og.Group = id
	if err := s.mayGroup(r, catalog.OpDescribe, id); err != nil {
		og.ErrorCode, og.ErrorMessage = code(err), message(err)
		return og
	}
	var md group.Metadata
	state := group.Dead
	err := s.groups.do(ctx, id, func(_ time.Time, g *group.Group) group.Output {
		if g != nil && !g.IsConsumer() {
			md, state = g.Describe(), g.State()
		}
		return group.Output{}
	})
	if err != nil {
		og.ErrorCode, og.ErrorMessage = code(err), message(err)
		return og
	}
	og.State, og.ProtocolType, og.Protocol = state.String(), md.ProtocolType, md.Protocol
	if state == group.Dead && version >= 6 {
		og.ErrorCode, og.ErrorMessage = kerr.GroupIDNotFound.Code, message(group.ErrNotFound)
	}
	for _, m := range md.Members {
		og.Members = append(og.Members, kmsg.DescribeGroupsResponseGroupMember{
			MemberID: m.ID, InstanceID: nonEmpty(m.Instance), ClientID: m.ClientID, ClientHost: m.ClientHost,
			ProtocolMetadata: m.Subscription, MemberAssignment: m.Assignment,
		})
	}
	return og
}
