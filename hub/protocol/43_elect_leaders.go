package protocol

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// ElectLeaders: v0-2
//
// Behaviour:
//   - Leaders are elected by the partitions themselves. A partition that is led
//     by its first replica needs nothing (ELECTION_NOT_NEEDED), as does one that
//     has a leader in an unclean election; others are refused.
//   - No list of topics is all of them; then what needs nothing is left out.
//
// Version notes:
//   - v1: unclean elections; v2: flexible
var electLeadersAPI = api{
	key: 43, name: "ElectLeaders", min: 0, max: 2,
	shape:  body(2, fixed(1).from(1), array(str(), list(fixed(4))), fixed(4)),
	needs:  needs(on(catalog.OpAlter, catalog.ResourceCluster)),
	handle: plain[kmsg.ElectLeadersRequest]((*Server).electLeaders),
}

const uncleanElection = 1

var (
	errLedAlready  = errors.New("the partition has this leader already")
	errNotEligible = errors.New("leaders are elected by the partition itself")
)

func (s *Server) electLeaders(_ context.Context, r *request, req *kmsg.ElectLeadersRequest) kmsg.Response {
	resp := kmsg.NewPtrElectLeadersResponse()
	denied := s.maySite(r, catalog.OpAlter)
	if resp.ErrorCode = code(denied); denied != nil && req.Topics == nil {
		return resp
	}
	st := s.meta.State()
	topics := req.Topics
	if topics == nil {
		for _, t := range st.Topics() {
			all := kmsg.ElectLeadersRequestTopic{Topic: t.Name}
			for p := range t.Partitions {
				all.Partitions = append(all.Partitions, int32(p))
			}
			topics = append(topics, all)
		}
	}
	for _, rt := range topics {
		ot := kmsg.ElectLeadersResponseTopic{Topic: rt.Topic}
		t, err := find(st, false, rt.Topic, record.TopicID{})
		for _, p := range rt.Partitions {
			why := denied
			if why == nil {
				why = s.elect(t, p, err, req.ElectionType)
			}
			if req.Topics == nil && errors.Is(why, errLedAlready) {
				continue
			}
			ot.Partitions = append(ot.Partitions, kmsg.ElectLeadersResponseTopicPartition{Partition: p, ErrorCode: code(why), ErrorMessage: message(why)})
		}
		if len(ot.Partitions) > 0 {
			resp.Topics = append(resp.Topics, ot)
		}
	}
	return resp
}

// elect says why there is no election.
func (s *Server) elect(t *catalog.Topic, p int32, err error, kind int8) error {
	if err := hasPartition(t, p, err); err != nil {
		return err
	}
	leader, _ := s.parts.Leader(t.Name, p)
	if leader >= 0 && (kind == uncleanElection || leader == t.Partitions[p].Replicas[0]) {
		return fmt.Errorf("%w: node %d", errLedAlready, leader)
	}
	return fmt.Errorf("%w: %s-%d", errNotEligible, t.Name, p)
}
