package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// ListPartitionReassignments: v0 (flexible)
//
// Behaviour:
//   - Nothing is ever being reassigned. Tools ask when they describe a topic.
var listPartitionReassignmentsAPI = api{
	key: 46, name: "ListPartitionReassignments", min: 0, max: 0,
	shape:  body(0, fixed(4), array(str(), list(fixed(4)))),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceCluster)),
	handle: plain[kmsg.ListPartitionReassignmentsRequest]((*Server).listPartitionReassignments),
}

func (s *Server) listPartitionReassignments(_ context.Context, r *request, _ *kmsg.ListPartitionReassignmentsRequest) kmsg.Response {
	resp := kmsg.NewPtrListPartitionReassignmentsResponse()
	err := s.maySite(r, catalog.OpDescribe)
	resp.ErrorCode, resp.ErrorMessage = code(err), message(err)
	return resp
}
