package protocol

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/entrepot-hub/entrepot/hub/catalog"
	"github.com/entrepot-hub/entrepot/hub/share"
)

// What share groups have in all of the site, for who lists, describes or changes
// it: states are at whatever node leads them.

// shareOffset is where a group is in a partition.
type shareOffset = kmsg.DescribeShareGroupOffsetsResponseGroupTopicPartition

// shareOffsetsHere are those of a group that this node keeps, by topic. The lag,
// for which leaders of the partitions are asked, is in them if it is wanted.
func (s *Server) shareOffsetsHere(ctx context.Context, group string, lag bool) (map[string]map[int32]shareOffset, error) {
	type progress struct{ start, done int64 }
	kept := map[shareKey]progress{}
	err := s.shares.each(ctx, func(k shareKey, w *share.Window) {
		if k.group == group {
			kept[k] = progress{w.Start(), w.Done()}
		}
	})
	all := map[string]map[int32]shareOffset{}
	st := s.meta.State()
	for k, at := range kept {
		t, ok := st.TopicByID(k.topic)
		if !ok {
			continue
		}
		o := kmsg.NewDescribeShareGroupOffsetsResponseGroupTopicPartition()
		o.Partition, o.StartOffset, o.Lag = k.partition, at.start, -1
		if node, epoch := s.parts.Leader(t.Name, k.partition); node >= 0 {
			o.LeaderEpoch = epoch
		}
		if lag {
			if end, err := s.end(ctx, t, k.partition, timeLatest); err == nil {
				o.Lag = max(0, end-at.start-at.done)
			}
		}
		if all[t.Name] == nil {
			all[t.Name] = map[int32]shareOffset{}
		}
		all[t.Name][k.partition] = o
	}
	return all, err
}

// shareOffsetsOf are those of a group that any node keeps, by topic.
func (s *Server) shareOffsetsOf(ctx context.Context, group string, lag bool) (map[string]map[int32]shareOffset, error) {
	all, err := s.shareOffsetsHere(ctx, group, lag)
	req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	if lag {
		req.Version = 1
	}
	req.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: group}}
	if err == nil {
		err = s.eachKeeper(ctx, req, func(resp kmsg.Response) error {
			got, err := askOf[*kmsg.DescribeShareGroupOffsetsResponse](resp, nil)
			if err != nil || len(got.Groups) != 1 {
				return err
			}
			for _, t := range got.Groups[0].Topics {
				if all[t.Topic] == nil {
					all[t.Topic] = map[int32]shareOffset{}
				}
				for _, p := range t.Partitions {
					all[t.Topic][p.Partition] = p
				}
			}
			return failure(got.Groups[0].ErrorCode)
		})
	}
	return all, err
}

// eachKeeper asks every other node that keeps states of share groups.
func (s *Server) eachKeeper(ctx context.Context, req kmsg.Request, took func(kmsg.Response) error) error {
	t, ok := s.meta.State().Topic(catalog.ShareStateTopic)
	if !ok {
		return nil
	}
	var nodes []int32
	for p := range t.Partitions {
		node, _ := s.parts.Leader(catalog.ShareStateTopic, int32(p))
		switch {
		case node < 0:
			return fmt.Errorf("%w: nobody leads partition %d of %s", errNoCoordinator, p, catalog.ShareStateTopic)
		case s.peers.other(node) && !slices.Contains(nodes, node):
			nodes = append(nodes, node)
		}
	}
	for _, node := range nodes {
		resp, err := s.peers.ask(ctx, node, req)
		if err == nil {
			err = took(resp)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keepsShare reports whether a group has offsets as a share group.
func (s *Server) keepsShare(ctx context.Context, group string) (bool, error) {
	all, err := s.shareOffsetsOf(ctx, group, false)
	return len(all) > 0, err
}

// shareGroupIDsHere are the groups that have offsets at this node.
func (s *Server) shareGroupIDsHere(ctx context.Context) (map[string]bool, error) {
	ids := map[string]bool{}
	err := s.shares.each(ctx, func(k shareKey, _ *share.Window) { ids[k.group] = true })
	return ids, err
}

// shareGroupIDs are the groups that have offsets at any node.
func (s *Server) shareGroupIDs(ctx context.Context) (map[string]bool, error) {
	ids, err := s.shareGroupIDsHere(ctx)
	req := kmsg.NewPtrListGroupsRequest()
	req.Version, req.TypesFilter = 5, []string{shareType}
	if err == nil {
		err = s.eachKeeper(ctx, req, func(resp kmsg.Response) error {
			got, err := askOf[*kmsg.ListGroupsResponse](resp, nil)
			if err != nil {
				return err
			}
			for _, g := range got.Groups {
				ids[g.Group] = true
			}
			return failure(got.ErrorCode)
		})
	}
	return ids, err
}

// resetShare puts a partition's start where an operator wants it, durably.
func (s *Server) resetShare(ctx context.Context, k shareKey, offset int64) error {
	found, err := s.states.look(ctx, k, -1)
	if err != nil {
		return err
	}
	epoch := found.epoch
	if found.there {
		epoch++
	}
	if err := s.states.begin(ctx, k, epoch, offset); err != nil {
		return err
	}
	s.dropWindow(k, func(node int32) error { return s.states.beginAt(ctx, node, k, epoch, offset) })
	return nil
}

// forgetShare removes what a group has of a topic, durably; "": of all. It tells
// how much there was.
func (s *Server) forgetShare(ctx context.Context, group, topic string) (n int, err error) {
	all, err := s.shareOffsetsOf(ctx, group, false)
	if err != nil {
		return 0, err
	}
	st := s.meta.State()
	for name, parts := range all {
		t, ok := st.Topic(name)
		if !ok || topic != "" && topic != name {
			continue
		}
		for p := range parts {
			k := shareKey{group, t.ID, p}
			if err := s.states.remove(ctx, k); err != nil {
				return n, err
			}
			n++
			s.dropWindow(k, func(node int32) error { return s.states.removeAt(ctx, node, k) })
		}
	}
	return n, nil
}

// dropWindow has the leader of a partition read a state anew, which was changed
// past it. One that does not hear of it is refused when it next writes.
func (s *Server) dropWindow(k shareKey, tell func(node int32) error) {
	s.windows.forget(k)
	if t, ok := s.meta.State().TopicByID(k.topic); ok {
		if node, _ := s.parts.Leader(t.Name, k.partition); s.peers.other(node) {
			_ = tell(node) // it answers that it does not keep the state
		}
	}
}

// end is a partition's first offset or the one that comes next (timeEarliest,
// timeLatest), as its leader tells it.
func (s *Server) end(ctx context.Context, t *catalog.Topic, p int32, time int64) (int64, error) {
	node, _ := s.parts.Leader(t.Name, p)
	if !s.peers.other(node) {
		log, err := s.serving(t, p)
		if err != nil {
			return 0, err
		}
		o := log.Offsets()
		if time == timeEarliest {
			return o.Start, nil
		}
		return o.HighWatermark, nil
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.Version, req.ReplicaID = 11, -1
	one := kmsg.NewListOffsetsRequestTopicPartition()
	one.Partition, one.Timestamp = p, time
	req.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: t.Name, Partitions: []kmsg.ListOffsetsRequestTopicPartition{one}}}
	got, err := askOf[*kmsg.ListOffsetsResponse](s.peers.ask(ctx, node, req))
	switch {
	case err != nil:
		return 0, err
	case len(got.Topics) != 1 || len(got.Topics[0].Partitions) != 1:
		return 0, errOutcome(node)
	}
	found := got.Topics[0].Partitions[0]
	return found.Offset, failure(found.ErrorCode)
}
