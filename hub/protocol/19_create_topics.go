package protocol

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/record"
)

// CreateTopics: v2-7
//
// Behaviour:
//   - -1 partitions or replicas are Config's defaults: of replicas, three where the
//     site has as many nodes, else one. Assignments are taken as they are.
//   - ValidateOnly goes as far as the catalog's own checks and changes nothing.
//
// Version notes:
//   - v5: flexible; answers with partitions, replicas and settings (KIP-525)
//   - v6: THROTTLING_QUOTA_EXCEEDED (KIP-599)
//   - v7: topic ID
var createTopicsAPI = api{
	key: 19, name: "CreateTopics", min: 2, max: 7,
	shape: body(5, array(str(), fixed(4), fixed(2),
		array(fixed(4), list(fixed(4))), array(str(), str())), fixed(4), fixed(1)),
	needs:  needs(on(catalog.OpCreate, catalog.ResourceCluster, catalog.ResourceTopic)),
	handle: plain[kmsg.CreateTopicsRequest]((*Server).createTopics),
}

func (s *Server) createTopics(ctx context.Context, r *request, req *kmsg.CreateTopicsRequest) kmsg.Response {
	ctx, cancel := adminTimeout(ctx, req.TimeoutMillis)
	defer cancel()
	resp := kmsg.NewPtrCreateTopicsResponse()
	times := map[string]int{}
	for i := range req.Topics {
		times[req.Topics[i].Topic]++
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		ot := kmsg.NewCreateTopicsResponseTopic()
		ot.Topic = rt.Topic
		var t *catalog.Topic
		err := fmt.Errorf("%w: topic %q", errDuplicate, rt.Topic)
		if denied := s.mayCreate(r, rt.Topic); denied != nil {
			err = denied
		} else if times[rt.Topic] == 1 {
			t, err = s.createTopic(ctx, r, rt, req.ValidateOnly)
		}
		if err != nil {
			ot.ErrorCode, ot.ErrorMessage = code(err), message(err)
			ot.NumPartitions, ot.ReplicationFactor = -1, -1
		} else {
			describeCreated(&ot, t)
		}
		resp.Topics = append(resp.Topics, ot)
	}
	return resp
}

func (s *Server) createTopic(ctx context.Context, r *request, rt *kmsg.CreateTopicsRequestTopic, validate bool) (*catalog.Topic, error) {
	cmd, err := s.newTopic(rt.Topic, rt.NumPartitions, int32(rt.ReplicationFactor))
	if err != nil {
		return nil, err
	}
	if cmd.Assignment, err = assignment(rt); err != nil {
		return nil, err
	}
	cmd.Config = map[string]string{}
	for _, c := range rt.Configs {
		if c.Value == nil {
			return nil, fmt.Errorf("%w: %s of topic %q has no value", record.ErrInvalidConfig, c.Name, rt.Topic)
		}
		cmd.Config[c.Name] = *c.Value
	}
	if err := s.mayMutate(r, r.version >= 6); err != nil {
		return nil, err
	}
	made, end := s.meta.Expect(cmd.ID)
	defer end()
	t, err := topicResult(s.change(ctx, cmd, validate))
	for errors.Is(err, record.ErrTimeout) && !validate && ctx.Err() == nil {
		var again bool
		if t, again, err = s.whatCameOf(ctx, cmd, made, err); again {
			t, err = topicResult(s.meta.Propose(ctx, cmd))
		}
	}
	if err == nil && !validate {
		s.mutated(r, len(t.Partitions))
	}
	return t, err
}

// whatCameOf finds out what became of a topic when the catalog's leader is gone
// that was asked for it. Once this node's catalog is as new as the site's, a command
// that was not applied by then never will be, and may be proposed again. If the topic
// was made, and somebody has deleted it since, it must not be made again.
func (s *Server) whatCameOf(ctx context.Context, cmd catalog.CreateTopic, made func() (*catalog.Topic, bool), why error) (t *catalog.Topic, again bool, err error) {
	if err := catchUp(ctx, s.meta); err != nil {
		return nil, false, err
	}
	if t, ok := s.meta.State().TopicByID(cmd.ID); ok {
		return t, false, nil
	}
	t, sure := made()
	switch {
	case t != nil:
		return t, false, nil
	case !sure:
		return nil, false, why
	}
	return nil, true, nil
}

// newTopic is the command for a topic; -1 is the default.
func (s *Server) newTopic(name string, partitions, replicas int32) (catalog.CreateTopic, error) {
	if partitions == -1 {
		partitions = s.cfg.Partitions
	}
	if replicas == -1 {
		replicas = s.defaultReplicas()
	}
	id, err := record.NewTopicID(s.cfg.Rand)
	return catalog.CreateTopic{
		Name: name, ID: id, Partitions: partitions, Replicas: replicas, Created: s.cfg.Clock().UnixMilli(),
	}, err
}

// defaultReplicas is for topics that are created without a number.
func (s *Server) defaultReplicas() int32 {
	if s.cfg.Replicas > 0 {
		return s.cfg.Replicas
	}
	return enoughReplicas(s.meta.State())
}

// enoughReplicas outlive the loss of any one node, if the site has three.
func enoughReplicas(st *catalog.State) int32 { return int32(st.DefaultReplicas(3)) }

// assignment puts the replicas of a request in the order of the partitions.
func assignment(rt *kmsg.CreateTopicsRequestTopic) ([][]int32, error) {
	if len(rt.ReplicaAssignment) == 0 {
		return nil, nil
	}
	if rt.NumPartitions != -1 || rt.ReplicationFactor != -1 {
		return nil, fmt.Errorf("%w: topic %q has an assignment, then its numbers must be -1", record.ErrInvalidRequest, rt.Topic)
	}
	all := make([][]int32, len(rt.ReplicaAssignment))
	for _, a := range rt.ReplicaAssignment {
		if a.Partition < 0 || int(a.Partition) >= len(all) || all[a.Partition] != nil {
			return nil, fmt.Errorf("%w: topic %q: %d partitions are assigned, partition %d is twice there or none of them", record.ErrInvalidReplicas, rt.Topic, len(all), a.Partition)
		}
		all[a.Partition] = slices.Concat([]int32{}, a.Replicas)
	}
	return all, nil
}

// change proposes a command, or with validate only sees what would come of it.
func (s *Server) change(ctx context.Context, cmd catalog.Command, validate bool) (any, error) {
	if validate {
		_, result, err := s.meta.State().Apply(cmd)
		return result, err
	}
	return s.meta.Propose(ctx, cmd)
}

func topicResult(v any, err error) (*catalog.Topic, error) {
	if err != nil {
		return nil, err
	}
	t, ok := v.(*catalog.Topic)
	if !ok {
		return nil, fmt.Errorf("the catalog answered %T, want a topic", v)
	}
	return t, nil
}

func describeCreated(ot *kmsg.CreateTopicsResponseTopic, t *catalog.Topic) {
	ot.TopicID = t.ID
	ot.NumPartitions = int32(len(t.Partitions))
	ot.ReplicationFactor = int16(min(len(t.Partitions[0].Replicas), math.MaxInt16))
	for _, k := range catalog.Keys() {
		v := t.Value(k.Name)
		_, set := t.Config[k.Name]
		ot.Configs = append(ot.Configs, kmsg.CreateTopicsResponseTopicConfig{
			Name: k.Name, Value: &v, Source: int8(source(set)),
		})
	}
}

// adminTimeout is the time that a client gives a change of the catalog.
func adminTimeout(ctx context.Context, ms int32) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, max(time.Duration(ms)*time.Millisecond, time.Second))
}
