package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// LeaveGroup: v0-5
//
// Behaviour:
//   - From v3 on several members leave at once, each with an error of its own;
//     a static one by its instance ID alone (an administrator's doing).
//   - Answered when it is committed in __consumer_offsets that they are gone;
//     Apache Kafka writes the group after the rebalance that follows, so that a
//     crash brings them back until their sessions end.
//
// Version notes:
//   - v3: several members; v4: flexible; v5: reason
var leaveGroupAPI = api{
	key: 13, name: "LeaveGroup", min: 0, max: 5,
	shape:  body(4, str(), str().to(2), array(str(), str(), str().from(5)).from(3)),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup)),
	handle: plain[kmsg.LeaveGroupRequest]((*Server).leaveGroup),
}

func (s *Server) leaveGroup(ctx context.Context, r *request, req *kmsg.LeaveGroupRequest) kmsg.Response {
	resp := kmsg.NewPtrLeaveGroupResponse()
	if err := s.mayGroup(r, catalog.OpRead, req.Group); err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	leavers := []group.Leaver{{MemberID: req.MemberID}}
	if req.Version >= 3 {
		leavers = leavers[:0]
		for _, m := range req.Members {
			leavers = append(leavers, group.Leaver{MemberID: m.MemberID, Instance: orEmpty(m.InstanceID)})
		}
	}
	a, err := s.groups.ask(ctx, req.Group, func(now time.Time, g *group.Group, t group.Ticket) group.Output {
		return g.Leave(now, t, leavers)
	})
	if err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	if req.Version < 3 {
		resp.ErrorCode = code(a.Left[0])
		return resp
	}
	for i, m := range req.Members {
		resp.Members = append(resp.Members, kmsg.LeaveGroupResponseMember{
			MemberID: m.MemberID, InstanceID: m.InstanceID, ErrorCode: code(a.Left[i]),
		})
	}
	return resp
}
