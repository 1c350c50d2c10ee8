package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// DescribeProducers: v0 (flexible)
//
// Behaviour:
//   - The producers that the partition's leader remembers (KIP-664).
var describeProducersAPI = api{
	key: 61, name: "DescribeProducers", min: 0, max: 0,
	shape:  body(0, array(str(), list(fixed(4)))),
	needs:  needs(on(catalog.OpRead, catalog.ResourceTopic)),
	handle: plain[kmsg.DescribeProducersRequest]((*Server).describeProducers),
}

func (s *Server) describeProducers(_ context.Context, r *request, req *kmsg.DescribeProducersRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeProducersResponse()
	st := s.meta.State()
	for _, rt := range req.Topics {
		ot := kmsg.DescribeProducersResponseTopic{Topic: rt.Topic}
		t, err := s.findFor(r, catalog.OpRead, st, false, rt.Topic, record.TopicID{})
		for _, partition := range rt.Partitions {
			op := kmsg.NewDescribeProducersResponseTopicPartition()
			op.Partition = partition
			var p Partition
			perr := err
			if perr == nil {
				p, perr = s.serving(t, partition)
			}
			if perr == nil {
				op.ActiveProducers = activeProducers(p)
			}
			op.ErrorCode, op.ErrorMessage = code(perr), message(perr)
			ot.Partitions = append(ot.Partitions, op)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

func activeProducers(p Partition) (all []kmsg.DescribeProducersResponseTopicPartitionActiveProducer) {
	for _, pr := range p.Producers() {
		o := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		o.ProducerID, o.ProducerEpoch = pr.ID, int32(pr.Epoch)
		o.LastSequence, o.LastTimestamp = pr.LastSequence, pr.LastTimestamp
		o.CoordinatorEpoch, o.CurrentTxnStartOffset = pr.CoordinatorEpoch, pr.TxnFirstOffset
		all = append(all, o)
	}
	return all
}
