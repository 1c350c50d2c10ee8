package protocol

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions: v0-4
//
// Behaviour:
//   - A version that is not served gets a v0 answer with UNSUPPORTED_VERSION and
//     the ranges, so that the client can come back with a lower one (KIP-511).
//   - Produce is offered from version 0 although 3 is the lowest served:
//     librdkafka takes a higher minimum for a broker without compression
//     (KAFKA-18659).
//   - Features are named only for protocols that are served.
//
// Version notes:
//   - v3: flexible, client software name and version, features
//   - v4: features may have a minimum of 0
const apiVersionsKey = 18

var apiVersionsAPI = api{
	key: apiVersionsKey, name: "ApiVersions", min: 0, max: 4,
	shape:  body(3, str().from(3), str().from(3)),
	needs:  nothing,
	handle: (*Server).apiVersions,
}

func (s *Server) apiVersions(_ context.Context, r *request) (answer, error) {
	resp := kmsg.NewPtrApiVersionsResponse()
	for _, a := range s.table {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
		if a.key == produceKey {
			k.MinVersion = 0
		}
		resp.ApiKeys = append(resp.ApiKeys, k)
	}
	if !r.api.serves(r.version) {
		resp.ErrorCode = kerr.UnsupportedVersion.Code
		r.version = 0
	}
	if r.version >= 3 {
		addFeatures(resp, r.version)
	}
	resp.SetVersion(r.version)
	return answer{msg: resp}, nil
}

// features are the levels that are on: metadata of Kafka 4.0, by which tools
// tell the generation of the cluster, the consumer protocol (KIP-848), and the
// transactions of KIP-890.
var features = [...]struct {
	name             string
	lowest, finished int16
}{
	{"metadata.version", 7, 25},
	{"group.version", 0, 1},
	{"transaction.version", 0, 2},
	{"share.version", 0, 1},
}

// addFeatures names them. Before v4 Java takes a lowest level of 0 for an
// error (KAFKA-17011), so such a feature is only said to be on.
func addFeatures(resp *kmsg.ApiVersionsResponse, version int16) {
	for _, f := range features {
		if f.lowest > 0 || version >= 4 {
			sf := kmsg.NewApiVersionsResponseSupportedFeature()
			sf.Name, sf.MinVersion, sf.MaxVersion = f.name, f.lowest, f.finished
			resp.SupportedFeatures = append(resp.SupportedFeatures, sf)
		}
		ff := kmsg.NewApiVersionsResponseFinalizedFeature()
		ff.Name, ff.MinVersionLevel, ff.MaxVersionLevel = f.name, f.finished, f.finished
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, ff)
	}
	resp.FinalizedFeaturesEpoch = 0
}
