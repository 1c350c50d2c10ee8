package protocol

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// DeleteRecords: v0-2
//
// Behaviour:
//   - -1 is everything committed. Compacted topics are refused as in Kafka,
//     mirrors because their start is the source's.
//
// Version notes:
//   - v2: flexible
var deleteRecordsAPI = api{
	key: 21, name: "DeleteRecords", min: 0, max: 2,
	shape:  body(2, array(str(), array(fixed(4), fixed(8))), fixed(4)),
	needs:  needs(on(catalog.OpDelete, catalog.ResourceTopic)),
	handle: plain[kmsg.DeleteRecordsRequest]((*Server).deleteRecords),
}

func (s *Server) deleteRecords(ctx context.Context, r *request, req *kmsg.DeleteRecordsRequest) kmsg.Response {
	ctx, cancel := adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrDeleteRecordsResponse()
	for _, rt := range req.Topics {
		ot := kmsg.DeleteRecordsResponseTopic{Topic: rt.Topic}
		for _, rp := range rt.Partitions {
			op := kmsg.NewDeleteRecordsResponseTopicPartition()
			op.Partition = rp.Partition
			low, err := s.deleteBelow(ctx, r, rt.Topic, rp.Partition, rp.Offset)
			op.LowWatermark, op.ErrorCode = low, code(err)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

func (s *Server) deleteBelow(ctx context.Context, r *request, topic string, partition int32, offset int64) (int64, error) {
	t, err := s.findFor(r, catalog.OpDelete, s.meta.State(), false, topic, record.TopicID{})
	if err != nil {
		return -1, err
	}
	switch {
	case t.Mirror != nil:
		return -1, fmt.Errorf("%w: topic %q is written at site %q", record.ErrReadOnly, topic, t.Mirror.Source)
	case !t.Settings().Delete:
		return -1, fmt.Errorf("%w: topic %q is compacted, nothing is deleted from it", errPolicy, topic)
	}
	p, err := s.serving(t, partition)
	if err != nil {
		return -1, err
	}
	o := p.Offsets()
	if offset == -1 {
		offset = o.HighWatermark
	}
	if offset < 0 || offset > o.HighWatermark {
		return -1, fmt.Errorf("%w: %d, %s-%d ends at %d", record.ErrOffsetOutOfRange, offset, topic, partition, o.HighWatermark)
	}
	if offset > o.Start {
		if err := p.SetLogStart(ctx, offset); err != nil {
			return -1, err
		}
	}
	return p.Offsets().Start, nil
}
