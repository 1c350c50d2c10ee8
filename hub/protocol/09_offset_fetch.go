package protocol

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/group"
	"github.com/entrepot-hub/entrepot/record"
)

// OffsetFetch: v1-10
//
// Behaviour:
//   - A group or partition without an offset gets -1 and no error.
//   - No list of topics (v2+) is everything that the group has.
//   - An offset is told once it is certain that this node coordinates the group: one
//     that was cut off would tell what was committed before (Kafka tells it).
//   - RequireStable (v7+): a partition whose offset an open transaction may
//     change is answered with UNSTABLE_OFFSET_COMMIT (KIP-447), also when all
//     topics are asked for and the group has no offset there yet.
//
// Version notes:
//   - v2: all topics, error of the whole; v5: leader epoch; v6: flexible
//   - v8: several groups; v9: member and epoch, checked in consumer groups only;
//     v10: topic IDs
var offsetFetchAPI = api{
	key: 9, name: "OffsetFetch", min: 1, max: 10,
	shape: body(6, str().to(7), array(str(), list(fixed(4))).to(7),
		array(str(), str().from(9), fixed(4).from(9), array(
			str().to(9), fixed(16).from(10), list(fixed(4)))).from(8),
		fixed(1).from(7)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceGroup), on(catalog.OpDescribe, catalog.ResourceTopic)),
	handle: plain[kmsg.OffsetFetchRequest]((*Server).offsetFetch),
}

func (s *Server) offsetFetch(ctx context.Context, r *request, req *kmsg.OffsetFetchRequest) kmsg.Response {
	resp := kmsg.NewPtrOffsetFetchResponse()
	sure := map[int32]bool{}
	if req.Version >= 8 {
		for i := range req.Groups {
			resp.Groups = append(resp.Groups, s.offsetFetchGroup(ctx, r, req, &req.Groups[i], sure))
		}
		return resp
	}
	one := kmsg.NewOffsetFetchRequestGroup()
	one.Group = req.Group
	for _, t := range req.Topics {
		one.Topics = append(one.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: t.Topic, Partitions: t.Partitions})
	}
	if req.Topics != nil && one.Topics == nil {
		one.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	got := s.offsetFetchGroup(ctx, r, req, &one, sure)
	resp.ErrorCode = got.ErrorCode
	for _, t := range got.Topics {
		ot := kmsg.OffsetFetchResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			ot.Partitions = append(ot.Partitions, kmsg.OffsetFetchResponseTopicPartition{
				Partition: p.Partition, Offset: p.Offset, LeaderEpoch: p.LeaderEpoch, Metadata: p.Metadata, ErrorCode: p.ErrorCode,
			})
		}
		resp.Topics = append(resp.Topics, ot)
	}
	if req.Version < 2 && got.ErrorCode != 0 { // no place for it above
		resp.Topics = refusedTopics(req.Topics, got.ErrorCode)
	}
	return resp
}

func refusedTopics(topics []kmsg.OffsetFetchRequestTopic, code int16) (out []kmsg.OffsetFetchResponseTopic) {
	for _, t := range topics {
		ot := kmsg.OffsetFetchResponseTopic{Topic: t.Topic}
		for _, p := range t.Partitions {
			ot.Partitions = append(ot.Partitions, kmsg.OffsetFetchResponseTopicPartition{
				Partition: p, Offset: -1, LeaderEpoch: -1, Metadata: new(string), ErrorCode: code,
			})
		}
		out = append(out, ot)
	}
	return out
}

// offsetFetchGroup answers for one group. sure are the partitions of
// __consumer_offsets that this request has asked about.
func (s *Server) offsetFetchGroup(ctx context.Context, r *request, req *kmsg.OffsetFetchRequest, rg *kmsg.OffsetFetchRequestGroup, sure map[int32]bool) kmsg.OffsetFetchResponseGroup {
	out := kmsg.NewOffsetFetchResponseGroup()
	out.Group = rg.Group
	var offsets groupOffsets
	var refused error
	if err := s.mayGroup(r, catalog.OpDescribe, rg.Group); err != nil {
		out.ErrorCode = code(err)
		return out
	}
	p, err := s.groups.shardOf(ctx, rg.Group)
	if err == nil && !sure[p] {
		err = s.groups.confirm(ctx, p)
	}
	if err != nil {
		out.ErrorCode = code(err)
		return out
	}
	sure[p] = true
	err = s.groups.do(ctx, rg.Group, func(_ time.Time, g *group.Group) group.Output {
		if g == nil {
			return group.Output{}
		}
		if refused = g.CheckFetch(orEmpty(rg.MemberID), rg.MemberEpoch); refused == nil {
			offsets.committed = g.Offsets()
			if req.RequireStable {
				offsets.unstable = g.UnstablePartitions()
			}
		}
		return group.Output{}
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		out.ErrorCode = code(err)
		return out
	}
	st := s.meta.State()
	if rg.Topics == nil {
		out.Topics = s.allOffsets(r, st, req.Version, offsets)
		return out
	}
	for i := range rg.Topics {
		out.Topics = append(out.Topics, s.offsetsOf(r, st, req.Version, &rg.Topics[i], offsets))
	}
	return out
}

// groupOffsets is what a group has, and what it cannot tell yet.
type groupOffsets struct {
	committed map[record.TopicPartition]group.Offset
	unstable  map[record.TopicPartition]bool
}

// offsetsOf answers for the partitions that were asked for. An offset from
// before the topic was made is one in an older topic of its name, which another
// node may have deleted.
func (s *Server) offsetsOf(r *request, st *catalog.State, version int16, rt *kmsg.OffsetFetchRequestGroupTopic, offsets groupOffsets) kmsg.OffsetFetchResponseGroupTopic {
	ot := kmsg.OffsetFetchResponseGroupTopic{Topic: rt.Topic, TopicID: rt.TopicID}
	name, failed := rt.Topic, int16(0)
	if version < 10 {
		failed = code(s.mayTopic(r, catalog.OpDescribe, name))
	}
	if version >= 10 {
		t, err := s.findFor(r, catalog.OpDescribe, st, true, "", rt.TopicID)
		if failed = code(err); err == nil {
			name = t.Name
		}
	}
	made := int64(0)
	if t, ok := st.Topic(name); ok {
		made = t.Created
	}
	for _, p := range rt.Partitions {
		op := kmsg.OffsetFetchResponseGroupTopicPartition{Partition: p, Offset: -1, LeaderEpoch: -1, Metadata: new(string), ErrorCode: failed}
		tp := record.TopicPartition{Topic: name, Partition: p}
		if offsets.unstable[tp] && failed == 0 {
			op.ErrorCode = kerr.UnstableOffsetCommit.Code
		} else if o, ok := offsets.committed[tp]; ok && failed == 0 && o.CommitTime >= made {
			op.Offset, op.LeaderEpoch, op.Metadata = o.Offset, o.LeaderEpoch, &o.Metadata
		}
		ot.Partitions = append(ot.Partitions, op)
	}
	return ot
}

// allOffsets answers with everything the group has, by topic and partition, and
// with what an open transaction gives it: without that, a partition's first
// offset would be missing after its commit was answered. (Kafka leaves it out.)
// By ID, a topic that is gone cannot be named and is left out.
func (s *Server) allOffsets(r *request, st *catalog.State, version int16, offsets groupOffsets) (out []kmsg.OffsetFetchResponseGroupTopic) {
	known := maps.Clone(offsets.unstable)
	if known == nil {
		known = map[record.TopicPartition]bool{}
	}
	for tp := range offsets.committed {
		known[tp] = true
	}
	tps := slices.SortedFunc(maps.Keys(known), func(a, b record.TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for len(tps) > 0 {
		rt := kmsg.OffsetFetchRequestGroupTopic{Topic: tps[0].Topic}
		for len(tps) > 0 && tps[0].Topic == rt.Topic {
			rt.Partitions = append(rt.Partitions, tps[0].Partition)
			tps = tps[1:]
		}
		if s.mayTopic(r, catalog.OpDescribe, rt.Topic) != nil {
			continue // nothing is told of it, not even that it is there
		}
		if version >= 10 {
			t, ok := st.Topic(rt.Topic)
			if !ok {
				continue
			}
			rt.TopicID = t.ID
		}
		out = append(out, s.offsetsOf(r, st, version, &rt, offsets))
	}
	return out
}
