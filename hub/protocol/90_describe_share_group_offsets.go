package protocol

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// DescribeShareGroupOffsets: v0-1 (KIP-932)
//
// Behaviour:
//   - The first offset of each partition that is not done; -1 where the group has
//     none. Without topics: all that it has and the client may see.
//   - Another node that asks gets what is kept here.
//
// Version notes:
//   - v1: lag (KIP-1226), records that are not done
var describeShareOffsetsAPI = api{
	key: 90, name: "DescribeShareGroupOffsets", min: 0, max: 1,
	shape:  body(0, array(str(), array(str(), list(fixed(4))))),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceGroup), on(catalog.OpDescribe, catalog.ResourceTopic)),
	handle: plain[kmsg.DescribeShareGroupOffsetsRequest]((*Server).describeShareOffsets),
}

func (s *Server) describeShareOffsets(ctx context.Context, r *request, req *kmsg.DescribeShareGroupOffsetsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeShareGroupOffsetsResponse()
	for i := range req.Groups {
		rg := &req.Groups[i]
		og := kmsg.NewDescribeShareGroupOffsetsResponseGroup()
		if err := s.shareOffsets(ctx, r, rg, &og, req.Version >= 1); err != nil {
			og.Topics = nil
			og.ErrorCode, og.ErrorMessage = code(err), message(err)
		}
		og.GroupID = rg.GroupID
		resp.Groups = append(resp.Groups, og)
	}
	return resp
}

func (s *Server) shareOffsets(ctx context.Context, r *request, rg *kmsg.DescribeShareGroupOffsetsRequestGroup, og *kmsg.DescribeShareGroupOffsetsResponseGroup, lag bool) error {
	if err := s.mayGroup(r, catalog.OpDescribe, rg.GroupID); err != nil {
		return err
	}
	offsets := s.shareOffsetsOf
	if r.peer {
		offsets = s.shareOffsetsHere
	}
	at, err := offsets(ctx, rg.GroupID, lag)
	if err != nil {
		return err
	}
	topics := rg.Topics
	if topics == nil {
		for name, ps := range at {
			t := kmsg.NewDescribeShareGroupOffsetsRequestGroupTopic()
			t.Topic, t.Partitions = name, slices.Sorted(maps.Keys(ps))
			if s.mayTopic(r, catalog.OpDescribe, name) == nil {
				topics = append(topics, t)
			}
		}
		slices.SortFunc(topics, func(a, b kmsg.DescribeShareGroupOffsetsRequestGroupTopic) int { return cmp.Compare(a.Topic, b.Topic) })
	}
	st := s.meta.State()
	for _, t := range topics {
		og.Topics = append(og.Topics, s.describeShareTopic(r, st, t, at[t.Topic]))
	}
	return nil
}

func (s *Server) describeShareTopic(r *request, st *catalog.State, rt kmsg.DescribeShareGroupOffsetsRequestGroupTopic, at map[int32]shareOffset) kmsg.DescribeShareGroupOffsetsResponseGroupTopic {
	ot := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopic()
	ot.Topic = rt.Topic
	err := s.mayTopic(r, catalog.OpDescribe, rt.Topic)
	if t, ok := st.Topic(rt.Topic); ok && err == nil {
		ot.TopicID = t.ID
	}
	for _, p := range rt.Partitions {
		op, has := at[p]
		if !has || err != nil {
			op = kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
			op.Partition, op.StartOffset, op.Lag = p, -1, -1
			op.ErrorCode, op.ErrorMessage = code(err), message(err)
		}
		ot.Partitions = append(ot.Partitions, op)
	}
	return ot
}
