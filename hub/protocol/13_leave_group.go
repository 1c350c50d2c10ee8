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
	errs := make([]error, len(leavers))
	err := s.groups.do(ctx, req.Group, func(now time.Time, g *group.Group) group.Output {
		if g == nil {
			for i := range errs {
				errs[i] = group.ErrUnknownMember
			}
			return group.Output{}
		}
		var out group.Output
		errs, out = g.Leave(now, leavers)
		return out
	})
	if err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	if req.Version < 3 {
		resp.ErrorCode = code(errs[0])
		return resp
	}
	for i, m := range req.Members {
		resp.Members = append(resp.Members, kmsg.LeaveGroupResponseMember{
			MemberID: m.MemberID, InstanceID: m.InstanceID, ErrorCode: code(errs[i]),
		})
	}
	return resp
}
