package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
	"github.com/entrepot-hub/entrepot/record"
)

// ShareAcknowledge: v1-2 (KIP-932)
//
// Behaviour:
//   - Says of records that ShareFetch has handed out what became of them; all of
//     a partition or none. Answered when it is durable.
//   - Goes on with the session of ShareFetch; epoch -1 ends it, and takes back
//     what is still held.
//
// Version notes:
//   - v2: renewal (KIP-1222), and how long records are held
var shareAcknowledgeAPI = api{
	key: 79, name: "ShareAcknowledge", min: 1, max: 2,
	shape: body(0, str(), str(), fixed(4), fixed(1).from(2),
		array(fixed(16), array(fixed(4), array(fixed(8), fixed(8), list(fixed(1)))))),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup), on(catalog.OpRead, catalog.ResourceTopic)),
	handle: plain[kmsg.ShareAcknowledgeRequest]((*Server).shareAcknowledge),
}

func (s *Server) shareAcknowledge(ctx context.Context, r *request, req *kmsg.ShareAcknowledgeRequest) kmsg.Response {
	resp := kmsg.NewPtrShareAcknowledgeResponse()
	group, member := orEmpty(req.GroupID), orEmpty(req.MemberID)
	resp.AcquisitionLockTimeoutMillis = lockMillis(shareSettings(s.meta.State(), group).Lock)
	err := s.mayGroup(r, catalog.OpRead, group)
	if err == nil {
		err = checkShareMember(group, member)
	}
	var x *shareSession
	if err == nil {
		x, err = r.shareSession(group, member, req.ShareSessionEpoch, false)
	}
	if err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	acks := acknowledged(req)
	s.acknowledgeShares(ctx, r, x, acks, req.IsRenewAck)
	for _, t := range req.Topics {
		n := len(t.Partitions)
		resp.Topics = append(resp.Topics, s.acknowledgedTopic(t.TopicID, acks[:n]))
		acks = acks[n:]
	}
	if req.ShareSessionEpoch == shareEnds {
		s.releaseShares(x)
		r.shares.drop(x)
	}
	return resp
}

// acknowledged is what a request says, in its order.
func acknowledged(req *kmsg.ShareAcknowledgeRequest) (all []shareAcks) {
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			a := shareAcks{part: sharePart{t.TopicID, p.Partition}}
			for _, b := range p.AcknowledgementBatches {
				a.acks = append(a.acks, share.Ack{First: b.FirstOffset, Last: b.LastOffset, Types: b.AcknowledgeTypes})
			}
			all = append(all, a)
		}
	}
	return all
}

func (s *Server) acknowledgedTopic(id record.TopicID, acks []shareAcks) kmsg.ShareAcknowledgeResponseTopic {
	out := kmsg.NewShareAcknowledgeResponseTopic()
	out.TopicID = id
	for _, a := range acks {
		p := kmsg.NewShareAcknowledgeResponseTopicPartition()
		p.Partition, p.ErrorCode, p.ErrorMessage = a.part.partition, code(a.err), message(a.err)
		p.CurrentLeader.LeaderID, p.CurrentLeader.LeaderEpoch = s.shareLeader(a.part, p.ErrorCode)
		out.Partitions = append(out.Partitions, p)
	}
	return out
}
