package protocol

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
	all := map[string]map[int32]shareOffset{}
	add := func(topic string, p shareOffset) {
		if all[topic] == nil {
			all[topic] = map[int32]shareOffset{}
		}
		all[topic][p.Partition] = p
	}
	req := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
	if lag {
		req.Version = 1
	}
	req.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: group}}
	err := s.eachKeeper(ctx, func() error {
		here, err := s.shareOffsetsHere(ctx, group, lag)
		for topic, parts := range here {
			for _, p := range parts {
				add(topic, p)
			}
		}
		return err
	}, req, func(resp kmsg.Response) error {
		got, err := askOf[*kmsg.DescribeShareGroupOffsetsResponse](resp, nil)
		if err != nil || len(got.Groups) != 1 {
			return err
		}
		for _, t := range got.Groups[0].Topics {
			for _, p := range t.Partitions {
				add(t.Topic, p)
			}
		}
		return failure(got.Groups[0].ErrorCode)
	})
	return all, err
}

// eachKeeper asks this node and every other one that keeps states of share groups.
// It waits for those that are being elected, and asks all of them again when one
// moved meanwhile: both where it was and where it is may have left it out.
func (s *Server) eachKeeper(ctx context.Context, here func() error, req kmsg.Request, took func(kmsg.Response) error) error {
	election, cancel := context.WithTimeout(ctx, electionTime)
	defer cancel()
	for {
		keepers := s.shareKeepers(election)
		err := s.askKeepers(ctx, keepers, here, req, took)
		if err == nil && slices.Equal(keepers, s.shareKeepersNow()) {
			return nil
		}
		if err != nil && !movesOn(err) || !pause(election, shareRetry) {
			return cmp.Or(err, fmt.Errorf("%w: partitions of %s move all the time", errNoCoordinator, catalog.ShareStateTopic))
		}
	}
}

// leadership is who leads a partition; -1: nobody.
type leadership struct{ node, epoch int32 }

// shareKeepers are who leads the partitions of the states, when all are led or
// election ends.
func (s *Server) shareKeepers(election context.Context) []leadership {
	if t, ok := s.meta.State().Topic(catalog.ShareStateTopic); ok {
		for p := range t.Partitions {
			s.vacant.leader(election, catalog.ShareStateTopic, int32(p))
		}
	}
	return s.shareKeepersNow()
}

func (s *Server) shareKeepersNow() (all []leadership) {
	t, ok := s.meta.State().Topic(catalog.ShareStateTopic)
	if !ok {
		return nil
	}
	for p := range t.Partitions {
		node, epoch := s.parts.Leader(catalog.ShareStateTopic, int32(p))
		all = append(all, leadership{node, epoch})
	}
	return all
}

// askKeepers is eachKeeper once.
func (s *Server) askKeepers(ctx context.Context, keepers []leadership, here func() error, req kmsg.Request, took func(kmsg.Response) error) error {
	for p, k := range keepers {
		if k.node < 0 || !s.peers.up(k.node) {
			return fmt.Errorf("%w: nobody in reach leads partition %d of %s", errNoCoordinator, p, catalog.ShareStateTopic)
		}
	}
	if err := here(); err != nil {
		return err
	}
	var asked []int32
	for _, k := range keepers {
		if !s.peers.other(k.node) || slices.Contains(asked, k.node) {
			continue
		}
		asked = append(asked, k.node)
		resp, err := s.peers.ask(ctx, k.node, req)
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
	ids := map[string]bool{}
	req := kmsg.NewPtrListGroupsRequest()
	req.Version, req.TypesFilter = 5, []string{shareType}
	err := s.eachKeeper(ctx, func() error {
		here, err := s.shareGroupIDsHere(ctx)
		maps.Copy(ids, here)
		return err
	}, req, func(resp kmsg.Response) error {
		got, err := askOf[*kmsg.ListGroupsResponse](resp, nil)
		if err != nil {
			return err
		}
		for _, g := range got.Groups {
			ids[g.Group] = true
		}
		return failure(got.ErrorCode)
	})
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
