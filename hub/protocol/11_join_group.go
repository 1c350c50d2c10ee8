package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
)

// JoinGroup: v0-9
//
// Behaviour:
//   - Parked until the rebalance is over; other connections go on.
//   - From v4 on, a new dynamic member first gets its ID with
//     MEMBER_ID_REQUIRED (KIP-394).
//   - In a consumer group (KIP-848) it is answered at once, and nobody leads.
//
// Version notes:
//   - v1: rebalance timeout; v4: member ID required; v5: instance ID (KIP-345)
//   - v6: flexible; v7: protocol type answered; v8: reason; v9: skip assignment
var joinGroupAPI = api{
	key: 11, name: "JoinGroup", min: 0, max: 9,
	shape: body(6, str(), fixed(4), fixed(4).from(1), str(), str().from(5), str(),
		array(str(), blob()), str().from(8)),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup)),
	handle: plain[kmsg.JoinGroupRequest]((*Server).joinGroup),
}

func (s *Server) joinGroup(ctx context.Context, r *request, req *kmsg.JoinGroupRequest) kmsg.Response {
	resp := kmsg.NewPtrJoinGroupResponse()
	resp.Generation, resp.MemberID = -1, req.MemberID
	if req.Version < 7 {
		resp.Protocol = new(string)
	}
	err := s.mayGroup(r, catalog.OpRead, req.Group)
	var ask group.JoinRequest
	if err == nil {
		ask, err = s.joinRequest(r, req)
	}
	var a group.Answer
	if err == nil {
		a, err = s.groups.ask(ctx, req.Group, func(now time.Time, g *group.Group, t group.Ticket) group.Output {
			return g.Join(now, t, ask, s.groups.topics().visibleTo(s, r))
		})
	}
	if err != nil {
		resp.ErrorCode = code(err)
		if required := (*group.NewMemberID)(nil); asError(err, &required) {
			resp.MemberID = required.ID
		}
		return resp
	}
	j := a.Join
	resp.Generation, resp.ProtocolType, resp.Protocol = j.Generation, &j.ProtocolType, &j.Protocol
	resp.LeaderID, resp.MemberID, resp.SkipAssignment = j.Leader, j.MemberID, j.Skip
	for _, m := range j.Members {
		resp.Members = append(resp.Members, kmsg.JoinGroupResponseMember{
			MemberID: m.ID, InstanceID: nonEmpty(m.Instance), ProtocolMetadata: m.Metadata,
		})
	}
	return resp
}

func (s *Server) joinRequest(r *request, req *kmsg.JoinGroupRequest) (group.JoinRequest, error) {
	ask := group.JoinRequest{
		MemberID: req.MemberID, Instance: orEmpty(req.InstanceID),
		ClientID: r.client, ClientHost: "/" + r.host,
		Session:      time.Duration(req.SessionTimeoutMillis) * time.Millisecond,
		Rebalance:    time.Duration(req.RebalanceTimeoutMillis) * time.Millisecond,
		ProtocolType: req.ProtocolType,
		NeedID:       req.Version >= 4,
		CanSkip:      req.Version >= 9,
	}
	if req.Version < 1 || ask.Rebalance <= 0 {
		ask.Rebalance = ask.Session
	}
	for _, p := range req.Protocols {
		ask.Protocols = append(ask.Protocols, group.Protocol{Name: p.Name, Metadata: p.Metadata})
	}
	if ask.MemberID != "" {
		return ask, nil
	}
	id, err := newUUID(s.cfg.Rand)
	prefix := r.client
	if ask.Instance != "" {
		prefix = ask.Instance
	}
	ask.NewID = prefix + "-" + id
	return ask, err
}
