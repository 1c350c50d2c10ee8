package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// WriteTxnMarkers: v1-2
//
// Behaviour:
//   - Ends a producer's transaction in single partitions, past its coordinator:
//     what tools send to end a transaction that hangs (KIP-664). Answered when
//     the markers are committed.
//
// Version notes:
//   - v1: flexible; v2: version of transactions, which makes no difference here
var writeTxnMarkersAPI = api{
	key: 27, name: "WriteTxnMarkers", min: 1, max: 2,
	shape:  body(1, array(fixed(8), fixed(2), fixed(1), array(str(), list(fixed(4))), fixed(4), fixed(1).from(2))),
	needs:  needs(on(catalog.OpClusterAction, catalog.ResourceCluster)),
	handle: plain[kmsg.WriteTxnMarkersRequest]((*Server).writeTxnMarkers),
}

func (s *Server) writeTxnMarkers(ctx context.Context, r *request, req *kmsg.WriteTxnMarkersRequest) kmsg.Response {
	type outcome struct {
		slot *int16
		code int16
	}
	n := 0
	for _, rm := range req.Markers {
		for _, rt := range rm.Topics {
			n += len(rt.Partitions)
		}
	}
	denied := s.maySite(r, catalog.OpClusterAction)
	outcomes := make(chan outcome, n)
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	for _, rm := range req.Markers {
		om := kmsg.WriteTxnMarkersResponseMarker{ProducerID: rm.ProducerID}
		for _, rt := range rm.Topics {
			ot := kmsg.WriteTxnMarkersResponseMarkerTopic{Topic: rt.Topic, Partitions: make([]kmsg.WriteTxnMarkersResponseMarkerTopicPartition, len(rt.Partitions))}
			for i, p := range rt.Partitions {
				slot := &ot.Partitions[i].ErrorCode
				ot.Partitions[i].Partition, *slot = p, code(record.ErrTimeout)
				if denied != nil {
					outcomes <- outcome{slot, code(denied)}
					continue
				}
				s.marks.write(record.TopicPartition{Topic: rt.Topic, Partition: p}, record.TransactionMarker{
					ProducerID: rm.ProducerID, ProducerEpoch: rm.ProducerEpoch, Commit: rm.Committed, CoordinatorEpoch: max(rm.CoordinatorEpoch, 0),
				}, func(err error) { outcomes <- outcome{slot, code(err)} })
			}
			om.Topics = append(om.Topics, ot)
		}
		resp.Markers = append(resp.Markers, om)
	}
	for range n {
		select {
		case o := <-outcomes:
			*o.slot = o.code
		case <-ctx.Done():
			return resp
		}
	}
	return resp
}
