package protocol

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// OffsetCommit: v2-10
//
// Behaviour:
//   - Answered when the offsets are committed in __consumer_offsets.
//   - Partitions that do not exist are refused one by one, the others stored.
//   - A member of a consumer group commits with its epoch (STALE_MEMBER_EPOCH if
//     that is another one by now), and with v9 or above.
//   - The retention of a request (v2-4) is left alone: it is the group's.
//
// Version notes:
//   - v6: leader epoch; v7: instance ID; v8: flexible; v9: of consumer groups too
//   - v10: topic IDs
var offsetCommitAPI = api{
	key: 8, name: "OffsetCommit", min: 2, max: 10,
	shape: body(8, str(), fixed(4), str(), str().from(7), fixed(8).to(4),
		array(str().to(9), fixed(16).from(10), array(
			fixed(4), fixed(8), fixed(4).from(6), str()))),
	needs:  needs(on(catalog.OpRead, catalog.ResourceGroup), on(catalog.OpRead, catalog.ResourceTopic)),
	handle: plain[kmsg.OffsetCommitRequest]((*Server).offsetCommit),
}

func (s *Server) offsetCommit(ctx context.Context, r *request, req *kmsg.OffsetCommitRequest) kmsg.Response {
	resp := kmsg.NewPtrOffsetCommitResponse()
	ask := group.CommitRequest{
		MemberID: req.MemberID, Instance: orEmpty(req.InstanceID), Generation: req.Generation, OldVersion: req.Version < 9,
		IDs: make(map[string]record.TopicID, len(req.Topics)),
	}
	var slots []*kmsg.OffsetCommitResponseTopicPartition // of ask.Offsets
	resp.Topics = make([]kmsg.OffsetCommitResponseTopic, len(req.Topics))
	now := s.cfg.Clock().UnixMilli()
	denied := s.mayGroup(r, catalog.OpRead, req.Group)
	for i := range req.Topics {
		rt, ot := &req.Topics[i], &resp.Topics[i]
		ot.Topic, ot.TopicID = rt.Topic, rt.TopicID
		ot.Partitions = make([]kmsg.OffsetCommitResponseTopicPartition, len(rt.Partitions))
		var t *catalog.Topic
		err := denied
		if err == nil {
			t, err = s.findToCoordinate(ctx, r, catalog.OpRead, req.Version >= 10, rt.Topic, rt.TopicID)
		}
		for j := range rt.Partitions {
			rp, slot := &rt.Partitions[j], &ot.Partitions[j]
			slot.Partition = rp.Partition
			if slot.ErrorCode = code(hasPartition(t, rp.Partition, err)); slot.ErrorCode != 0 {
				continue
			}
			slots = append(slots, slot)
			ask.IDs[t.Name] = t.ID
			ask.Offsets = append(ask.Offsets, group.OffsetWrite{
				TopicPartition: record.TopicPartition{Topic: t.Name, Partition: rp.Partition},
				Offset:         &group.Offset{Offset: rp.Offset, LeaderEpoch: rp.LeaderEpoch, Metadata: orEmpty(rp.Metadata), CommitTime: committedAt(t, now)},
			})
		}
	}
	s.commit(ctx, req.Group, ask, slots)
	return resp
}

// hasPartition passes err on, or says that the topic has no such partition.
func hasPartition(t *catalog.Topic, p int32, err error) error {
	if err == nil && (p < 0 || int(p) >= len(t.Partitions)) {
		return record.ErrUnknownTopic
	}
	return err
}

// commit stores offsets and fills the slots with the outcome.
func (s *Server) commit(ctx context.Context, id string, ask group.CommitRequest, slots []*kmsg.OffsetCommitResponseTopicPartition) {
	if len(slots) == 0 {
		return
	}
	a, err := s.groups.ask(ctx, id, func(now time.Time, g *group.Group, t group.Ticket) group.Output {
		return g.Commit(now, t, ask)
	})
	for i, slot := range slots {
		switch {
		case err != nil:
			slot.ErrorCode = code(err)
		case i < len(a.Commit):
			slot.ErrorCode = code(a.Commit[i])
		}
	}
}
