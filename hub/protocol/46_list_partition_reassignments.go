package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// ListPartitionReassignments: v0 (flexible, KIP-455)
//
// Behaviour:
//   - The partitions, of those asked for or of all, whose group is not yet on the
//     nodes that are wanted: all nodes, those that come and those that go.
var listPartitionReassignmentsAPI = api{
	key: 46, name: "ListPartitionReassignments", min: 0, max: 0,
	shape:  body(0, fixed(4), array(str(), list(fixed(4)))),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceCluster)),
	handle: plain[kmsg.ListPartitionReassignmentsRequest]((*Server).listPartitionReassignments),
}

func (s *Server) listPartitionReassignments(_ context.Context, r *request, req *kmsg.ListPartitionReassignmentsRequest) kmsg.Response {
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	if err := s.maySite(r, catalog.OpDescribe); err != nil {
		resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
		return resp
	}
	st := s.meta.State()
	topics := req.Topics
	if topics == nil {
		for _, t := range everyPartition(st) {
			topics = append(topics, kmsg.ListPartitionReassignmentsRequestTopic{Topic: t.Topic, Partitions: t.Partitions})
		}
	}
	for _, rt := range topics {
		ot := kmsg.NewListPartitionReassignmentsResponseTopic()
		ot.Topic = rt.Topic
		t, ok := st.Topic(rt.Topic)
		for _, n := range rt.Partitions {
			if !ok || hasPartition(t, n, nil) != nil {
				continue // as in Kafka: nothing moves there
			}
			p := t.Partitions[n]
			adding, removing := p.Adding(), p.Removing()
			if len(adding)+len(removing) == 0 {
				continue
			}
			op := kmsg.NewListPartitionReassignmentsResponseTopicPartition()
			op.Partition, op.Replicas, op.AddingReplicas, op.RemovingReplicas = n, p.AllReplicas(), adding, removing
			ot.Partitions = append(ot.Partitions, op)
		}
		if len(ot.Partitions) > 0 {
			resp.Topics = append(resp.Topics, ot)
		}
	}
	return resp
}
