package protocol

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
)

// DescribeLogDirs: v1-4
//
// Behaviour:
//   - One directory with the partitions that this node leads. Its total and
//     free bytes are not told (-1).
//
// Version notes:
//   - v2: flexible; v3: error of the whole; v4: total and usable bytes
var describeLogDirsAPI = api{
	key: 35, name: "DescribeLogDirs", min: 1, max: 4,
	shape:  body(2, array(str(), list(fixed(4)))),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceCluster)),
	handle: plain[kmsg.DescribeLogDirsRequest]((*Server).describeLogDirs),
}

func (s *Server) describeLogDirs(_ context.Context, r *request, req *kmsg.DescribeLogDirsRequest) kmsg.Response {
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	if err := s.maySite(r, catalog.OpDescribe); err != nil {
		resp.ErrorCode = code(err)
		return resp
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir, dir.TotalBytes, dir.UsableBytes = s.cfg.LogDir, -1, -1
	for _, t := range s.meta.State().Topics() {
		wanted, ok := askedFor(req, t.Name)
		if !ok {
			continue
		}
		ot := kmsg.DescribeLogDirsResponseDirTopic{Topic: t.Name}
		for i := range t.Partitions {
			if wanted == nil || slices.Contains(wanted, int32(i)) {
				s.describeLog(&ot, t, int32(i))
			}
		}
		if len(ot.Partitions) > 0 {
			dir.Topics = append(dir.Topics, ot)
		}
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp
}

// askedFor returns the partitions asked for, nil for all.
func askedFor(req *kmsg.DescribeLogDirsRequest, topic string) ([]int32, bool) {
	if req.Topics == nil {
		return nil, true
	}
	for _, t := range req.Topics {
		if t.Topic == topic {
			return slices.Concat([]int32{}, t.Partitions), true
		}
	}
	return nil, false
}

func (s *Server) describeLog(ot *kmsg.DescribeLogDirsResponseDirTopic, t *catalog.Topic, partition int32) {
	p, err := s.parts.Partition(t.Name, partition)
	if err != nil {
		return // led elsewhere
	}
	op := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
	op.Partition, op.Size = partition, p.Size()
	ot.Partitions = append(ot.Partitions, op)
}
