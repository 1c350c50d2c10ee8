package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// ShareGroupHeartbeat: v1 (KIP-932)
//
// Behaviour:
//   - Epoch 0 joins, -1 leaves. Several members have the same partition.
//   - Members are not kept: after a restart a member is unknown, and joins again.
//   - The assignment is in an answer when it changed, or when the member named
//     its topics.
var shareGroupHeartbeatAPI = api{
	key: 76, name: "ShareGroupHeartbeat", min: 1, max: 1,
	shape:  body(0, str(), str(), fixed(4), str(), list(str())),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup)),
	handle: plain[kmsg.ShareGroupHeartbeatRequest]((*Server).shareGroupHeartbeat),
}

func (s *Server) shareGroupHeartbeat(ctx context.Context, r *request, req *kmsg.ShareGroupHeartbeatRequest) kmsg.Response {
	resp := kmsg.NewPtrShareGroupHeartbeatResponse()
	set := shareSettings(s.meta.State(), req.GroupID)
	err := s.mayShare(r, req)
	var a share.Answer
	if err == nil {
		a, err = s.groups.hearShare(ctx, req.GroupID, set, share.Heartbeat{
			MemberID: req.MemberID, Epoch: req.MemberEpoch, Topics: req.SubscribedTopicNames, Rack: orEmpty(req.RackID),
			ClientID: r.client, ClientHost: "/" + r.host,
		})
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	resp.MemberID, resp.MemberEpoch = &req.MemberID, a.Epoch
	resp.HeartbeatIntervalMillis = int32(set.Interval.Milliseconds())
	if a.Assignment != nil {
		resp.Assignment = new(kmsg.ShareGroupHeartbeatResponseAssignment)
		for _, t := range group.Assignment(a.Assignment).Topics() {
			resp.Assignment.TopicPartitions = append(resp.Assignment.TopicPartitions,
				kmsg.ShareGroupHeartbeatResponseAssignmentTopicPartition{TopicID: t, Partitions: a.Assignment[t]})
		}
	}
	return resp
}

// mayShare checks a heartbeat and the rights it needs: the topics that a member
// names must be visible to it.
func (s *Server) mayShare(r *request, req *kmsg.ShareGroupHeartbeatRequest) error {
	err := s.mayGroup(r, catalog.OpRead, req.GroupID)
	for _, t := range req.SubscribedTopicNames {
		if err == nil {
			err = s.mayTopic(r, catalog.OpDescribe, t)
		}
	}
	bad := func(what string) error { return fmt.Errorf("%w: %s", record.ErrInvalidRequest, what) }
	switch {
	case err != nil:
		return err
	case checkShareMember(req.GroupID, req.MemberID) != nil:
		return bad("GroupId and MemberId must not be empty, MemberId has at most 36 bytes")
	case req.MemberEpoch < -1:
		return bad(fmt.Sprintf("MemberEpoch is %d, want -1 or more", req.MemberEpoch))
	case req.RackID != nil && *req.RackID == "":
		return bad("RackId must not be empty")
	case req.MemberEpoch == 0 && len(req.SubscribedTopicNames) == 0:
		return bad("SubscribedTopicNames must be in the first request")
	}
	return nil
}
