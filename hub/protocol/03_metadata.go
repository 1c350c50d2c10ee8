package protocol

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// Metadata: v0-13
//
// Behaviour:
//   - No list of topics is all of them, an empty one none (in v0, empty is all).
//   - Brokers are those of this site's nodes that can be reached from this one,
//     with the address that fits the listener the client came in on. The
//     controller is the one that answers: any node takes changes of the catalog
//     and passes them on to the one that leads it, as Kafka's brokers do (KIP-590).
//     So a client is not sent to a leader that this node does not know to be gone
//     yet; one that remembers the controller still waits for it when that is gone.
//   - Replicas of a partition on nodes that cannot be reached are offline; of the
//     others those are in sync that the leader says are, and until it has said so
//     all that are not new. While a partition is moved, those that come and go are among them.
//   - Topics that do not exist are created when both the request (v4+; before,
//     always) and Config.AutoCreate want it. The answer that creates one says
//     LEADER_NOT_AVAILABLE, the next one tells of it.
//
// Version notes:
//   - v1: null topics, rack, controller, internal; v2: cluster ID
//   - v4: auto creation asked for; v5: offline replicas; v7: leader epochs
//   - v8-10: authorised operations; v9: flexible; v10: topic IDs; v12: asked for
//     by ID; v13: error of the whole
var metadataAPI = api{
	key: 3, name: "Metadata", min: 0, max: 13,
	shape: body(9, array(fixed(16).from(10), str()),
		fixed(1).from(4), fixed(1).from(8).to(10), fixed(1).from(8)),
	needs:  needs(on(catalog.OpDescribe, catalog.ResourceTopic)),
	handle: plain[kmsg.MetadataRequest]((*Server).metadata),
}

func (s *Server) metadata(ctx context.Context, r *request, req *kmsg.MetadataRequest) kmsg.Response {
	resp := kmsg.NewPtrMetadataResponse()
	resp.ClusterID, resp.ControllerID = &s.cfg.ClusterID, s.cfg.Node
	if req.IncludeClusterAuthorizedOperations {
		resp.AuthorizedOperations = s.siteOperations(r)
	}
	if req.Topics == nil || req.Version == 0 && len(req.Topics) == 0 {
		for _, t := range s.visible(r, s.meta.State().Topics()) {
			resp.Topics = append(resp.Topics, s.describeTopic(r, req, t))
		}
	}
	for i := range req.Topics {
		resp.Topics = append(resp.Topics, s.metadataTopic(ctx, r, req, &req.Topics[i]))
	}
	for _, n := range s.brokers(r, func(node int32) bool { return leadsIn(resp, node) }) {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Rack = n.ID, rack(n)
		b.Host, b.Port = s.advertised(r, n)
		resp.Brokers = append(resp.Brokers, b)
	}
	return resp
}

func rack(n catalog.Node) *string { return nonEmpty(n.Rack) }

// metadataTopic answers for one topic that was asked for.
func (s *Server) metadataTopic(ctx context.Context, r *request, req *kmsg.MetadataRequest, rt *kmsg.MetadataRequestTopic) kmsg.MetadataResponseTopic {
	t, err := s.metadataFind(ctx, r, req, rt)
	if err == nil {
		return s.describeTopic(r, req, t)
	}
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.ErrorCode = rt.Topic, rt.TopicID, code(err)
	if out.Topic == nil && req.Version < 12 {
		out.Topic = new(string)
	}
	return out
}

func (s *Server) metadataFind(ctx context.Context, r *request, req *kmsg.MetadataRequest, rt *kmsg.MetadataRequestTopic) (*catalog.Topic, error) {
	byID := !record.TopicID(rt.TopicID).IsZero()
	switch {
	case byID && req.Version < 12:
		return nil, fmt.Errorf("%w: topics are asked for by ID from version 12 on", record.ErrInvalidRequest)
	case !byID && rt.Topic == nil:
		return nil, fmt.Errorf("%w: a topic without a name and an ID", record.ErrInvalidRequest)
	}
	t, err := s.findFor(r, catalog.OpDescribe, s.meta.State(), byID, orEmpty(rt.Topic), rt.TopicID)
	if byID && errors.Is(err, errTopicDenied) {
		err = fmt.Errorf("%w: %s", record.ErrUnknownTopicID, record.TopicID(rt.TopicID))
	}
	if err == nil || byID || errors.Is(err, errTopicDenied) {
		return t, err
	}
	if err := record.CheckTopicName(*rt.Topic); err != nil {
		return nil, err
	}
	if !s.cfg.AutoCreate || req.Version >= 4 && !req.AllowAutoTopicCreation {
		return nil, err
	}
	if err := s.mayCreate(r, *rt.Topic); err != nil {
		return nil, err
	}
	return nil, s.autoCreate(ctx, r, *rt.Topic)
}

// autoCreate creates a topic, and says so by the error that makes the client
// ask again, as Kafka does: a client that looks whether a topic is gone must
// not be told of the one that its question has made.
func (s *Server) autoCreate(ctx context.Context, r *request, name string) error {
	cmd, err := s.newTopic(name, -1, -1)
	if err != nil {
		return err
	}
	switch _, err := s.meta.Propose(ctx, cmd); {
	case err == nil:
		s.mutated(r, int(cmd.Partitions))
	case !errors.Is(err, record.ErrTopicExists):
		return err
	}
	return fmt.Errorf("%w: topic %q was created just now", record.ErrLeaderUnknown, name)
}

// describeTopic is a topic with where its partitions are.
func (s *Server) describeTopic(r *request, req *kmsg.MetadataRequest, t *catalog.Topic) kmsg.MetadataResponseTopic {
	out := kmsg.NewMetadataResponseTopic()
	out.Topic, out.TopicID, out.IsInternal = &t.Name, t.ID, isInternal(t.Name)
	if req.IncludeTopicAuthorizedOperations {
		out.AuthorizedOperations = s.operations(r, catalog.ResourceTopic, t.Name)
	}
	out.Partitions = make([]kmsg.MetadataResponseTopicPartition, 0, len(t.Partitions))
	for i := range t.Partitions {
		op := kmsg.NewMetadataResponseTopicPartition()
		op.Partition = int32(i)
		op.Leader, op.LeaderEpoch = s.parts.Leader(t.Name, op.Partition)
		if op.Leader < 0 {
			op.ErrorCode = code(record.ErrLeaderUnknown)
		}
		op.Replicas, op.ISR, op.OfflineReplicas = s.replicas(t, int32(i))
		out.Partitions = append(out.Partitions, op)
	}
	return out
}

// isInternal is Kafka's sense of the word: topics that clients cannot produce
// to, and that consumers of a pattern leave out.
func isInternal(topic string) bool {
	return topic == catalog.OffsetsTopic || topic == catalog.TransactionsTopic || topic == catalog.ShareStateTopic
}
