package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// Heartbeat: v0-4
//
// Version notes:
//   - v3: instance ID; v4: flexible
var heartbeatAPI = api{
	key: 12, name: "Heartbeat", min: 0, max: 4,
	shape:  body(4, str(), fixed(4), str(), str().from(3)),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup)),
	handle: plain[kmsg.HeartbeatRequest]((*Server).heartbeat),
}

func (s *Server) heartbeat(ctx context.Context, r *request, req *kmsg.HeartbeatRequest) kmsg.Response {
	resp := kmsg.NewPtrHeartbeatResponse()
	if err := s.mayGroup(r, catalog.OpRead, req.Group); err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	var refused error
	err := s.groups.do(ctx, req.Group, func(now time.Time, g *group.Group) group.Output {
		if g == nil {
			refused = group.ErrUnknownMember
			return group.Output{}
		}
		refused = g.Heartbeat(now, group.HeartbeatRequest{
			MemberID: req.MemberID, Instance: orEmpty(req.InstanceID), Generation: req.Generation,
		})
		return group.Output{}
	})
	if err == nil {
		err = refused
	}
	resp.ErrorCode = code(err)
	return resp
}
