package protocol

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// ElectLeaders: v0-2
//
// Behaviour:
//   - A preferred election lets the first replica of a partition lead: the
//     present leader, wherever it is, hands over to it once it has everything.
//     One that leads already needs nothing (ELECTION_NOT_NEEDED); one that is
//     down, behind or being drained is PREFERRED_LEADER_NOT_AVAILABLE.
//   - There is no unclean election: who has not all that was acknowledged never
//     leads. It is ELECTION_NOT_NEEDED where somebody leads, and otherwise
//     ELIGIBLE_LEADERS_NOT_AVAILABLE.
//   - No list of topics is all of them; then what needs nothing is left out.
//
// Version notes:
//   - v1: unclean elections; v2: flexible
var electLeadersAPI = api{
	key: 43, name: "ElectLeaders", min: 0, max: electLeadersVersion,
	shape:  body(2, fixed(1).from(1), array(str(), list(fixed(4))), fixed(4)),
	needs:  needs(on(catalog.OpAlter, catalog.ResourceCluster)),
	handle: plain[kmsg.ElectLeadersRequest]((*Server).electLeaders),
}

const (
	electLeadersVersion = 2
	uncleanElection     = 1
)

var (
	errLedAlready  = errors.New("the partition has this leader already")
	errNotEligible = errors.New("the first replica cannot lead at present")
	errUnclean     = errors.New("nobody leads, and there is no unclean election: a replica that lacks what was acknowledged never leads; bring back a majority of the replicas")
)

// election is that of one partition.
type election struct {
	tp     record.TopicPartition
	leader int32 // who has to hand over
	to     int32
	err    error // nil as long as there is something to do, and when it is done
}

func (s *Server) electLeaders(ctx context.Context, r *request, req *kmsg.ElectLeadersRequest) kmsg.Response {
	ctx, cancel := adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrElectLeadersResponse()
	denied := s.maySite(r, catalog.OpAlter)
	if resp.ErrorCode = code(denied); denied != nil && req.Topics == nil {
		return resp
	}
	st := s.meta.State()
	topics := req.Topics
	if topics == nil {
		topics = everyPartition(st)
	}
	var all []*election
	for _, rt := range topics {
		t, err := find(st, false, rt.Topic, record.TopicID{})
		for _, p := range rt.Partitions {
			e := &election{tp: record.TopicPartition{Topic: rt.Topic, Partition: p}, leader: -1, err: denied}
			if denied == nil {
				s.decide(st, e, t, err, req.ElectionType)
			}
			all = append(all, e)
		}
	}
	s.elect(ctx, r, all)
	for _, rt := range topics {
		ot := kmsg.ElectLeadersResponseTopic{Topic: rt.Topic}
		for _, p := range rt.Partitions {
			why := all[0].err
			if all = all[1:]; req.Topics == nil && errors.Is(why, errLedAlready) {
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

func everyPartition(st *catalog.State) (topics []kmsg.ElectLeadersRequestTopic) {
	for _, t := range st.Topics() {
		all := kmsg.ElectLeadersRequestTopic{Topic: t.Name}
		for p := range t.Partitions {
			all.Partitions = append(all.Partitions, int32(p))
		}
		topics = append(topics, all)
	}
	return topics
}

// decide finds out who has to hand over to whom, or why nobody does.
func (s *Server) decide(st *catalog.State, e *election, t *catalog.Topic, err error, kind int8) {
	if e.err = hasPartition(t, e.tp.Partition, err); e.err != nil {
		return
	}
	e.to = t.Partitions[e.tp.Partition].Replicas[0]
	e.leader, _ = s.parts.Leader(t.Name, e.tp.Partition)
	n, _ := st.Node(e.to)
	switch {
	case e.leader >= 0 && (kind == uncleanElection || e.leader == e.to):
		e.err = fmt.Errorf("%w: node %d", errLedAlready, e.leader)
	case kind == uncleanElection:
		e.err = fmt.Errorf("%w: %s", errUnclean, e.tp)
	case e.leader < 0:
		e.err = fmt.Errorf("%w: %s has no leader that could hand over", errNotEligible, e.tp)
	case n.Draining:
		e.err = fmt.Errorf("%w: node %d of %s is being drained", errNotEligible, e.to, e.tp)
	case !s.peers.up(e.to):
		e.err = fmt.Errorf("%w: node %d of %s is not reached", errNotEligible, e.to, e.tp)
	}
}

// electing is how many partitions of this node hand over at a time.
const electing = 32

// elect has the leaders hand over: those that are here, and by one request each
// those at other nodes.
func (s *Server) elect(ctx context.Context, r *request, all []*election) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, electing)
	away := map[int32][]*election{}
	for _, e := range all {
		switch {
		case e.err != nil:
		case e.leader == s.cfg.Node:
			slots <- struct{}{}
			wg.Go(func() {
				e.err = s.handOver(ctx, e)
				<-slots
			})
		case r.peer:
			e.err = fmt.Errorf("%w: %s is led by node %d", record.ErrNotLeader, e.tp, e.leader)
		default:
			away[e.leader] = append(away[e.leader], e)
		}
	}
	for node, es := range away {
		wg.Go(func() { s.electAt(ctx, node, es) })
	}
}

// handOver lets another replica lead.
func (s *Server) handOver(ctx context.Context, e *election) error {
	p, err := s.parts.Partition(e.tp.Topic, e.tp.Partition)
	if err == nil {
		err = p.TransferTo(ctx, e.to)
	}
	if err != nil {
		return fmt.Errorf("%w: node %d of %s: %v", errNotEligible, e.to, e.tp, err)
	}
	return nil
}

// electAt asks another node to hand over what it leads.
func (s *Server) electAt(ctx context.Context, node int32, es []*election) {
	req := kmsg.NewPtrElectLeadersRequest()
	req.Version = electLeadersVersion
	for _, e := range es {
		t := kmsg.NewElectLeadersRequestTopic()
		t.Topic, t.Partitions = e.tp.Topic, []int32{e.tp.Partition}
		req.Topics = append(req.Topics, t)
	}
	got, err := askOf[*kmsg.ElectLeadersResponse](s.peers.ask(ctx, node, req))
	for i, e := range es {
		switch {
		case err != nil:
			e.err = fmt.Errorf("%w: %s: %v", errNotEligible, e.tp, err)
		case i >= len(got.Topics) || len(got.Topics[i].Partitions) != 1:
			e.err = fmt.Errorf("%w: %s: %w", errNotEligible, e.tp, errNoPeer)
		default:
			p := got.Topics[i].Partitions[0]
			if e.err = failure(p.ErrorCode); e.err != nil {
				e.err = fmt.Errorf("%w: %s", e.err, orEmpty(p.ErrorMessage))
			}
		}
	}
}
