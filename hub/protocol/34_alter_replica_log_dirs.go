package protocol

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// AlterReplicaLogDirs: v1-2
//
// Behaviour:
//   - A node has one directory: a partition that is to go there is there
//     already, any other directory is LOG_DIR_NOT_FOUND.
//
// Version notes:
//   - v2: flexible
var alterReplicaLogDirsAPI = api{
	key: 34, name: "AlterReplicaLogDirs", min: 1, max: 2,
	shape:  body(2, array(str(), array(str(), list(fixed(4))))),
	needs:  needs(on(catalog.OpAlter, catalog.ResourceCluster)),
	handle: plain[kmsg.AlterReplicaLogDirsRequest]((*Server).alterReplicaLogDirs),
}

var errNoLogDir = errors.New("the node has no such directory")

func (s *Server) alterReplicaLogDirs(_ context.Context, r *request, req *kmsg.AlterReplicaLogDirsRequest) kmsg.Response {
	resp := kmsg.NewPtrAlterReplicaLogDirsResponse()
	denied := s.maySite(r, catalog.OpAlter)
	st := s.meta.State()
	for _, d := range req.Dirs {
		for _, rt := range d.Topics {
			ot := kmsg.AlterReplicaLogDirsResponseTopic{Topic: rt.Topic}
			t, err := find(st, false, rt.Topic, record.TopicID{})
			for _, p := range rt.Partitions {
				why := denied
				switch {
				case why != nil:
				case d.Dir != s.cfg.LogDir:
					why = fmt.Errorf("%w: %q, it keeps everything in %q", errNoLogDir, d.Dir, s.cfg.LogDir)
				default:
					why = hasPartition(t, p, err)
				}
				ot.Partitions = append(ot.Partitions, kmsg.AlterReplicaLogDirsResponseTopicPartition{Partition: p, ErrorCode: code(why)})
			}
			resp.Topics = append(resp.Topics, ot)
		}
	}
	return resp
}
