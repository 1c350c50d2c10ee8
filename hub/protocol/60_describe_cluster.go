package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeCluster: v0-2
//
// Behaviour:
//   - The brokers of Metadata. Controllers of their own (v1+, endpoint type 2)
//     there are none.
//
// Version notes:
//   - v0: flexible; v1: endpoint type; v2: fenced brokers
var describeClusterAPI = api{
	key: 60, name: "DescribeCluster", min: 0, max: 2,
	shape:  body(0, fixed(1), fixed(1).from(1), fixed(1).from(2)),
	needs:  nothing,
	handle: plain[kmsg.DescribeClusterRequest]((*Server).describeCluster),
}

// Types of endpoints.
const (
	endpointBrokers     = 1
	endpointControllers = 2
)

func (s *Server) describeCluster(_ context.Context, r *request, req *kmsg.DescribeClusterRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeClusterResponse()
	resp.ClusterID, resp.ControllerID, resp.EndpointType = s.cfg.ClusterID, s.cfg.Node, endpointBrokers
	if req.Version >= 1 && req.EndpointType != endpointBrokers {
		resp.ErrorCode = kerr.MismatchedEndpointType.Code
		if req.EndpointType != endpointControllers {
			resp.ErrorCode = kerr.UnsupportedEndpointType.Code
		}
		resp.ErrorMessage = kmsg.StringPtr("this is the endpoint of a broker")
		resp.EndpointType = endpointBrokers
		return resp
	}
	if req.IncludeClusterAuthorizedOperations {
		resp.ClusterAuthorizedOperations = s.siteOperations(r)
	}
	for _, n := range s.brokers(r, func(int32) bool { return false }) {
		b := kmsg.NewDescribeClusterResponseBroker()
		b.NodeID, b.Rack = n.ID, rack(n)
		b.Host, b.Port = s.advertised(r, n)
		resp.Brokers = append(resp.Brokers, b)
	}
	return resp
}
