package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// SyncGroup: v0-5
//
// Behaviour:
//   - Parked until the leader's assignment is committed in __consumer_offsets.
//
// Version notes:
//   - v3: instance ID; v4: flexible; v5: protocol type and name
var syncGroupAPI = api{
	key: 14, name: "SyncGroup", min: 0, max: 5,
	shape: body(4, str(), fixed(4), str(), str().from(3), str().from(5), str().from(5),
		array(str(), blob())),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup)),
	handle: plain[kmsg.SyncGroupRequest]((*Server).syncGroup),
}

func (s *Server) syncGroup(ctx context.Context, r *request, req *kmsg.SyncGroupRequest) kmsg.Response {
	resp := kmsg.NewPtrSyncGroupResponse()
	if err := s.mayGroup(r, catalog.OpRead, req.Group); err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	ask := group.SyncRequest{
		MemberID: req.MemberID, Instance: orEmpty(req.InstanceID), Generation: req.Generation,
		ProtocolType: req.ProtocolType, Protocol: req.Protocol,
		Assignments: make(map[string][]byte, len(req.GroupAssignment)),
	}
	for _, a := range req.GroupAssignment {
		ask.Assignments[a.MemberID] = a.MemberAssignment
	}
	a, err := s.groups.ask(ctx, req.Group, func(now time.Time, g *group.Group, t group.Ticket) group.Output {
		return g.Sync(now, t, ask, s.groups.topics())
	})
	if err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	resp.ProtocolType, resp.Protocol = &a.Sync.ProtocolType, &a.Sync.Protocol
	resp.MemberAssignment = a.Sync.Assignment
	return resp
}
